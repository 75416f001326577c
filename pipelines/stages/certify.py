"""A trained judge has to pass, on cases and constructed pairs that it never saw.

Measured beside the model that it was trained from, asked in the same words.
"""

from collections.abc import Sequence
from typing import Any

from judges.certify import Certificate, Criteria
from judges.constitution import Principle
from pipelines.certification import CASES, CONSTRUCTED, measure
from pipelines.context import Context
from pipelines.recipe import JudgeSection
from pipelines.seat import Seat, seated
from pipelines.source import CHECKPOINT
from pipelines.stages import lessons, train
from pipelines.store import checkpoints
from pipelines.store.connection import transaction

NAME = "certify"


async def run(context: Context) -> dict[str, Any]:
    """Measure the judge, and give it the recipe's name as its alias if it passes every principle.

    The report has its figures by principle, and those of the base.
    """
    checkpoint = checkpoints.checkpoint(context.db, context.report(train.NAME)["checkpoint"])
    principles = lessons.taught(context)
    base = JudgeSection(weights=context.recipe.student.weights, kind="follows")
    trained = JudgeSection(weights=f"{CHECKPOINT}{checkpoint.id}", kind="follows")
    # One after the other: each has a model server of its own.
    before = await _figures(context, await seated(context, base), principles)
    after = await _figures(context, await seated(context, trained), principles)
    failed = [
        text for text, held in after.items() if any(figures["faults"] for figures in held.values())
    ]
    if not failed:
        with transaction(context.db) as db:
            checkpoints.move_alias(db, context.recipe.name, checkpoint.id, "certified")
    return {
        "checkpoint": checkpoint.id,
        "alias": None if failed else context.recipe.name,
        "passed": not failed,
        "principles": [
            {
                "principle": principle.id,
                "text": principle.text,
                "base": before[principle.text_id],
                "judge": after[principle.text_id],
            }
            for principle in principles
        ],
    }


async def _figures(
    context: Context, seat: Seat, principles: Sequence[Principle]
) -> dict[str, dict[str, Any]]:
    """What a judge reaches on the kept-back cases and constructed pairs, by principle text."""
    criteria = context.recipe.lessons.certify
    back = [one for one in lessons.every_lesson(context) if one.kept_back]
    figures: dict[str, dict[str, Any]] = {}
    for principle in principles:
        of_it = [one for one in back if one.principle.text_id == principle.text_id]
        figures[principle.text_id] = {
            name: _told(await measure(context, seat, principle, pairs, name, criteria), criteria)
            for name, origin in ((CASES, "case"), (CONSTRUCTED, "constructed"))
            if (pairs := [one.known for one in of_it if one.origin == origin]) or name == CASES
        }
    return figures


def _told(certificate: Certificate, criteria: Criteria) -> dict[str, Any]:
    return {**certificate.model_dump(), "faults": certificate.faults(criteria)}
