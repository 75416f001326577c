"""Critique and revision on red-team prompts: how many revisions does a judge prefer?

    make bench NAME=revise

The reviser is the model that `PRECEPTOR_BIG_MODEL` names, else the packaged one. It answers the
prompts, criticises its answers by principles of helpful-honest-harmless, and writes them again in
two rounds. Every judge at hand is first measured on the constitution's cases; the one that passes
most principles then compares each last revision with the first answer. There is no bar: the share
is what it is, and it is called uncertified where the judge has not passed what it judges by.
"""

import asyncio
import json
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks.verdict import measured, show, skip
from judges.certify import Certificate, Criteria
from judges.constitution import Constitution
from judges.constitution_file import SHIPPED, load
from judges.critique import ROUNDS
from judges.records import Answer
from judges.revision import evasive
from judges.share import share
from pipelines.ask import ask
from pipelines.certification import case_pair, measure
from pipelines.choosing import Choice, weighed
from pipelines.home import Home
from pipelines.recipe import EngineSection, JudgeSection, Place
from pipelines.revising import Draft, Revised, revised
from pipelines.seat import Seat, seated
from pipelines.source import identity, opened
from pipelines.store import calls
from pipelines.store.calls import Asked
from pipelines.workbench import Workbench
from service.progress import Shown
from teachers.errors import WeightsError
from teachers.records import Call, Message, Prompt, Sampling

PROMPTS = Path(__file__).parent / "prompts" / "red_team.jsonl"
PACKAGED = "packaged:SmolLM2-135M-Instruct"
CASES = 40
# Long enough for the few sentences that are asked for: an answer that is cut is left out.
BRIEFLY = "Answer in a few sentences."
ANSWER_TOKENS, REVISION_TOKENS = 256, 320
DECIDED = ("preferred", "not_preferred", "tie", "undecided")


class Tried(NamedTuple):
    """A judge and its figures on the cases, by principle."""

    seat: Seat
    model: str
    found: dict[str, Certificate]

    @property
    def passed(self) -> set[str]:
        return {name for name, one in self.found.items() if not one.faults(Criteria())}

    @property
    def accuracy(self) -> float:
        return statistics.fmean(one.accuracy for one in self.found.values())

    def row(self) -> list[object]:
        figures = self.found.values()
        return [
            self.model,
            self.seat.judge.kind,
            ", ".join(self.seat.judge.words),
            self.seat.judge.rung,
            f"{self.accuracy:.1%}",
            f"{statistics.fmean(one.flips for one in figures):.1%}",
            f"{statistics.fmean(one.unread for one in figures):.1%}",
            f"{len(self.passed)} of {len(self.found)}",
        ]


class Outcome(NamedTuple):
    """Everything that the benchmark found."""

    judges: list[Tried]
    best: Tried
    cut: int
    """First answers left out because they were cut."""
    choices: list[Choice]
    certified: bool
    """Whether the judge has passed every principle that it judged by."""


async def first_answers(bench: Workbench, place: Place) -> tuple[list[Draft], int]:
    """Answers to the red-team prompts, at most `CASES` whole ones, and how many were cut."""
    weights = identity(place, None, bench.home, bench.progress)
    sampling = Sampling(temperature=0.7, max_tokens=ANSWER_TOKENS)
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    asked = {}
    for row in rows:
        message = Message(role="user", content=f"{row['question']}\n\n{BRIEFLY}")
        call = Call(weights=weights, messages=(message,), sampling=sampling)
        prompt = Prompt(task=row["kind"], question=row["question"], verifier="none")
        asked[call.id] = Asked(call, prompt.id, "bench"), prompt
    async with opened(bench, place, None) as source:
        await ask(bench, source, [one for one, _ in asked.values()], "first answers")
    samples = calls.samples_of(bench.db, list(asked))
    drafts = []
    for call_id, (one, prompt) in asked.items():
        for sample in samples.get(call_id, []):
            if sample.finish_reason != "length":
                answer = Answer(conversation=one.call.messages, text=sample.text)
                drafts.append(Draft(answer, prompt, sample.id))
    return drafts[:CASES], len(samples) - len(drafts)


