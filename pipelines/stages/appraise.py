"""A reward model is measured before it is used, on pairs of prompts that it never saw."""

from typing import Any

from pipelines.appraisal import Appraisal, HeldOut, appraised
from pipelines.context import Context
from pipelines.scoring import Answer, scored
from pipelines.stages import compare, pair, sample, train
from pipelines.store import calls, checkpoints, pairs
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.connection import transaction
from teachers.errors import RoundStopped

NAME = "appraise"
MOST_ANSWERS = 512
"""So many answers say well enough where its scores lie."""


async def run(context: Context) -> dict[str, Any]:
    """Measure the reward model, write its norm beside it, and give it the recipe's name as its
    alias if it is better than length and than chance.

    Raises:
        RoundStopped: hardly a held-out prompt was answered.
    """
    checkpoint = checkpoints.checkpoint(context.db, context.report(train.NAME)["checkpoint"])
    found = await _measured(context, checkpoint)
    faults = found.faults(context.recipe.appraisal.alpha)
    if not faults:
        found.norm.save(checkpoint.adapter)
        with transaction(context.db) as db:
            checkpoints.move_alias(db, context.recipe.name, checkpoint.id, "appraised")
    return {
        "checkpoint": checkpoint.id,
        "alias": None if faults else context.recipe.name,
        "passed": not faults,
        "faults": faults,
        **found.model_dump(),
    }


async def _measured(context: Context, checkpoint: Checkpoint) -> Appraisal:
    held_out = [
        one
        for one in pairs.of_round(context.db, context.round_id)
        if pair.is_held_out(context, one.prompt_id)
    ]
    questions = {
        prompt.id: context.recipe.template.zero_shot(prompt)
        for prompt, _ in calls.prompts_of(context.db, context.round_id)
    }
    sides = [
        Answer(name, questions[one.prompt_id], text)
        for one in held_out
        for name, text in ((one.chosen_sample, one.chosen), (one.rejected_sample, one.rejected))
    ]
    usual = _usual_answers(context)
    scores = await scored(context, checkpoint, sides + usual, "score held-out pairs")
    leads = zip(scores[: len(sides) : 2], scores[1 : len(sides) : 2], strict=True)
    return appraised(
        [HeldOut(one, *two) for one, two in zip(held_out, leads, strict=True)], scores[len(sides) :]
    )


def _usual_answers(context: Context) -> list[Answer]:
    """What the teacher, by default the student's base, answers to held-out prompts; under no orders
    where there is such.

    Raises:
        RoundStopped: there are not two.
    """
    found = [
        (one.purpose, Answer(one.sample.id, context.recipe.template.zero_shot(prompt), text))
        for prompt, answers in compare.candidates(context)
        if pair.is_held_out(context, prompt.id)
        for one in answers
        if (text := one.sample.text).strip() and one.purpose != sample.ANCHOR
    ]
    plain = [answer for purpose, answer in found if purpose == sample.PURPOSE]
    usual = (plain or [answer for _, answer in found])[:MOST_ANSWERS]
    if len(usual) < 2:
        raise RoundStopped(
            f"There are {len(usual)} answers to held-out prompts to hold scores against.",
            hint="More prompts (supply), or a larger appraisal.held_out.",
        )
    return usual
