"""What an edit of a constitution costs in calls, counted by the server that they arrive at.

    make bench NAME=rejudge

A scripted endpoint in a child process judges 400 comparisons by 8 principles in both orders, and
each principle's cases, which certify it. Then one principle is reworded, and the same is asked for
again: only that principle's verdicts and cases may arrive. Then all are reweighted: nothing may
arrive, and a preview of that has to be there in 2 seconds.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.verdict import conclude, show
from judges.certify import Criteria
from judges.constitution import Case, Constitution, Principle
from judges.judge import comparing
from judges.records import Comparison
from pipelines.certification import require
from pipelines.decided import Terms
from pipelines.home import Home
from pipelines.judging import Question, judged
from pipelines.preview import plan, preview
from pipelines.recipe import JudgeSection
from pipelines.seat import Seat
from pipelines.source import identity
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.progress import Silent
from teachers.records import Message
from tests.scripted.running import Scripted, running

COMPARISONS, PRINCIPLES, CASES = 400, 8, 20
PREVIEW_BAR_S = 2.0
QUALITIES = ("short", "calm", "polite", "exact", "honest", "plain", "kind", "complete")


class Step(NamedTuple):
    """One thing that was done, the calls that it may make and those that arrived."""

    what: str
    expected: int
    made: int
    seconds: float


def constitution() -> Constitution:
    """Principles that the scripted judge can decide, each with cases of its own."""
    principles = tuple(
        Principle(
            id=quality,
            text=f"The answer is {quality}.",
            cases=tuple(_case(quality, number) for number in range(CASES)),
        )
        for quality in QUALITIES[:PRINCIPLES]
    )
    return Constitution(name="bench", principles=principles)


def comparisons() -> list[Compared]:
    """Answers of which every other first one is good."""
    pairs = [_texts(f"about {number}", longer=number % 4 < 2) for number in range(COMPARISONS)]
    return [
        Compared(
            Comparison(
                conversation=(Message(role="user", content=f"What about {number}?"),),
                first=pair[number % 2],
                second=pair[1 - number % 2],
            ),
            "round",
        )
        for number, pair in enumerate(pairs)
    ]


def _case(quality: str, number: int) -> Case:
    better, worse = _texts(f"{quality} {number}", longer=number % 2 == 0)
    return Case(prompt=f"Is {number} {quality}?", better=better, worse=worse)


def _texts(about: str, longer: bool) -> tuple[str, str]:
    """A good answer and a poor one, the good one the longer or the shorter."""
    padding = " and more of it" * 3
    return f"A good one {about}{padding * longer}.", f"A poor one {about}{padding * (not longer)}."


def reworded(old: Constitution) -> Constitution:
    first, *others = old.principles
    changed = first.model_copy(update={"text": "The answer is as short as it can be."})
    return old.model_copy(update={"principles": (changed, *others)})


def reweighted(old: Constitution) -> Constitution:
    """Other weights throughout, and a veto."""
    principles = [
        principle.model_copy(update={"weight": 0.5 + number, "veto": number == 3})
        for number, principle in enumerate(old.principles)
    ]
    return old.model_copy(update={"principles": tuple(principles)})


async def counted(
    bench: Workbench,
    seat: Seat,
    server: Scripted,
    by: Constitution,
    about: Sequence[Compared],
    what: str,
    expected: int,
) -> Step:
    """Certify and judge, as a round does, and count what arrives."""
    before, began = len(server.events("arrived")), time.monotonic()
    await require(bench, seat, by.principles, Criteria())
    questions = [Question(one, principle) for one in about for principle in by.principles]
    found = await judged(bench, seat, questions, what)
    seconds = time.monotonic() - began
    if not all(judgement.labels for judgement in found):
        raise SystemExit(f"{what}: not every comparison was decided")
    return Step(what, expected, len(server.events("arrived")) - before, seconds)


async def run(folder: Path, server: Scripted) -> list[Step]:
    place = JudgeSection(url=server.url, model="judge")
    home, old, about = Home(folder / "home"), constitution(), comparisons()
    seat = Seat(comparing(identity(place, None, home, Silent())), place)
    new = reworded(old)
    one = 2 * (COMPARISONS + CASES)
    async with Workbench(home, Silent()) as bench:
        steps = [
            await counted(bench, seat, server, by, about, what, expected)
            for by, what, expected in (
                (old, "judged for the first time", PRINCIPLES * one),
                (new, "one principle reworded", one),
                (reweighted(new), "all reweighted", 0),
            )
        ]
        before, began = len(server.events("arrived")), time.monotonic()
        terms = Terms([seat.judge])
        planned = plan(bench, terms, new, reweighted(new), most=50)
        found = preview(bench, terms, new, reweighted(new), planned)
        seconds = time.monotonic() - began
        if not found.exact or found.comparisons != COMPARISONS:
            raise SystemExit("the preview did not look at all comparisons")
        made = len(server.events("arrived")) - before
        return [*steps, Step("preview of the reweighting", 0, made, seconds)]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder, "--judge", "keyword:good") as server:
            steps = asyncio.run(run(folder, server))
    rows = [
        [
            *(step.what, step.expected, step.made, f"{step.seconds:.2f} s"),
            "" if step.made == step.expected else "MISSED",
        ]
        for step in steps
    ]
    title = f"{COMPARISONS} comparisons, {PRINCIPLES} principles with {CASES} cases, both orders"
    show(title, ["", "calls expected", "calls made", "time", ""], rows)
    edit, shown = steps[1], steps[-1]
    quick = shown.seconds < PREVIEW_BAR_S
    print(f"preview: {shown.seconds:.2f} s (bar {PREVIEW_BAR_S:g} s)")
    exact = all(step.made == step.expected for step in steps)
    conclude("rejudge", edit.made / edit.expected, 1.0, at_least=False, also=exact and quick)


if __name__ == "__main__":
    main()
