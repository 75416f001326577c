"""Merged copies: what model servers load of a student.

Each is as large as its base, and all that it is made of is an adapter. So where room is wanted they
are removed, and whoever needs one gets it merged again, proven by its fingerprint.
"""

import subprocess
import sys
from pathlib import Path

from sqlite_utils import Database

from pipelines.store import checkpoints
from pipelines.store.checkpoints import Checkpoint
from pipelines.training.job import RunFolder, read_job
from teachers.errors import WeightsError
from teachers.files import sha256_of
from teachers.progress import Progress, step
from teachers.weights import Weights, checked, child_environment, last_line, whole

_COMMAND = (sys.executable, "-m", "pipelines.training.merge")


def merged(db: Database, checkpoint: Checkpoint, progress: Progress) -> Weights:
    """A checkpoint's merged weights; those that were removed are merged again, which takes as long
    as reading and writing the model.

    Raises:
        WeightsError: it is a reward model, or its files are not those that were trained and cannot
            be made again.
    """
    if not checkpoint.answers:
        raise WeightsError(
            f"{checkpoint.id[:16]} is a reward model: it scores answers, and gives none.",
            hint="preceptor score puts it to use.",
        )
    if not whole(checkpoint.merged):
        _merge_again(db, checkpoint, progress)
    weights = checked(checkpoint.merged)
    if weights.fingerprint != checkpoint.weights:
        raise WeightsError(
            f"{checkpoint.merged} is not what was trained: its files have changed.",
            hint="Put its files back, or remove its *.safetensors: they are merged again. Where it "
            "is the champion, preceptor rollback serves the one before it.",
        )
    return weights


def base_of(db: Database, path: Path, weights: str, progress: Progress) -> Path:
    """What something was trained on; if that is a student whose copy was removed, it is there
    again.

    Args:
        path: where it was.
        weights: its fingerprint.

    Raises:
        WeightsError: it is not there any more.
    """
    if not whole(path):
        sql = "select id from checkpoints where weights = ? and merged_path = ?"
        for (name,) in db.execute(sql, (weights, str(path))).fetchall():
            merged(db, checkpoints.checkpoint(db, name), progress)
    return checked(path).path


def has_its_adapter(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's adapter is there, and is what was trained."""
    kept = checkpoint.adapter / "adapter_model.safetensors"
    return kept.is_file() and sha256_of(kept) == checkpoint.adapter_sha256


def can_be_made_again(run: RunFolder) -> bool:
    """Whether merging again gives this copy, bit by bit, by doing it in memory."""
    if not (run.adapter.is_dir() and run.result.is_file() and whole(read_job(run.job).base)):
        return False
    return _child(run, "--compare").returncode == 0


def _merge_again(db: Database, checkpoint: Checkpoint, progress: Progress) -> None:
    run = RunFolder(checkpoint.merged.parent)
    if not (run.adapter.is_dir() and run.result.is_file()):
        raise WeightsError(f"{checkpoint.merged} is not there, nor what it would be made of.")
    job = read_job(run.job)
    base_of(db, job.base, job.base_weights, progress)
    with step(progress, f"merge {checkpoint.id[:12]} again"):
        ended = _child(run)
    if ended.returncode:
        raise WeightsError(
            f"{checkpoint.merged} was removed, and cannot be made again: {last_line(ended.stderr)}",
            hint="The same round with another train.seed trains another.",
        )


def _child(run: RunFolder, *how: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*_COMMAND, str(run.root), *how],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )
