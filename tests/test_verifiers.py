"""Verifiers: what they find, and the pool that keeps them from hurting anybody."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from judges.records import Parser, Verdict
from judges.verifiers import MAX_ANSWER_CHARACTERS, verify, versioned
from judges.verifiers.pool import TRIES, Pool
from teachers.errors import VerifierError
from teachers.prompting import tasks
from teachers.records import Prompt, Sample
from tests.poison import POISONS, Poison

# More processor time than a worker takes to start.
START_CPU_S = 2.0
HANGS = "Answer: $1000000000!$"


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


@pytest.mark.parametrize("parser", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("3 or 4", "34"),
        ("either 3 or 4", "34"),
        ("3, or maybe 4", "34"),
        ("3 (or 4)", "34"),
        ("**3** or **4**", "34"),
        ("$3$ or $4$", "34"),
        (r"3 \text{ or } 4", "34"),
        ("3 apples or 4 apples", "34"),
        ("3 or four", "34"),
        ("3, 4", "34"),
        ("3 and 4", "34"),
        ("between 3 and 4", "34"),
        ("3, 4 or 5", "345"),
        ("x = 3 or x = 4", "34"),
        ("therefore 3 or 4", "34"),
    ],
)
def test_an_answer_that_leaves_open_which_number_it_is_is_not_read(
    answer: str, values: str, parser: Parser
) -> None:
    for value in values:
        found = verify(f"Answer: {answer}", "number", parser, value, {})
        assert (found.state, "leaves open whether" in found.reason) == ("unparsed", True)
        assert verify(f"Answer: {answer}", "math", parser, value, {}).state != "verified"
        assert verify(f"Answer: {answer}", "exact", parser, value, {}).state != "verified"


@pytest.mark.parametrize(
    "text", ["It is 3 or 4.", "x = 3 or x = 4\nBoth work.", "So it is $3$ or $4$."]
)
def test_nor_is_one_that_nothing_marks(text: str) -> None:
    for value in "34":
        assert verify(text, "number", "lenient", value, {}).state == "unparsed"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("3 = 3.0", "3"),
        ("3 or 3.0", "3"),
        ("3 or three", "3"),
        ("1,000 or 1000", "1000"),
        ("50% or 1/2", "0.5"),
        (r"$\frac{1}{2}$ or $0.5$", "1/2"),
        ("2/3 or 0.67", "2/3"),
        ("3 or so", "3"),
        ("19, because 2 or 3 would be too few", "19"),
        ("19, 5 more than 14", "19"),
        ("3 or 4", "3 or 4"),
    ],
)
def test_a_number_may_be_stated_twice(answer: str, reference: str) -> None:
    assert verify(f"Answer: {answer}", "number", "lenient", reference, {}).state == "verified"


def test_two_solutions_are_not_one_of_them() -> None:
    for reference in ("3", "-3"):
        assert state("x = 3 or -3", reference) == "unparsed"
    for solutions in ("x=3 or x=-3", r"\{-3, 3\}"):
        assert state("x = 3 or x = -3", solutions, "math") == "verified"


@pytest.mark.parametrize("verifier", ["number", "math"])
@pytest.mark.parametrize(
    "power", ["9**9**9**9", "9^{9^{9^9}}", "10^{100000000}", r"2^{9 \cdot 10^9}", "(1/2)^(10^7)"]
)
def test_a_power_that_nobody_could_work_out_is_refused_by_its_form(
    power: str, verifier: str
) -> None:
    began = time.process_time()
    found = verify(f"Answer: {power}", verifier, "strict", "19", {})
    assert (found.state, "too large to work out" in found.reason) == ("unparsed", True)
    assert state("19", power, verifier) == "not_applicable"
    assert time.process_time() - began < 1.0
    assert state("2^10", "1024", verifier) == "verified"


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
            assert verdict.verifier == "number/2"
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
@pytest.mark.parametrize("rule", ["leaves", "novel"])
def test_a_rule_that_ends_its_process_or_floods_us_is_an_error(rule: str) -> None:
    async def use(pool: Pool) -> None:
        said = await asyncio.gather(
            *(pool.check(f"{n}", f"tests.their_rules:{rule}") for n in range(2)),
            pool.check("Answer: 19", "exact", reference="19"),
        )
        assert [one.state for one in said] == ["error", "error", "verified"]
        assert said[0].reason == f"the verifier's process died {TRIES} times"

    with_pool(use)


def test_memory_files_and_prints_of_a_rule_are_bounded(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        hungry = await pool.check("", "tests.their_rules:hungry")
        assert (hungry.state, hungry.reason) == ("error", "MemoryError: ")
        full = await pool.check(str(tmp_path / "big"), "tests.their_rules:fills")
        assert full.state == "error"
        assert "File too large" in full.reason
        assert (await pool.check("", "tests.their_rules:prints")).state == "refuted"
        assert (await pool.check("", "tests.their_rules:mojibake")).state == "error"
        assert len(workers()) == 1

    with_pool(use)


def test_what_a_rule_has_started_is_killed_with_it(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        said = await pool.check(str(tmp_path / "pid"), "tests.their_rules:breeds")
        assert said.state == "timeout"

    with_pool(use, deadline_s=1.0)
    child = int((tmp_path / "pid").read_text())
    gone = not psutil.pid_exists(child) or (psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert gone


def test_a_job_that_hangs_holds_up_nobody_beside_it_and_those_behind_it_not_for_long() -> None:
    async def use(pool: Pool) -> None:
        await asyncio.gather(*(pool.check("0", "tests.their_rules:nap") for _ in range(8)))
        assert len(workers()) == 2
        began = time.monotonic()
        hung = asyncio.create_task(pool.check("600", "tests.their_rules:nap"))
        await asyncio.sleep(0.1)
        beside = [pool.check("0.01", "tests.their_rules:nap") for _ in range(20)]
        assert {one.state for one in await asyncio.gather(*beside)} == {"verified"}
        assert time.monotonic() - began < 2.5
        assert (await hung).state == "timeout"
        # Handed to one worker together: the second hangs, the others get their verdicts.
        texts = ["0", "600", "0", "0", "0", "0", "0", "0"]
        said = await asyncio.gather(*(pool.check(t, "tests.their_rules:nap") for t in texts))
        assert [one.state for one in said] == ["verified", "timeout"] + 6 * ["verified"]

    with_pool(use, workers_=2, deadline_s=3.0)


def test_workers_work_at_the_same_time() -> None:
    async def use(pool: Pool) -> None:
        await asyncio.gather(*(pool.check("0.2", "tests.their_rules:nap") for _ in range(2)))
        began = time.monotonic()
        await asyncio.gather(*(pool.check("0.8", "tests.their_rules:nap") for _ in range(2)))
        assert 0.8 <= time.monotonic() - began < 1.5

    with_pool(use, workers_=2)


def test_each_verifier_has_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with Pool() as pool:
            said = await pool.check("600", "tests.their_rules:nap")
        assert (said.state, said.reason) == ("timeout", "no result within 0.7 s")

    monkeypatch.setattr("tests.their_rules.DEADLINE_S", 0.7, raising=False)
    asyncio.run(run())


def test_what_cannot_be_handed_over_is_an_error() -> None:
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]

    async def use(pool: Pool) -> None:
        for entry in ({"deep": nested}, {"set": {1, 2}}):
            assert (await pool.check("a", "length", entry=entry)).state == "error"

    with_pool(use)


def test_jobs_that_are_given_up_while_they_wait_cost_nothing() -> None:
    async def use(pool: Pool) -> None:
        await pool.check("0", "tests.their_rules:nap")
        (worker,) = workers()
        asked = [asyncio.create_task(pool.check("0.3", "tests.their_rules:nap")) for _ in range(30)]
        await asyncio.sleep(0.1)
        for waiting in asked[8:]:
            waiting.cancel()
        assert all(one.state == "verified" for one in await asyncio.gather(*asked[:8]))
        assert (await pool.check("0", "tests.their_rules:nap")).state == "verified"
        assert workers() == [worker]

    with_pool(use)


def test_a_pool_that_closes_lets_nobody_wait() -> None:
    async def run() -> None:
        async with Pool(1) as pool:
            asked = [
                asyncio.create_task(pool.check("600", "tests.their_rules:nap")) for _ in range(20)
            ]
            await asyncio.sleep(0.5)
        said = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
        assert all(isinstance(one, asyncio.CancelledError) for one in said)
        assert workers() == []

    asyncio.run(run())


async def endure(poisons: list[Poison], limit_s: float) -> None:
    """Each ends within the limit and a second, as a state, and the worker after it is well."""
    async with Pool(1, limit_s) as pool:
        for poison in poisons:
            await pool.check("Answer: 1", poison.verifier)  # a worker that has loaded the rule
            began = time.monotonic()
            said = await pool.check(
                poison.text, poison.verifier, "strict", poison.reference, poison.entry
            )
            assert time.monotonic() - began < limit_s + 1, poison
            assert len(said.reason) <= 400, poison
        assert len(workers()) <= 1


def test_poison_ends_within_its_limit_as_a_state() -> None:
    asyncio.run(endure(POISONS[::4], limit_s=1.0))


@pytest.mark.fault
def test_all_poisons_end_within_their_limit_as_a_state() -> None:
    assert len(POISONS) >= 40
    asyncio.run(endure(POISONS, limit_s=1.0))


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
