"""Room on the disk: enough to go on with, and what is removed to get it.

Removed are only the trainer's own checkpoints of training runs that are done: optimizer, scheduler
and generators, from which a run that was killed would have gone on. Adapters, merged copies,
measurements, answers and the store are never touched.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

from pipelines.home import Home
from pipelines.training.job import RunFolder
from teachers.errors import StoreFull
from teachers.progress import Progress

MIB, GIB = 1024**2, 1024**3
FLOOR_BYTES = 1 * GIB
"""No stage of a round begins with less."""


class Leftover(NamedTuple):
    """What a finished training run does not need any more."""

    run_id: str
    path: Path
    size: int
    """In bytes."""


def leftovers(db: Database) -> list[Leftover]:
    """All there are, those of the oldest runs first."""
    rows = db.execute(
        "select id, folder from training_runs where state = 'done' order by ended_at, id"
    ).fetchall()
    found = []
    for run_id, folder in rows:
        run = RunFolder(Path(folder))
        # Whatever the store says: without these two it is not done.
        if run.checkpoints.is_dir() and run.result.is_file() and run.adapter.is_dir():
            found.append(Leftover(run_id, run.checkpoints, _size(run.checkpoints)))
    return found


def prune(some: list[Leftover]) -> int:
    """Remove them; returns the bytes that they had."""
    for one in some:
        shutil.rmtree(one.path, ignore_errors=True)
    return sum(one.size for one in some if not one.path.exists())


def make_room(db: Database, home: Home, progress: Progress, floor: int = FLOOR_BYTES) -> None:
    """See to it that there is room to go on with.

    Raises:
        StoreFull: there is too little, and nothing left to remove.
    """
    waiting, freed = None, 0
    while (free := _free(home)) < floor:
        waiting = leftovers(db) if waiting is None else waiting
        if not waiting:
            raise StoreFull(
                f"{home.root} has {free / MIB:.0f} MiB of room left, and a round needs "
                f"{floor / MIB:.0f} to go on.",
                hint="Free some, and go on with the same command, or with preceptor runs resume: "
                "what is finished is kept. preceptor rows training_runs names the folders of "
                "training runs.",
            )
        freed += prune([waiting.pop(0)])
    if freed:
        progress.say(f"removed {freed / MIB:.0f} MiB of finished training runs' checkpoints")


def _free(home: Home) -> int:
    return shutil.disk_usage(home.root).free


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
