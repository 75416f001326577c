"""The gate's decision takes effect: the alias moves, or the checkpoint is kept aside."""

from typing import Any

from pipelines.context import Context
from pipelines.gates.picture import draw
from pipelines.stages import gate, train
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import transaction
from teachers.records import content_id

NAME = "promote"


async def run(context: Context) -> dict[str, Any]:
    """Move `champion` if the gate says so, and draw the round's picture."""
    report, training = context.report(gate.NAME), context.report(train.NAME)
    checkpoint_id = str(report["checkpoint"])
    picture = context.home.reports / f"{context.recipe.name}-{context.round_id[:12]}.png"
    # A policy's loss says nothing: what it learns from is new in every batch.
    figure = "reward" if context.recipe.train.wants_rollouts else "loss"
    curve = checkpoints.metrics_of(context.db, str(training["training_run"]), figure)
    draw(report, curve, f"training {figure}", picture)
    promotion_id = content_id("promotion", [context.round_id, checkpoint_id])
    with transaction(context.db) as db:
        promoted, reason = _still_holds(report, checkpoints.champion_id(db))
        new = checkpoints.add_promotion(
            db,
            promotion_id,
            context.round_id,
            checkpoint_id,
            "promoted" if promoted else "kept",
            reason,
            report,
        )
        if new and promoted:
            checkpoints.move_alias(db, CHAMPION, checkpoint_id, f"gate of {context.recipe.name}")
    return {"promoted": promoted, "reason": reason, "picture": str(picture)}


def _still_holds(report: dict[str, Any], champion: str | None) -> tuple[bool, str]:
    """The gate's decision, unless somebody moved the champion after it was measured against."""
    if report["promoted"] and champion not in (report["incumbent_id"], report["checkpoint"]):
        return False, "the champion has changed since it was held against the gate's"
    return report["promoted"], report["reason"]
