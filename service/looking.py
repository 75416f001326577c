"""What can be said of a constitution by looking at what is stored: no model is asked."""

import asyncio

from pydantic import BaseModel, ConfigDict

from judges.aggregate import Preference
from judges.certify import Certificate, Criteria
from judges.constitution import Constitution, Principle
from judges.judge import Judge
from pipelines.certification import from_stored
from pipelines.edit import edit, seats, terms
from pipelines.home import Home
from pipelines.preview import Effect, plan_from_stored
from pipelines.preview import preview as compare
from pipelines.store import constitutions, judgements
from pipelines.workbench import Onlooker, Workbench
from service.previews import as_json
from teachers.progress import Silent

Effects = dict[Effect, int]


class Asked(BaseModel):
    """An edit whose effect is wanted."""

    edited: Constitution
    against: str | None
    most: int
    shown: int


class Cases(BaseModel):
    """A constitution whose judges' figures are wanted."""

    constitution: Constitution


class Interval(BaseModel):
    """A share with its 95 % Wilson interval."""

    model_config = ConfigDict(from_attributes=True)

    hits: int
    n: int
    low: float
    high: float


class Touched(BaseModel):
    """What becomes of the comparisons that an edited principle is about."""

    edits: list[str]
    pairs: Effects
    affected: Interval | None
    """Of their prompts, those of which it changes a pair."""
    verdicts: Effects | None
    """Of a principle that was reworded: verdicts that are decided otherwise now."""


class Pull(BaseModel):
    """How an edited principle pulls at a comparison: log-odds, positive for the first answer."""

    principle: str
    before: float
    after: float


class ChangedPair(BaseModel):
    """A comparison whose pair the edit changes, with its texts."""

    comparison: str
    effect: Effect
    request: str
    first: str
    second: str
    before: Preference
    after: Preference
    by: list[Pull]
    """The principles of the edit that decide it, the strongest first."""
    reason: str
    """Why it was no pair or is none."""


class Foreseen(BaseModel):
    """What an edit would change."""

    comparisons: int
    """That were looked at."""
    exact: bool
    """Whether these are all that the edit could change; else the figures are of those alone."""
    effects: Effects
    affected: Interval | None
    """Of the prompts, those whose pairs change."""
    by_principle: dict[str, Touched]
    changed: list[ChangedPair]
    """The first of them."""
    calls: int
    """Judges' calls that are missing, for the comparisons that were left out for want of them."""
    seconds: float | None
    """What these would take, from the pace of earlier ones; null if there is none."""


class OnCases(BaseModel):
    """A judge on a principle's cases."""

    cases: int
    judged: int
    """Those of them that all its verdicts are stored of."""
    passed: bool | None
    """Whether it may label by the principle, by the usual criteria; null unless all are judged."""
    faults: list[str]
    """Why not."""
    figures: Certificate | None
    """On the cases that are judged."""


class JudgeOnCases(BaseModel):
    """A judge on a constitution's cases."""

    judge: str
    name: str
    principles: dict[str, OnCases]


class Measured(BaseModel):
    """What the stored verdicts on a constitution's cases say of its judges."""

    constitution: str
    judges: list[JudgeOnCases]
    """Those that have judged one of them."""


def preview(home: Home, asked: Asked) -> Foreseen:
    """What an edit would change.

    Raises:
        ConfigError: no round was judged by what was edited.
    """
    return asyncio.run(_previewed(home, asked))


async def _previewed(home: Home, asked: Asked) -> Foreseen:
    async with Onlooker(home, Silent()) as bench:
        against = constitutions.named(asked.against, bench.db) if asked.against else None
        recipe, old, new = edit(bench.db, asked.edited, against)
        by = terms(recipe, seats(bench, recipe))
        planned = plan_from_stored(bench, by, old, new, asked.most)
        found = compare(bench, by, old, new, planned)
    told = as_json(found._replace(changed=found.changed[: asked.shown]))
    return Foreseen.model_validate(told | {"calls": planned.calls, "seconds": planned.seconds})


def measure(home: Home, asked: Cases) -> Measured:
    """How the judges do on a constitution's cases."""
    return asyncio.run(_measured(home, asked.constitution))


async def _measured(home: Home, constitution: Constitution) -> Measured:
    async with Onlooker(home, Silent()) as bench:
        every = [_on_cases(bench, one, constitution) for one in judgements.judges(bench.db)]
    heard = [one for one in every if any(said.judged for said in one.principles.values())]
    return Measured(constitution=constitution.id, judges=heard)


def _on_cases(bench: Workbench, judge: Judge, constitution: Constitution) -> JudgeOnCases:
    found = {one.id: _by(bench, judge, one) for one in constitution.principles}
    return JudgeOnCases(judge=judge.id, name=judge.name, principles=found)


def _by(bench: Workbench, judge: Judge, principle: Principle) -> OnCases:
    cases, judged, figures = from_stored(bench, judge, principle)
    faults = figures.faults(Criteria()) if figures else []
    return OnCases(
        cases=cases,
        judged=judged,
        passed=not faults if figures and judged == cases else None,
        faults=faults,
        figures=figures,
    )
