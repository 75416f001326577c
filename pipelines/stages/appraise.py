"""A reward model is measured before it is used, on pairs of prompts that it never saw."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from pipelines.appraisal import Appraisal, HeldOut, appraised
from pipelines.context import Context
from pipelines.gates.picture import draw_best_of
from pipelines.overoptimised import Point, Rated, curve
from pipelines.pairing import Evidence, preference_of
from pipelines.scoring import Answer, scored
from pipelines.stages import compare, pair, sample, train
from pipelines.stages.compare import SideBySide
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
    usual = _usual_answers(context)
    found, scores = await _measured(context, checkpoint, usual)
    points = await _curve(context, dict(zip((one.sample_id for one in usual), scores, strict=True)))
    picture = context.home.reports / f"{context.recipe.name}-{context.round_id[:12]}.png"
    if points:
        draw_best_of(points, picture)
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
        "best_of": points,
        "picture": str(picture) if points else None,
    }


async def _measured(
    context: Context, checkpoint: Checkpoint, usual: list[Answer]
) -> tuple[Appraisal, list[float]]:
    """The figures, and the scores of the usual answers."""
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
    scores = await scored(context, checkpoint, sides + usual, "score held-out pairs")
    leads = zip(scores[: len(sides) : 2], scores[1 : len(sides) : 2], strict=True)
    pairs_and_scores = [HeldOut(one, *two) for one, two in zip(held_out, leads, strict=True)]
    return appraised(pairs_and_scores, scores[len(sides) :]), scores[len(sides) :]


async def _curve(context: Context, scores: Mapping[str, float]) -> list[Point]:
    """The usual answers of held-out prompts by the reward model, and by judge or verifier: for each
    answer, how probably it is the better one on average over what it was compared with.

    Args:
        scores: of the usual answers, by sample.
    """
    judges = pair.judges_of(context)
    compared = [
        one
        for one in compare.side_by_side(context, judges)
        if {one.first.sample.id, one.second.sample.id} <= scores.keys()
    ]
    evidence = await pair.evidence_of(context, judges, compared)
    wins: dict[str, dict[str, list[float]]] = {}
    for one in compared:
        p = _first_is_better(context, one, evidence)
        if p is not None:
            of_prompt = wins.setdefault(one.prompt.id, {})
            of_prompt.setdefault(one.first.sample.id, []).append(p)
            of_prompt.setdefault(one.second.sample.id, []).append(1 - p)
    return curve(
        [Rated(scores[name], fmean(won)) for name, won in of_prompt.items()]
        for of_prompt in wins.values()
    )


def _first_is_better(context: Context, one: SideBySide, evidence: Evidence) -> float | None:
    """How probably, by the verifier where there is a right answer, else by the judge."""
    if one.prompt.verifier == "none":
        principles = context.principles_for(one.prompt)
        return preference_of(context.recipe.pairs, principles, one, evidence).p
    right = [
        evidence.verified.get(side.sample.id) == "verified" for side in (one.first, one.second)
    ]
    return 0.5 + (right[0] - right[1]) / 2


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
