"""THE LOOP: a run is rounds that follow each other. What comes next, and when it is enough.

The recipes of a run take turns. Once a round of it was promoted, those after it start from the
champion; every round of a recipe is measured on the same prompts and learns from the next.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import takewhile
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlite_utils import Database

from pipelines.context import Context
from pipelines.home import Home
from pipelines.pinned import pinned
from pipelines.recipe import Recipe
from pipelines.round import Outcome, run_round
from pipelines.schedule import next_time
from pipelines.source import CHECKPOINT
from pipelines.store import checkpoints, runs
from pipelines.store.connection import connect, now, transaction
from pipelines.store.runs import Lease
from pipelines.workbench import refuse_busy
from teachers.progress import Progress
from teachers.records import content_id


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(_Section):
    """When a run has done enough; each is asked before a round. Without any it goes on."""

    rounds: int | None = Field(default=None, ge=1)
    """So many rounds."""
    patience: int | None = Field(default=None, ge=1)
    """So many rounds in a row of which none was promoted."""
    tokens: int | None = Field(default=None, ge=1)
    """So many tokens, written and read by models that were asked; a call that was cut off counts as
    if it had written all that it might."""


class Request(_Section):
    """What a run is asked to do."""

    recipes: tuple[Recipe, ...] = Field(min_length=1)
    limits: Limits = Limits()
    schedule: str | None = None
    """When rounds may begin, as a line of cron; at any time if not given."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [recipe.name for recipe in self.recipes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two recipes are called {min(twice)!r}: give one another name")
        return self

    @property
    def id(self) -> str:
        """The same recipes are the same run, whatever its limits and its schedule."""
        return content_id("run", [recipe.identity for recipe in self.recipes])

    @property
    def name(self) -> str:
        return ", ".join(recipe.name for recipe in self.recipes)

    def due_after(self, at: float) -> float:
        """From when on the next round may begin; 0 if at any time.

        Raises:
            ConfigError: the schedule is none.
        """
        return next_time(self.schedule, at) if self.schedule else 0.0


class Begun(_Section):
    """A round as it was when it began: names in its recipe stand for what they stood for then."""

    recipe: Recipe
    number: int
    """Which round of this recipe."""
    round_id: str


class Turn(NamedTuple):
    """A round of a run."""

    begun: Begun
    promoted: bool | None
    """None as long as it is not done."""


def enough(limits: Limits, done: Sequence[Turn], tokens: int) -> str:
    """Why there is to be no further round, or nothing."""
    if limits.rounds is not None and len(done) >= limits.rounds:
        return f"{_rounds(len(done))} done"
    students = [turn for turn in done if turn.begun.recipe.train.makes_student]
    vain = len([*takewhile(lambda turn: not turn.promoted, reversed(students))])
    if limits.patience is not None and vain >= limits.patience:
        return f"nothing was promoted in {_rounds(vain)}"
    if limits.tokens is not None and tokens >= limits.tokens:
        return f"{tokens:,} tokens spent, of {limits.tokens:,}"
    return ""


async def take_turn(lease: Lease, home: Home, progress: Progress) -> None:
    """Bring a run's round to its end: the one that it is at, or the next. One that has done enough
    is put down as done.

    Raises:
        LeaseLost: another worker has the run.
        Busy: another process is at work in this home.
        PreceptorError: as `run_round` does.
    """
    with closing(connect(home.store)) as db:
        request = Request.model_validate_json(runs.run(db, lease.run_id).request)
        turns = [
            Turn(Begun.model_validate_json(one.begun), one.promoted)
            for one in runs.turns(db, lease.run_id)
        ]
        if not turns or turns[-1].promoted is not None:
            if _end(db, lease, request, turns):
                return
            refuse_busy(home)  # or the next round would be what it is now, and begin much later
            turns.append(_begin(db, lease, request, turns, home, progress))
        number, begun = len(turns), turns[-1].begun
        progress.say(f"round {number} of {request.name}: {begun.recipe.name} {begun.number}")
        outcome = await _go_on(begun, request, home, progress)
        turns[-1] = Turn(begun, outcome.promoted)
        with transaction(db):
            due_at = request.due_after(now())
            runs.end_turn(db, lease, number, promoted=outcome.promoted, due_at=due_at)
        progress.say(f"round {number}: {'promoted' if outcome.promoted else 'not promoted'}")
        _end(db, lease, request, turns)


def _end(db: Database, lease: Lease, request: Request, done: Sequence[Turn]) -> bool:
    """Put the run down as done, if it has done enough."""
    reason = enough(request.limits, done, runs.tokens(db, lease.run_id))
    if reason:
        with transaction(db):
            runs.let_go(db, lease, "done", reason)
    return bool(reason)


def _begin(
    db: Database,
    lease: Lease,
    request: Request,
    done: Sequence[Turn],
    home: Home,
    progress: Progress,
) -> Turn:
    """The next round, written down as it is now."""
    before, place = divmod(len(done), len(request.recipes))
    recipe = request.recipes[place]
    champion = checkpoints.champion_id(db) if recipe.train.makes_student else None
    if champion is not None and any(turn.promoted for turn in done):
        student = recipe.student.model_copy(update={"weights": CHECKPOINT + champion})
        recipe = recipe.model_copy(update={"student": student})
    context = Context(recipe, home, progress, before + 1)
    with transaction(db):
        settled = pinned(recipe, context.constitutions, db)
        begun = Begun(recipe=settled, number=context.number, round_id=context.round_id)
        runs.begin_turn(
            db, lease, len(done) + 1, begun.round_id, begun.model_dump_json(exclude_defaults=True)
        )
    return Turn(begun, None)


async def _go_on(begun: Begun, request: Request, home: Home, progress: Progress) -> Outcome:
    # Who changes a guard goes on with the same round.
    [asked] = [recipe for recipe in request.recipes if recipe.name == begun.recipe.name]
    recipe = begun.recipe.model_copy(update={"guards": asked.guards})
    return await run_round(recipe, home, progress, begun.number, begun.round_id)


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"
