"""The student is trained on the frozen dataset, in a process of its own."""

from pathlib import Path
from typing import Any

from pipelines.context import Context
from pipelines.stages import build, lessons, pair
from pipelines.store import checkpoints, datasets, judgements
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.connection import transaction
from pipelines.training.job import Job, JudgeJob, PreferenceJob, Result, SftJob
from pipelines.training.journal import Metric
from pipelines.training.run import train
from teachers.engine import has_nvidia
from teachers.errors import TrainingError
from teachers.files import sha256_of
from teachers.records import content_id

NAME = "train"


async def run(context: Context) -> dict[str, Any]:
    """Train, or go on with training; the report names the checkpoint.

    Raises:
        TrainingError: the training process failed; its log's last lines are in the hint.
    """
    dataset_id = str(context.report(_made_by(context))["dataset"])
    job = _job(context, dataset_id)
    # Not the job itself: it holds paths, and a moved home is the same run.
    how = context.recipe.train.model_dump(mode="json")
    run_id = content_id("training_run", [context.base.fingerprint, dataset_id, how])
    folder = context.home.runs / run_id[:16]
    with transaction(context.db) as db:
        checkpoints.open_training(
            db, run_id, context.round_id, dataset_id, job.model_dump_json(), folder
        )
    await context.stop_engine_on_gpu()

    async def keep(metrics: list[Metric]) -> None:
        await context.writer.commit(lambda db: checkpoints.add_metrics(db, run_id, metrics))

    try:
        result = await train(job, folder, keep, context.progress)
    except TrainingError as failed:
        with transaction(context.db) as db:
            checkpoints.close_training(db, run_id, "failed", error=str(failed))
        raise
    checkpoint = _checkpoint(run_id, folder, result)
    with transaction(context.db) as db:
        checkpoints.add_checkpoint(db, checkpoint)
        if context.recipe.train.objective == "judge":
            seen = lessons.learned(context)
            judgements.add_seen(db, checkpoint.weights, context.base.fingerprint, seen)
        checkpoints.close_training(db, run_id, "done", peak_bytes=result.peak_bytes)
    return {
        "training_run": run_id,
        "checkpoint": checkpoint.id,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "final_loss": result.final_loss,
        "peak_bytes": result.peak_bytes,
    }


def _made_by(context: Context) -> str:
    """The stage that froze the dataset."""
    train = context.recipe.train
    if train.objective == "judge":
        return lessons.NAME
    return pair.NAME if train.wants_pairs else build.NAME


def _job(context: Context, dataset_id: str) -> Job:
    dataset = datasets.dataset(context.db, dataset_id)
    if not dataset.path.is_file() or sha256_of(dataset.path) != dataset.sha256:
        raise TrainingError(f"{dataset.path} is not the dataset that was frozen.")
    settings = context.recipe.train
    kind: type[Job] = PreferenceJob if settings.wants_pairs else SftJob
    if settings.objective == "judge":
        kind = JudgeJob
    return kind(
        base=context.base.path,
        base_weights=context.base.fingerprint,
        dataset=dataset.path,
        device="gpu" if has_nvidia() else "cpu",
        **settings.model_dump(),
    )


def _checkpoint(run_id: str, folder: Path, result: Result) -> Checkpoint:
    return Checkpoint(
        id=content_id("checkpoint", [run_id, result.steps, result.weights]),
        training_run_id=run_id,
        step=result.steps,
        adapter=folder / "adapter",
        adapter_sha256=result.adapter_sha256,
        merged=folder / "merged",
        weights=result.weights,
    )
