"""Stored answers are given their scores by a reward model, in a process of its own.

A score is kept as it comes, so nothing is scored twice; whoever stops goes on from there.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

from pipelines.copies import base_of, has_its_adapter
from pipelines.source import CHECKPOINT
from pipelines.store import checkpoints, reward_scores, rounds
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.reward_scores import RewardScore
from pipelines.training.job import RewardJob
from pipelines.training.run import environment
from pipelines.training.score_job import Scorable, Scored, ScoreFolder, ScoreJob
from pipelines.workbench import Workbench
from teachers.engine import tail, this_device
from teachers.errors import ConfigError, TrainingError, Uncertified
from teachers.files import Growing
from teachers.process import kill_group
from teachers.progress import Progress, step
from teachers.records import Message, content_id

POLL_S = 0.2

Keep = Callable[[Sequence[Scored]], Awaitable[None]]


class Answer(NamedTuple):
    """A stored answer, and the question it is scored as an answer to."""

    sample_id: str
    question: tuple[Message, ...]
    text: str


async def scored(
    bench: Workbench, model: Checkpoint, answers: Sequence[Answer], what: str
) -> list[float]:
    """Each answer's score as the head reads it, in order.

    Raises:
        ConfigError: the checkpoint is no reward model.
        TrainingError: its files have changed, or the scoring process failed.
    """
    job = score_job(bench.db, model, bench.progress)
    ids = [_id(model, one) for one in answers]
    stored = reward_scores.known(bench.db, ids)
    missing = {name: one for name, one in zip(ids, answers, strict=True) if name not in stored}
    if missing:
        await bench.stop_engine_on_gpu()
        with step(bench.progress, what, len(missing)):
            await _score(bench, model, job, missing)
        stored = reward_scores.known(bench.db, ids)
    return [stored[name] for name in ids]


def _id(model: Checkpoint, one: Answer) -> str:
    question = [message.model_dump() for message in one.question]
    return content_id("reward_score", [model.adapter_sha256, question, one.text])


_TRAINED_BY = (
    "A round with train.objective: reward trains a reward model and measures it: "
    "preceptor run recipes/reward.yaml"
)


def reward_model(db: Database, name: str) -> Checkpoint:
    """A reward model that has passed its appraisal.

    Args:
        name: a checkpoint's, `checkpoint:` before it or not.

    Raises:
        ConfigError: there is no such checkpoint.
        Uncertified: it has not been appraised, or did not pass; with its figures.
    """
    try:
        model = checkpoints.checkpoint(db, name.removeprefix(CHECKPOINT))
    except ConfigError as unknown:
        raise ConfigError(unknown.message, hint=f"{unknown.hint}\n  {_TRAINED_BY}") from unknown
    report = rounds.appraisal_of(db, model.id)
    if report is None:
        raise Uncertified(
            f"{name} has never been appraised as a reward model.",
            hint=_TRAINED_BY,
        )
    if not report["passed"]:
        hits, n, low, high = report["accuracy"]
        raise Uncertified(
            f"The reward model {name} did not pass on {n} held-out pairs: {hits / n:.0%} right "
            f"[{low:.0%}, {high:.0%}].\n" + "\n".join(f"  {one}" for one in report["faults"]),
            hint="Train it on more pairs, or for longer, and run its recipe again.",
        )
    return model


def score_job(db: Database, model: Checkpoint, progress: Progress) -> ScoreJob:
    """What a process is told that scores with a reward model.

    Raises:
        ConfigError: the checkpoint is no reward model.
        TrainingError: its files have changed.
        WeightsError: what it was trained on is not there.
    """
    if model.answers:
        raise ConfigError(
            f"{model.id[:16]} is no reward model.", hint="train.objective: reward trains one."
        )
    if not has_its_adapter(model):
        raise TrainingError(f"{model.adapter} is not what was trained: its files have changed.")
    trained = RewardJob.model_validate_json(checkpoints.job_of(db, model))
    base = base_of(db, trained.base, trained.base_weights, progress)
    return ScoreJob(base=base, adapter=model.adapter, device=this_device())


async def _score(
    bench: Workbench, model: Checkpoint, job: ScoreJob, missing: Mapping[str, Answer]
) -> None:
    rows = [
        Scorable(
            id=name,
            question=one.question,
            answer=Message(role="assistant", content=one.text),
        )
        for name, one in missing.items()
    ]
    kept = 0

    async def keep(scores: Sequence[Scored]) -> None:
        nonlocal kept
        sha256 = model.adapter_sha256
        found = [
            RewardScore(one.id, sha256, missing[one.id].sample_id, one.score) for one in scores
        ]
        await bench.writer.commit(partial(reward_scores.add, scores=found))
        kept += len(found)
        bench.progress.update(kept)

    await score(job, rows, bench.home.root, keep)


async def score(job: ScoreJob, rows: Sequence[Scorable], root: Path, keep: Keep) -> None:
    """Have a process score rows.

    Args:
        root: where its folder is made for as long as it works.
        keep: given the scores as they come.

    Raises:
        TrainingError: the process failed; its log's last lines are in the hint.
    """
    with tempfile.TemporaryDirectory(prefix="score-", dir=root) as name:
        folder = ScoreFolder(Path(name))
        folder.job.write_text(job.model_dump_json())
        folder.rows.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
        with folder.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-m", "pipelines.training.score", name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        try:
            await _follow(process, folder, keep)
        finally:
            if process.returncode is None:
                kill_group(process.pid)
                await process.wait()


async def _follow(process: asyncio.subprocess.Process, folder: ScoreFolder, keep: Keep) -> None:
    lines, ended = Growing(folder.scores), False
    while not ended:
        await asyncio.sleep(POLL_S)
        ended = process.returncode is not None  # asked first, so that its last lines are read
        if scores := [Scored.model_validate_json(line) for line in lines.new()]:
            await keep(scores)
    if process.returncode:
        raise TrainingError(
            f"The scoring process ended with code {process.returncode}.",
            hint=f"Its log ends:\n{tail(folder.log, 12)}",
        )
