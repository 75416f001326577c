"""The teacher answers: n samples a training prompt."""

from collections.abc import Iterator
from typing import Any

from judges.guidance import guided, guiding
from pipelines.ask import ask
from pipelines.context import Context
from pipelines.recipe import Place
from pipelines.source import identity, opened, prepared
from pipelines.store import calls
from pipelines.store.calls import Asked
from teachers.errors import RoundStopped
from teachers.records import Call, Prompt

NAME = "sample"
PURPOSE = "teach"
UNDER, AGAINST = "under the principle", "under its opposite"
ANCHOR = "anchor"
"""An older model's answer, for the rejected side of a pair."""


async def run(context: Context) -> dict[str, Any]:
    """Make the teacher's calls that are not done; the report counts what was asked and answered.

    Raises:
        RoundStopped: not one call was answered.
    """
    asked = wanted(context)
    anchored = [one for one in asked if one.purpose == ANCHOR]
    ours = [one for one in asked if one.purpose != ANCHOR]
    await _answered(context, context.recipe.teacher, ours)
    await _answered(context, Place(weights=context.recipe.pairs.anchor), anchored)
    done = calls.done_calls(context.db, [one.call.id for one in asked])
    if asked and not done:
        raise RoundStopped("The teacher did not answer a single call.")
    return {"calls": len(asked), "answered": len(done), "weights": weights(context)}


async def _answered(context: Context, place: Place, asked: list[Asked]) -> None:
    """Make the calls that are not done; nobody is started if all are."""
    done = calls.done_calls(context.db, [one.call.id for one in asked])
    if len(done) < len(asked):
        async with opened(context, place, context.base) as teacher:
            await ask(context, teacher, asked, "teacher answers")


def wanted(context: Context) -> list[Asked]:
    """Every call that is to be answered in this round."""
    recipe = context.recipe
    stored = calls.prompts_of(context.db, context.round_id)
    prompts = [prompt for prompt, split in stored if split == "train"]
    teacher = weights(context)
    plain = [_plain(context, teacher, prompt, PURPOSE) for prompt in prompts]
    if recipe.train.objective == "sft":
        return plain
    guided = [one for prompt in prompts for one in _guided(context, teacher, prompt)]
    # Where it only counts how an answer was asked for, plain ones are of no use.
    ours = guided if recipe.pairs.source == "construction" else plain + guided
    if recipe.pairs.anchor is None:
        return ours
    anchor = prepared(recipe.pairs.anchor, context.home, context.progress).fingerprint
    return ours + [_plain(context, anchor, prompt, ANCHOR) for prompt in prompts]


def _plain(context: Context, weights: str, prompt: Prompt, purpose: str) -> Asked:
    recipe = context.recipe
    call = Call(
        weights=weights,
        messages=recipe.template.few_shot(prompt),
        sampling=recipe.teacher.sampling,
    )
    return Asked(call, prompt.id, purpose)


def _guided(context: Context, weights: str, prompt: Prompt) -> Iterator[Asked]:
    """The prompt under one of its principles, and under that principle's opposite."""
    if not context.recipe.pairs.guided:
        return
    principle = guiding(context.principles_for(prompt), prompt.id)
    orders = principle.orders if principle else None
    if orders is None:
        return
    asked = context.recipe.template.few_shot(prompt)
    sampling = context.recipe.teacher.sampling.model_copy(update={"n": context.recipe.pairs.guided})
    for purpose, order in ((UNDER, orders.better), (AGAINST, orders.worse)):
        call = Call(weights=weights, messages=guided(asked, order), sampling=sampling)
        yield Asked(call, prompt.id, purpose)


def weights(context: Context) -> str:
    """What the teacher's calls are filed under: its fingerprint, or its name and revision."""
    return identity(context.recipe.teacher, context.base, context.home, context.progress)
