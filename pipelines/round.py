"""THE FLOW: one round, from prompts to a decision. Each stage is a file in `stages/`.

A stage finds out by itself what is done already (an id is known before its work is done), so a
round that was stopped, or killed, goes on where it was. A finished stage is not entered again.
"""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipelines.context import Context
from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.space import make_room
from pipelines.stages import (
    appraise,
    build,
    certify,
    compare,
    exercises,
    gate,
    label,
    lessons,
    pair,
    promote,
    revise,
    sample,
    supply,
    train,
)
from pipelines.store import constitutions, rounds
from pipelines.store.connection import transaction
from teachers.errors import (
    GuardTripped,
    PreceptorError,
    RoundStopped,
    StoreError,
    StoreFull,
    Uncertified,
)
from teachers.progress import Progress

STAGES = (supply, sample, label, build, train, gate, promote)
PREFERENCE_STAGES = (supply, sample, compare, pair, train, gate, promote)
REVISION_STAGES = (supply, sample, revise, compare, pair, train, gate, promote)
POLICY_STAGES = (supply, exercises, train, gate, promote)
REWARD_STAGES = (supply, sample, compare, pair, train, appraise)
JUDGE_STAGES = (supply, sample, compare, lessons, train, certify)


class Outcome(NamedTuple):
    """A finished round: what each stage reported, by the stage's name."""

    round_id: str
    reports: dict[str, dict[str, Any]]

    @property
    def promoted(self) -> bool:
        return bool(self.reports.get(promote.NAME, {}).get("promoted"))


async def run_round(
    recipe: Recipe, home: Home, progress: Progress, number: int = 1, round_id: str = ""
) -> Outcome:
    """Run a round to its end, or go on with it.

    Args:
        number: which round of the recipe; each learns from the next prompts.
        round_id: that of a round that has begun, whatever has moved since.

    Raises:
        RoundStopped: it cannot go on, for a reason that the recipe's author can act on.
        Uncertified: the judge may not label; stopped as well.
        PreceptorError: anything else that a person has to act on; what is finished is kept.
    """
    with _full_disk_explained():
        return await _run(Context(recipe, home, progress, number, round_id))


async def _run(context: Context) -> Outcome:
    async with context:
        _open(context)
        try:
            stages = stages_of(context.recipe)
            reports = {stage.NAME: await _run_stage(context, stage) for stage in stages}
        except BaseException as error:
            with contextlib.suppress(StoreError):  # a full disk must not hide what came before it
                _close(context, *_state(error))
            raise
        _close(context, "done")
        return Outcome(context.round_id, reports)


def stages_of(recipe: Recipe) -> Sequence[Any]:
    """The stages of a round, by what it trains."""
    if recipe.train.objective == "judge":
        return JUDGE_STAGES
    if recipe.train.wants_rollouts:
        return POLICY_STAGES
    if recipe.train.objective == "reward":
        return REWARD_STAGES
    if recipe.pairs.revisions:
        return REVISION_STAGES
    return PREFERENCE_STAGES if recipe.train.wants_pairs else STAGES


async def _run_stage(context: Context, stage: Any) -> dict[str, Any]:
    if (report := rounds.report_of(context.db, context.round_id, stage.NAME)) is not None:
        return report
    make_room(context.db, context.home, context.progress, {context.base.fingerprint})
    with transaction(context.db) as db:
        rounds.begin_stage(db, context.round_id, stage.NAME)
    report = dict(await stage.run(context))
    with transaction(context.db) as db:
        rounds.finish_stage(db, context.round_id, stage.NAME, report)
    return report


@contextlib.contextmanager
def _full_disk_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StoreFull(
            f"There is no space left on the disk ({error.filename or 'a file of the round'}).",
            hint="Free some and run the same command again: what is finished is kept.",
        ) from error


def _open(context: Context) -> None:
    if context.lost_calls:
        context.progress.say(f"{context.lost_calls} calls were cut off last time: asked again")
    with transaction(context.db) as db:
        recipe = context.recipe
        rounds.open_round(
            db, context.round_id, recipe.name, context.number, recipe.model_dump_json()
        )
        for constitution in context.constitutions:
            constitutions.keep(db, constitution)


def _close(context: Context, state: rounds.RoundState, note: str = "") -> None:
    with transaction(context.db) as db:
        rounds.close_round(db, context.round_id, state, note)


def _state(error: BaseException) -> tuple[rounds.RoundState, str]:
    if isinstance(error, RoundStopped | Uncertified | GuardTripped):
        return "stopped", error.message
    if isinstance(error, Exception):
        return "failed", error.message if isinstance(error, PreceptorError) else repr(error)
    return "interrupted", "stopped by the user"