async def tried(bench: Workbench, models: Sequence[str], constitution: Constitution) -> list[Tried]:
    """Each model as a judge that compares and as one that grades, measured on all cases."""
    found = []
    for model in models:
        for section in (
            JudgeSection(weights=model, kind="compare"),
            JudgeSection(weights=model, kind="follows"),
        ):
            seat = await seated(bench, section)
            figures = {
                one.id: await measure(
                    bench, seat, one, [case_pair(case) for case in one.cases], "cases"
                )
                for one in constitution.principles
            }
            found.append(Tried(seat, Path(model).name, figures))
    return found


async def run(home: Home, engine: EngineSection, models: Sequence[str]) -> Outcome:
    """The whole measurement.

    Args:
        models: who judges, each of them; the last one answers and revises.
    """
    constitution = load(SHIPPED / "helpful-honest-harmless.yaml")
    reviser = Place(weights=models[-1])
    async with Workbench(home, Shown(Console(stderr=True)), engine) as bench:
        judges = await tried(bench, models, constitution)
        best = max(judges, key=lambda one: (len(one.passed), one.accuracy))
        drafts, cut = await first_answers(bench, reviser)
        found = await revised(bench, reviser, drafts, constitution, max_tokens=REVISION_TOKENS)
        choices = await weighed(bench, best.seat, reviser, found, constitution)
    needed = {one.id for draft in drafts for one in draft.principles(constitution)}
    return Outcome(judges, best, cut, choices, needed <= best.passed)


def round_rows(found: Sequence[Revised]) -> list[list[object]]:
    """A line for each round: how much was changed, and how many ended there."""
    lines: list[list[object]] = []
    for number in range(ROUNDS):
        rows = [one.rounds[number] for one in found if len(one.rounds) > number]
        shares = [row.edit_share for row in rows if row.edit_share is not None]
        stops = Counter(row.stop for row in rows if row.stop)
        evasions = sum(evasive(row.text) for row in rows if row.text)
        ended = ", ".join(f"{many} {stop}" for stop, many in stops.most_common()) or "none"
        median = f"{statistics.median(shares):.1%}" if shares else "none"
        lines.append([number + 1, len(rows), median, evasions, ended])
    return lines


def report(found: Outcome) -> None:
    """Print the tables and the last line."""
    columns = ["model", "kind", "words", "rung", "accuracy", "flips", "unread", "passed"]
    show("judges on the cases of the constitution", columns, [one.row() for one in found.judges])
    columns = ["round", "answers", "words changed, median", "evasive", "ended here"]
    rounds = [choice.revised for choice in found.choices]
    show("critique and revision", columns, round_rows(rounds))
    states = Counter(choice.state for choice in found.choices)
    outcomes = [[state.replace("_", " "), many] for state, many in states.most_common()]
    show("what became of them", ["outcome", "answers"], outcomes)
    drafts = sum(evasive(one.draft.answer.text) for one in rounds)
    print(f"{len(rounds)} first answers ({drafts} evasive); {found.cut} more were cut and left out")
    judged = [choice.state == "preferred" for choice in found.choices if choice.state in DECIDED]
    if not judged:
        measured("revise", 0.0, enough=False)
    preferred = share(judged)
    word = "certified" if found.certified else "uncertified"
    print(f"judge: {found.best.model}, {found.best.seat.judge.kind}, {word} on what it judged by")
    print(f"preferred: {str(preferred).strip()} of {len(judged)} revisions")
    measured("revise", preferred.value, enough=len(found.choices) >= CASES)


def main() -> None:
    models = [PACKAGED, *filter(None, [os.environ.get("PRECEPTOR_BIG_MODEL")])]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = asyncio.run(run(Home(Path(folder)), EngineSection(max_model_len=2048), models))
        except WeightsError as missing:
            skip("revise", missing.message)
    report(found)


if __name__ == "__main__":
    main()
