"""Verifiers: what they find, and the pool that keeps them from hurting anybody."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import psutil
import pytest

from judges.records import Parser, Verdict
from judges.verifiers import MAX_ANSWER_CHARACTERS, verify, versioned
from judges.verifiers.pool import TRIES, Pool
from teachers.errors import VerifierError
from teachers.prompting import tasks
from teachers.records import Prompt, Sample

# More processor time than a worker takes to start.
START_CPU_S = 2.0
HANGS = "Answer: 5^(5^(5^(5^5)))"


def state(answer: str, reference: str | None, verifier: str = "number") -> str:
    return verify(f"Answer: {answer}", verifier, "strict", reference, {}).state


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("19", "19"),
        ("19.", "19"),
        ("19.0", "19"),
        ("-19", "-19"),
        ("1,234.0", "1234"),
        ("1234", "1,234"),
        ("$1,234.50", "1234.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"$\frac{1}{2}$", "1/2"),
        (r"\frac12", "1/2"),
        ("1/2", "0.5"),
        ("50%", "0.5"),
        ("50%", "50"),
        (r"\sqrt{4}", "2"),
        ("2^3", "8"),
        ("12 + 7", "19"),
        ("19 apples", "19"),
    ],
)
def test_equal_numbers_are_verified(answer: str, reference: str) -> None:
    assert state(answer, reference) == "verified"


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("20", "19", "refuted"),
        ("-19", "19", "refuted"),
        ("1.234", "1234", "refuted"),
        ("0.333", "1/3", "refuted"),
        ("Peter", "19", "unparsed"),
        ("19", None, "not_applicable"),
        ("19", "Peter", "not_applicable"),
        ("1" * (MAX_ANSWER_CHARACTERS + 1), "1", "unparsed"),
    ],
)
def test_a_number_that_cannot_be_checked_is_not_wrong(
    answer: str, reference: str | None, wanted: str
) -> None:
    assert state(answer, reference) == wanted


def test_exact_compares_up_to_case_width_and_spaces() -> None:
    assert state("  \N{FULLWIDTH LATIN CAPITAL LETTER P}eter   pan ", "peter Pan", "exact") == (
        "verified"
    )
    assert state("Peter Pan!", "Peter Pan", "exact") == "refuted"
    assert state("Peter", None, "exact") == "not_applicable"


@pytest.mark.parametrize("generator", ["chain_sum", "needle_haystack", "number_sorting"])
def test_reasoning_gym_takes_its_own_answers(generator: str) -> None:
    prompt = next(tasks.generate(generator, {}, seed=3))
    assert prompt.reference is not None
    forms: dict[Parser, str] = {
        "strict": f"Answer: {prompt.reference}",
        "lenient": f"The answer is **{prompt.reference}**.",
    }
    for parser, text in forms.items():
        found = verify(text, "reasoning_gym", parser, prompt.reference, prompt.entry)
        assert found.state == "verified", found
    wrong = verify("Answer: nonsense", "reasoning_gym", "strict", prompt.reference, prompt.entry)
    assert wrong.state == "refuted"
    alien = verify("Answer: 1", "reasoning_gym", "strict", "1", {})
    assert alien.state == "not_applicable"


def test_a_verifiers_own_bug_is_an_error_and_not_a_refutation() -> None:
    broken = {"metadata": {"source_dataset": "no such dataset"}}
    found = verify("Answer: 1", "reasoning_gym", "strict", "2", broken)
    assert found.state == "error"
    assert not found.decided
    assert found.answer == "1"


def test_the_answer_that_was_read_is_kept() -> None:
    assert verify("The answer is 19 cats.", "number", "lenient", "19", {}).answer == "19 cats"
    assert verify("no idea", "number", "lenient", "19", {}).answer is None


def test_an_unknown_verifier_is_named_with_those_that_exist() -> None:
    with pytest.raises(VerifierError, match="no verifier 'numbr'") as unknown:
        versioned("numbr")
    assert "number" in unknown.value.hint


# --- The pool -----------------------------------------------------------------------------------


def job(text: str, reference: str = "19", verifier: str = "number") -> tuple[Sample, Prompt]:
    prompt = Prompt(task="t", question="q", reference=reference, verifier=verifier)
    call_id = f"{text} {reference}"
    return Sample(call_id=call_id, position=0, text=text, finish_reason="stop"), prompt


async def ask(pool: Pool, text: str, reference: str = "19", verifier: str = "number") -> Verdict:
    return await pool.verify(*job(text, reference, verifier), "strict")


def workers(parent: int | None = None) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "judges.verifiers.worker" in child.cmdline()
    ]


def with_pool(
    use: Callable[[Pool], Awaitable[None]], workers_: int = 1, deadline_s: float = 30.0
) -> None:
    async def run() -> None:
        async with Pool(workers_, deadline_s) as pool:
            await use(pool)
        assert workers() == []

    asyncio.run(run())


def test_an_input_that_hangs_is_a_timeout_and_the_pool_goes_on() -> None:
    async def use(pool: Pool) -> None:
        hung = await ask(pool, HANGS)
        assert hung.state == "timeout"
        assert hung.reason == "no result within 1.5 s"
        assert (await ask(pool, "Answer: 19")).state == "verified"

    with_pool(use, deadline_s=1.5)


def test_answers_are_not_mixed_up() -> None:
    async def use(pool: Pool) -> None:
        numbers = range(60)
        verdicts = await asyncio.gather(
            *(ask(pool, f"Answer: {n}", str(n if n % 3 else n + 1)) for n in numbers)
        )
        for n, verdict in zip(numbers, verdicts, strict=True):
            assert verdict.answer == str(n)
            assert verdict.state == ("verified" if n % 3 else "refuted")
            assert verdict.verifier == "number/1"
        assert len(workers()) == 2

    with_pool(use, workers_=2)


def test_a_job_that_is_cancelled_does_not_answer_the_next_one() -> None:
    async def use(pool: Pool) -> None:
        await ask(pool, "Answer: 19")
        waiting = asyncio.create_task(ask(pool, HANGS))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await ask(pool, "Answer: 20")).answer == "20"

    with_pool(use)


@pytest.mark.fault
def test_a_worker_that_is_killed_is_replaced_and_its_job_done_again() -> None:
    async def use(pool: Pool) -> None:
        await ask(pool, "Answer: 19")
        (first,) = workers()
        first.kill()  # between jobs
        assert (await ask(pool, "Answer: 19")).state == "verified"
        (second,) = workers()
        assert second.pid != first.pid
        second.suspend()
        asked = asyncio.create_task(ask(pool, "Answer: 20"))
        await asyncio.sleep(0.2)
        second.kill()  # in the middle of one
        assert (await asked).state == "refuted"

    with_pool(use)


@pytest.mark.fault
def test_a_job_whose_workers_all_die_is_an_error() -> None:
    async def use(pool: Pool) -> None:
        asked = asyncio.create_task(ask(pool, HANGS))
        killed: set[int] = set()
        while len(killed) < TRIES:
            await asyncio.sleep(0.05)
            for worker in workers():
                if worker.pid not in killed and worker.cpu_times().user > START_CPU_S:
                    worker.kill()
                    killed.add(worker.pid)
        assert (await asked).state == "error"
        assert (await ask(pool, "Answer: 19")).state == "verified"

    with_pool(use)


def test_an_unknown_verifier_is_refused_before_anything_starts() -> None:
    async def use(pool: Pool) -> None:
        with pytest.raises(VerifierError, match="no verifier 'psychic'"):
            await ask(pool, "Answer: 19", verifier="psychic")
        assert workers() == []

    with_pool(use)


@pytest.mark.fault
def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    program = """if True:
        import asyncio
        from tests.test_verifiers import HANGS, Pool, ask
        async def main():
            async with Pool(1, 60) as pool:
                await ask(pool, "Answer: 19")
                print("up", flush=True)
                await ask(pool, HANGS)
        asyncio.run(main())"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == "up\n"
        (worker,) = workers(parent.pid)
        time.sleep(0.3)  # it is busy, so a closed pipe alone would not end it
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert psutil.wait_procs([worker], timeout=5)[1] == []


def test_no_key_reaches_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", "secret")

    async def use(pool: Pool) -> None:
        await ask(pool, "Answer: 19")
        (worker,) = workers()
        assert "SOMEBODYS_API_KEY" not in worker.environ()

    with_pool(use)
    assert os.environ["SOMEBODYS_API_KEY"] == "secret"
