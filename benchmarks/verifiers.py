"""What it costs that a verifier runs in a process that can be killed.

    make bench NAME=verifiers

The pooled math verifier against bare math-verify in this process, in turn, on the same answers to
GSM8K's questions (`PRECEPTOR_DATA`): checks per second of processor time, that of this process and
its workers together, so neither the pool's own work nor a second core comes for nothing. The bare
loop is handed the final answer; the pool is handed the text. Then: hostile input has to end within
its limit and a second. Last, how many programs the sandbox runs a second (MBPP, no bar).
"""

import asyncio
import itertools
import json
import logging
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.verdict import conclude, show, skip
from judges.verifiers.pool import Pool
from tests.poison import POISONS

BAR = 0.8
PASSES, CHECKS = 7, 400
LIMIT_S = 2.0
PROGRAMS = 40


class Item(NamedTuple):
    """An answer as a text, as its end, and what it is checked against."""

    text: str
    answer: str
    reference: str


class Spent(NamedTuple):
    """Seconds of one pass."""

    cpu: float
    wall: float


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a data set."""
    path = folder / name / "train.jsonl"
    if not path.is_file():
        skip("verifiers", f"PRECEPTOR_DATA names no folder with {name} in it")
    return [json.loads(line) for line in path.read_text().splitlines()]


def items(questions: Sequence[dict[str, str]], each: int) -> list[Item]:
    """So many answers to each question: as written, wrong, and right in another form, by turns.

    Real groups share their reference and many of their answers, which the rule parses once. With
    `each` 0 nothing is shared: one answer a question, every number another, none as written.
    """
    made = []
    forms = itertools.cycle(
        ("{0}", "{1}", r"\frac{{{2}}}{{2}}") if each else (r"\frac{{{2}}}{{2}}",)
    )
    for number, row in enumerate(questions):
        working, _, reference = row["answer"].rpartition("####")
        value = int(reference.replace(",", ""))
        if not each:
            value = (value + 1_000_003) * (len(working) + number)
            reference = str(value)
        for form in itertools.islice(forms, each or 1):
            answer = form.format(reference.strip(), value + 1, 2 * value)
            made.append(Item(f"{working.strip()}\nAnswer: {answer}", answer, reference.strip()))
    return made


def bare(wanted: Sequence[Item]) -> int:
    """math-verify as one would call it, without time limits. Returns how many are right."""
    from math_verify import parse, verify

    return sum(
        verify(
            parse(f"${item.reference}$", parsing_timeout=None),
            parse(f"${item.answer}$", parsing_timeout=None),
            timeout_seconds=None,
        )
        for item in wanted
    )


async def pooled(pool: Pool, wanted: Sequence[Item]) -> int:
    """The same through the pool."""
    found = await asyncio.gather(
        *(pool.check(item.text, "math", "strict", item.reference) for item in wanted)
    )
    return sum(one.state == "verified" for one in found)


def cpu_s() -> float:
    """Processor time of this process and its children so far."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


@contextmanager
def timed(into: list[Spent]) -> Iterator[None]:
    """Note what a block spends."""
    cpu, wall = cpu_s(), time.monotonic()
    yield
    into.append(Spent(cpu_s() - cpu, time.monotonic() - wall))


async def compared(questions: Sequence[dict[str, str]], each: int) -> tuple[float, list[object]]:
    """The median ratio, and a row of the table."""
    ours: list[Spent] = []
    theirs: list[Spent] = []
    async with Pool(1) as pool:
        warm = items(questions[:20], each)
        assert bare(warm) == await pooled(pool, warm)
        for number in range(1, PASSES + 1):
            # Other questions in each pass: what is remembered of the last one is no help.
            first, count = number * CHECKS // (each or 1), CHECKS // (each or 1)
            some = items(questions[first : first + count], each)
            with timed(theirs):
                right = bare(some)
            with timed(ours):
                same = await pooled(pool, some)
            assert same == right, f"{same} right answers, {right} without the pool"
    ratio = statistics.median(b.cpu / a.cpu for a, b in zip(ours, theirs, strict=True))
    figures = [
        f"{CHECKS / statistics.median(getattr(one, which) for one in spent):.0f}"
        for which in ("cpu", "wall")
        for spent in (ours, theirs)
    ]
    return ratio, [each or "1, all different", CHECKS, *figures, f"{ratio:.2f}"]


class Endured(NamedTuple):
    """What became of the hostile inputs."""

    forced: int
    """Ended by force."""
    rewarded: int
    """Called right by the math verifier; none of them is."""
    longest: float
    """Seconds that the slowest took."""


async def endured() -> Endured:
    """Every hostile input, one after the other."""
    forced, rewarded, longest = 0, 0, 0.0
    async with Pool(1, LIMIT_S) as pool:
        for poison in POISONS:
            await pool.check("Answer: 1", poison.verifier)
            began = time.monotonic()
            found = await pool.check(
                poison.text, poison.verifier, "strict", poison.reference, poison.entry
            )
            longest = max(longest, time.monotonic() - began)
            forced += found.state == "timeout"
            rewarded += (poison.verifier, found.state) == ("math", "verified")
    return Endured(forced, rewarded, longest)


async def programs(some: Sequence[dict[str, str]]) -> list[object]:
    """MBPP's own solutions through the sandbox: how many, how many pass, how many a second."""
    async with Pool(1) as pool:
        await pool.check("```python\n1\n```", "code", entry=some[0])
        began = time.monotonic()
        found = await asyncio.gather(
            *(pool.check(f"```python\n{row['code']}\n```", "code", entry=row) for row in some)
        )
        seconds = time.monotonic() - began
    passed = sum(one.state == "verified" for one in found)
    return [len(some), passed, f"{len(some) / seconds:.1f}"]


def main() -> None:
    folder = os.environ.get("PRECEPTOR_DATA")
    if not folder:
        skip("verifiers", "PRECEPTOR_DATA names no folder with gsm8k and mbpp in it")
    # It warns that without its own time limits somebody else has to keep time: the pool does.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    questions, tasks = rows(Path(folder), "gsm8k"), rows(Path(folder), "mbpp")
    measured = [asyncio.run(compared(questions, each)) for each in (0, 1, 8)]
    ratios, table = [one[0] for one in measured], [one[1] for one in measured]
    columns = ["answers a question", "checks a pass", "pooled, a CPU second", "bare"]
    columns += ["pooled, a second, one worker", "bare", "ratio (CPU)"]
    show("math: pooled against bare math-verify, medians", columns, table)
    found = asyncio.run(endured())
    columns = ["hostile inputs", "ended by force", "math: called right", "longest, s", "limit, s"]
    row = [len(POISONS), found.forced, found.rewarded, f"{found.longest:.2f}", LIMIT_S]
    show("hostile input", columns, [row])
    columns = ["programs", "pass", "a second, one worker"]
    show("code in the sandbox", columns, [asyncio.run(programs(tasks[:PROGRAMS]))])
    held = found.longest <= LIMIT_S + 1.0 and not found.rewarded
    conclude("verifiers", min(ratios), BAR, at_least=True, also=held)


if __name__ == "__main__":
    main()
