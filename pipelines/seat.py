"""A judge and where to ask it: from a recipe's section, and what the endpoint turns out to do."""

from typing import NamedTuple

from judges.judge import Judge, comparing, following, scoring
from judges.ladder import Footing, climb
from pipelines.recipe import JudgeSection, Place
from pipelines.source import identity, opened
from pipelines.store import judgements
from pipelines.store.connection import transaction
from pipelines.workbench import Workbench


class Seat(NamedTuple):
    """A judge and where to ask it."""

    judge: Judge
    place: Place


async def seated(bench: Workbench, section: JudgeSection) -> Seat:
    """The judge of a recipe. An endpoint that was never tried is tried first, and says so.

    Raises:
        EndpointError: it cannot be asked.
        WeightsError: its weights cannot be found.
    """
    if seat := known(bench, section):
        return seat
    best = _best(bench, section)
    return _seat(section, best, await _tried(bench, section, best))


def known(bench: Workbench, section: JudgeSection) -> Seat | None:
    """The same, if its endpoint was tried before: nobody is asked.

    Raises:
        WeightsError: its weights cannot be found.
    """
    best = _best(bench, section)
    footing = judgements.footing(bench.db, best.weights, best.words)
    return _seat(section, best, footing) if footing else None


def _seat(section: JudgeSection, best: Judge, footing: Footing) -> Seat:
    found = {"rung": footing.rung, "thinks": footing.thinks}
    return Seat(best.model_copy(update=found), section)


def _best(bench: Workbench, section: JudgeSection) -> Judge:
    """The judge on the highest rung."""
    weights = identity(section, None, bench.home, bench.progress)
    if section.kind == "compare":
        return comparing(weights, rationale=section.rationale)
    return scoring(weights) if section.kind == "score" else following(weights)


async def _tried(bench: Workbench, section: JudgeSection, judge: Judge) -> Footing:
    async with opened(bench, section, None) as source:
        footing = await climb(source.client, judge)
    for note in footing.notes:
        bench.progress.say(f"the judge's endpoint cannot do {note}")
    bench.progress.say(f"the judge's verdicts are read from its {footing.rung}")
    with transaction(bench.db) as db:
        judgements.add_footing(db, judge.weights, judge.words, footing)
    return footing
