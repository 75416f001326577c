"""The student is trained on the frozen dataset, in a process of its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pipelines.context import Context
from pipelines.practice import beside
from pipelines.scoring import reward_model, score_job
from pipelines.source import identity
from pipelines.stages import build, exercises, lessons, pair
from pipelines.store import checkpoints, datasets, judgements
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.connection import transaction
from pipelines.training.job import (
    Job,
    JudgeJob,
    PolicyJob,
    PpoJob,
    PreferenceJob,
    Result,
    RewardJob,
    RunFolder,
    SftJob,
)
from pipelines.training.journal import Metric
from pipelines.training.run import train
from teachers.engine import this_device
from teachers.errors import PreceptorError, TrainingError
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
    run_id = content_id("training_run", [context.base.fingerprint, dataset_id, *_how(context)])
    folder = context.home.runs / run_id[:16]
    with transaction(context.db) as db:
        checkpoints.open_training(
            db, run_id, context.round_id, dataset_id, job.model_dump_json(), folder
        )

    async def keep(metrics: list[Metric]) -> None:
        await context.writer.commit(lambda db: checkpoints.add_metrics(db, run_id, metrics))

    try:
        async with _beside(context, job, run_id, folder):
            result = await train(job, folder, keep, context.progress, _keys(context))
    except PreceptorError as failed:
        with transaction(context.db) as db:
            checkpoints.close_training(db, run_id, "failed", error=str(failed))
        raise
    checkpoint = _checkpoint(run_id, job, folder, result)
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


def _keys(context: Context) -> list[str]:
    """Variables that hold what a judge elsewhere asks for."""
    judge = context.recipe.judge if context.recipe.train.wants_rollouts else None
    return [judge.api_key_env] if judge and judge.api_key_env else []


def _how(context: Context) -> list[Any]:
    """What is trained, beside base and data. Not the job: it holds paths, and a moved home is the
    same run."""
    recipe = context.recipe
    how: list[Any] = [recipe.train.model_dump(mode="json")]
    if recipe.train.wants_rollouts:
        terms = [
            [term.model_dump(mode="json") for term in some]
            for some in (recipe.rewards, recipe.watched)
        ]
        how += [recipe.rollouts.model_dump(mode="json"), terms, recipe.pacing.model_dump()]
    if recipe.reward_model is not None:
        how.append(reward_model(context.db, recipe.reward_model.weights).weights)
    if recipe.train.wants_rollouts and recipe.judge is not None:
        who = identity(recipe.judge, None, context.home, context.progress)
        how += [who, recipe.judge.kind, [one.text_id for one in context.principles]]
    return how


def _beside(
    context: Context, job: Job, run_id: str, folder: Path
) -> contextlib.AbstractAsyncContextManager[None]:
    """What goes on while the trainer works: a server for a policy, and nothing otherwise."""
    if isinstance(job, PolicyJob):
        return beside(context, job, run_id, RunFolder(folder))
    return _alone(context)


@contextlib.asynccontextmanager
async def _alone(context: Context) -> AsyncIterator[None]:
    await context.stop_engine_on_gpu()
    yield


def _made_by(context: Context) -> str:
    """The stage that froze the dataset."""
    train = context.recipe.train
    if train.objective == "judge":
        return lessons.NAME
    if train.wants_rollouts:
        return exercises.NAME
    return pair.NAME if train.wants_pairs else build.NAME


def _job(context: Context, dataset_id: str) -> Job:
    dataset = datasets.dataset(context.db, dataset_id)
    if not dataset.path.is_file() or sha256_of(dataset.path) != dataset.sha256:
        raise TrainingError(f"{dataset.path} is not the dataset that was frozen.")
    settings = context.recipe.train
    common: dict[str, Any] = {
        "base": context.base.path,
        "base_weights": context.base.fingerprint,
        "dataset": dataset.path,
        "device": this_device(),
        **settings.model_dump(),
    }
    if settings.wants_rollouts:
        recipe, scores = context.recipe, None
        if recipe.reward_model is not None:
            model = reward_model(context.db, recipe.reward_model.weights)
            scores = score_job(context.db, model, context.progress)
        policy = PpoJob if settings.objective == "ppo" else PolicyJob
        return policy(
            **common,
            rollouts=recipe.rollouts,
            rewards=recipe.rewards,
            watched=recipe.watched,
            reward_model=scores,
            guards=recipe.guards,
            pacing=recipe.pacing,
        )
    named: dict[str, type[Job]] = {"sft": SftJob, "judge": JudgeJob, "reward": RewardJob}
    return named.get(settings.objective, PreferenceJob)(**common)


def _checkpoint(run_id: str, job: Job, folder: Path, result: Result) -> Checkpoint:
    return Checkpoint(
        id=content_id("checkpoint", [run_id, result.steps, result.weights]),
        training_run_id=run_id,
        step=result.steps,
        adapter=folder / "adapter",
        adapter_sha256=result.adapter_sha256,
        merged=folder / ("merged" if job.answers else "adapter"),
        weights=result.weights,
    )
