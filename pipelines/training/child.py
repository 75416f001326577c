"""What every training process does around its objective: alone on its folder, and resumable.

Killed at any moment and started again, it goes on from the last whole checkpoint, or from the last
finished product: adapter, merged copy, probe. Nothing heavy is imported before the lock is held.
"""

import errno
import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.training import cores, ranks
from pipelines.training.job import (
    DONE,
    FULL,
    LOCKED,
    PAUSED,
    REFUSED,
    Job,
    PpoJob,
    Result,
    RunFolder,
    read_job,
)
from pipelines.training.journal import Journal, Metric, Reader
from pipelines.training.resume import last_sealed, step_of
from teachers.errors import GuardTripped, PreceptorError
from teachers.files import sha256_of, write_whole
from teachers.process import started_at
from teachers.weights import checked

Train = Callable[[Any, RunFolder, Journal, Path | None], None]
"""An objective: trains from a checkpoint or from the start, and leaves the adapter.

Its first argument is the kind of job that has its module as `Job.module`.
"""

_BEGAN = time.monotonic()
_ADAPTER = "adapter_model.safetensors"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch and safetensors write with code of their own and say it in words.
_FULL_WORDS = re.compile(
    r"No space left|File too large|os error (28|27|122)"
    r"|inline_container.*(unexpected pos|write failed)"
)


def as_child(folder: Path, train: Train) -> int:
    """Do a run's work unless it is done or somebody else is at it; returns the exit code.

    Anything unforeseen is raised, for the log.
    """
    run = RunFolder(folder)
    if ranks.rank() > 0:
        code = _coded(folder, lambda: _follow(run, train))
        # Threads of torch's may be at work for a moment still, and would abort an orderly exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return _coded(folder, lambda: _lead(run, train))


def _coded(folder: Path, work: Callable[[], None]) -> int:
    """Do the work; returns the exit code that says how it ended."""
    try:
        work()
        return DONE
    except Timeout:
        return _end(LOCKED, f"Another process is training in {folder}.")
    except GuardTripped as tripped:
        return _end(PAUSED, tripped.message)
    except PreceptorError as refused:
        return _end(REFUSED, refused.message)
    except Exception as failed:
        if any(map(_no_space, _chain(failed))):
            return _end(FULL, f"There is no space left for {folder}.")
        raise


def _lead(run: RunFolder, train: Train) -> None:
    with FileLock(run.lock, blocking=False):
        if not run.result.is_file():
            me = {"pid": os.getpid(), "started": started_at(os.getpid())}
            write_whole(run.process, json.dumps(me))
            write_whole(run.result, _work(run, train).model_dump_json())


def _follow(run: RunFolder, train: Train) -> None:
    """The work of a process that is not the first: the books are that one's.

    What is left once the adapter is there, the first does alone.
    """
    job = read_job(run.job)
    _refuse_strangers(job)
    if not run.adapter.is_dir():
        with Journal(Path(os.devnull)) as unheard:
            train(job, run, unheard, None)


def _refuse_strangers(job: Job) -> None:
    """Only PPO shares its work; another trainer would do all of it in each process."""
    ranks.refuse_strangers(job.processes if isinstance(job, PpoJob) else 1)


def _work(run: RunFolder, train: Train) -> Result:
    job = read_job(run.job)
    _refuse_strangers(job)
    checkpoint = last_sealed(run.checkpoints)
    with Journal(run.journal) as journal:
        weights = _produce(job, run, journal, train, checkpoint)
    losses = [m for m in Reader(run.journal).new() if isinstance(m, Metric) and m.name == "loss"]
    return Result(
        steps=losses[-1].step,
        final_loss=losses[-1].value,
        seconds=time.monotonic() - _BEGAN,
        peak_bytes=_peak_bytes(),
        adapter_sha256=sha256_of(run.adapter / _ADAPTER),
        weights=weights,
        resumed_from=step_of(checkpoint) if checkpoint else 0,
    )


def _produce(
    job: Job, run: RunFolder, journal: Journal, train: Train, checkpoint: Path | None
) -> str:
    """Train, merge and measure, leaving out what is there; returns the product's fingerprint."""
    journal.phase("load the training libraries")
    from pipelines.training import models

    cores.use()
    if not run.adapter.is_dir():
        train(job, run, journal, checkpoint)
        gc.collect()  # a trainer is a knot of cycles with the model inside
    if not job.answers:
        return sha256_of(run.adapter / _ADAPTER)
    if not run.merged.is_dir():
        journal.phase("merge the adapter into the base")
        models.merge(job, run.adapter, run.merged)
    weights = checked(run.merged).fingerprint
    if not run.probe.is_file():
        journal.phase("measure base and student")
        folders = {job.base_weights: job.base, weights: run.merged}
        write_whole(run.probe, json.dumps(models.measured(job, folders)))
    return weights


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_space(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return bool(_FULL_WORDS.search(str(error)))


def _end(code: int, message: str) -> int:
    with suppress(OSError):  # the log may be on the disk that is full
        sys.stderr.write(f"{message}\n")
    return code
