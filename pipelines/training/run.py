"""The parent's side of a training run: starts the process or adopts it, and tells what it does.

The process is in a session of its own and outlives us when we are killed; the next call adopts it.
When we are cancelled it is stopped, and the next call resumes from its last checkpoint.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import NamedTuple

from pipelines.training.job import FULL, LOCKED, PAUSED, REFUSED, Job, Result, RunFolder, read_job
from pipelines.training.journal import Metric, Phase, Reader
from teachers.engine import tail
from teachers.errors import GuardTripped, TrainingError
from teachers.files import write_whole
from teachers.process import alive, kill_group
from teachers.progress import Progress
from teachers.weights import QUIET, child_environment

OnMetric = Callable[[list[Metric]], Awaitable[None]]

POLL_S = 0.2
# A trainer gets what it needs to find its libraries and its cores. No keys, no tokens.
_PASSED_ON = {
    *("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"),
    *("CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *(
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "HF_HOME",
        "HF_HUB_OFFLINE",
        "XDG_CACHE_HOME",
    ),
    *QUIET,
}


async def train(
    job: Job,
    folder: Path,
    on_metric: OnMetric,
    progress: Progress,
    keys: Collection[str] = (),
) -> Result:
    """Bring a training run to its end, wherever it stands.

    Args:
        folder: of this run alone; what is finished in it is not done again.
        on_metric: given the metrics as they come, and all of them again after a restart.
        keys: variables of the environment that hold keys, and that the process needs.

    Raises:
        TrainingError: it failed and would fail again, or failed twice, or the disk is full.
    """
    run = RunFolder(folder)
    _claim(run, job)
    telling = _Telling(run, on_metric, progress)
    retried = False
    try:
        while not run.result.is_file():
            heard = telling.heard
            code = await telling.follow(_running(run) or _start(run, job.module, keys))
            if run.result.is_file() or code is None or (code == LOCKED and _running(run)):
                continue  # done; or an adopted process ended; or there is one to adopt
            if (
                retried
                or code in (REFUSED, FULL, PAUSED)
                or (telling.heard == heard and code != LOCKED)
            ):
                raise _failure(run, code)
            progress.say("the training process died; going on from its last checkpoint")
            retried = True
    finally:
        telling.end()
    return Result.model_validate_json(run.result.read_text())


class _Process(NamedTuple):
    pid: int
    started: float
    ours: subprocess.Popen[bytes] | None = None
    """None if it is adopted: then nobody learns how it ended."""

    def ended(self) -> bool:
        if self.ours is not None:
            return self.ours.poll() is not None
        return not alive(self.pid, self.started)

    def stop(self) -> None:
        kill_group(self.pid)
        if self.ours is not None:
            self.ours.wait()


class _Telling:
    """Passes on what a run's journal says, whichever process writes it."""

    def __init__(self, run: RunFolder, on_metric: OnMetric, progress: Progress) -> None:
        self._reader = Reader(run.journal)
        self._on_metric = on_metric
        self._progress = progress
        self._phase: Phase | None = None
        self.heard = 0
        """Metrics so far."""

    async def follow(self, process: _Process) -> int | None:
        """Returns the exit code once the process has ended, None if it was adopted."""
        try:
            while True:
                ended = process.ended()  # asked first, so that its last lines are read
                await self._pass_on()
                if ended:
                    return process.ours.returncode if process.ours else None
                await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            process.stop()
            raise

    async def _pass_on(self) -> None:
        entries = self._reader.new()
        metrics = [entry for entry in entries if isinstance(entry, Metric)]
        if metrics:
            self.heard += len(metrics)
            await self._on_metric(metrics)
        # After a restart of ours all phases come at once: only the last is worth a line.
        if phases := [entry for entry in entries if isinstance(entry, Phase)]:
            self.end()
            self._phase = phases[-1]
            self._progress.begin(*self._phase)
        losses = [metric for metric in metrics if metric.name == "loss"]
        if losses and self._phase and self._phase.total:
            self._progress.update(losses[-1].step, f"loss {losses[-1].value:.3f}")

    def end(self) -> None:
        if self._phase:
            self._progress.end()
            self._phase = None


def _claim(run: RunFolder, job: Job) -> None:
    if run.job.is_file() and not read_job(run.job).same_as(job):
        raise TrainingError(f"{run.root} belongs to another training run; its job.json differs.")
    try:
        run.root.mkdir(parents=True, exist_ok=True)
        write_whole(run.job, job.model_dump_json(indent=2))
    except OSError as broken:
        raise TrainingError(f"{run.root} cannot be written: {broken}") from broken


def _running(run: RunFolder) -> _Process | None:
    """The process at work on this run, if one lives."""
    try:
        process = _Process(**json.loads(run.process.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return None if process.ended() else process


def environment(keys: Collection[str] = ()) -> dict[str, str]:
    """What a training process finds in its environment.

    Args:
        keys: names of variables with keys that it needs.
    """
    passed_on = _PASSED_ON.union(keys)
    ours = {name: value for name, value in child_environment().items() if name in passed_on}
    # Waiting threads soon sleep. Spinning as long as they do by default, they take the cores from
    # each other wherever something else runs too: a step of SmolLM2-135M on two cores then took
    # 28 s, and 5 s without any spinning; alone, 2.3 s with this much and 2.6 s with none.
    return {"GOMP_SPINCOUNT": "10000", **ours}


def _start(run: RunFolder, module: str, keys: Collection[str]) -> _Process:
    with run.log.open("ab") as log:
        ours = subprocess.Popen(
            # Unbuffered: a log that cannot be flushed to a full disk would change the exit code.
            [sys.executable, "-u", "-m", module, str(run.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(keys),
            start_new_session=True,
        )
    return _Process(ours.pid, 0.0, ours)


def _failure(run: RunFolder, code: int) -> TrainingError:
    if code == PAUSED:
        found = json.loads(run.paused.read_text())
        return GuardTripped(
            "Training paused: the reward may be hacked.\n"
            + "\n".join(f"  {one['name']}: {one['evidence']}" for one in found),
            hint="\n".join(one["todo"] for one in found),
        )
    if code == FULL:
        return TrainingError(
            f"There is no space left for the training run {run.root}.",
            hint="Free some and run again: it goes on from its last checkpoint.",
        )
    if code in (REFUSED, LOCKED):
        return TrainingError(tail(run.log, 1), hint=f"The log is {run.log}.")
    return TrainingError(
        f"The training process ended with code {code}.",
        hint=f"The log {run.log} ends:\n{tail(run.log, 12)}",
    )
