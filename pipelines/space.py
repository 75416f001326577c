"""Room on the disk: enough to go on with, and what is removed to get it.

Of training runs that are done, first the trainer's own checkpoints go: optimizer, scheduler and
generators, from which a run that was killed would have gone on. Then the merged copies of students
that nobody asks for by an alias, which can be made again (`pipelines.copies`). Adapters,
measurements, answers and the store are never touched.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

from pipelines import copies
from pipelines.home import Home
from pipelines.training.job import RunFolder
from teachers.errors import StoreFull
from teachers.progress import Progress

MIB, GIB = 1024**2, 1024**3
FLOOR_BYTES = 1 * GIB
"""No stage of a round begins with less."""
NEWEST = 3
"""Students whose copies stay: rounds under way measure them, and go on from them."""


class Leftover(NamedTuple):
    """What a finished training run can do without."""

    run_id: str
    what: str
    files: tuple[Path, ...]
    """Or folders."""
    size: int
    """In bytes."""


def leftovers(db: Database) -> Iterator[Leftover]:
    """The trainers' checkpoints that there are, those of the oldest runs first."""
    rows = db.execute(
        "select id, folder from training_runs where state = 'done' order by ended_at, id"
    ).fetchall()
    for run_id, folder in rows:
        run = RunFolder(Path(folder))
        # Whatever the store says: without these two it is not done.
        if run.checkpoints.is_dir() and run.result.is_file() and run.adapter.is_dir():
            size = _size(run.checkpoints.rglob("*"))
            yield Leftover(run_id, "optimizer's state", (run.checkpoints,), size)


def spare_copies(db: Database, needed: Collection[str] = ()) -> Iterator[Leftover]:
    """The weights of merged copies that can be made again; what was trained on another one is named
    before that.

    Each is merged in memory before it is named here, to see that it comes out the same.

    Args:
        needed: fingerprints of models that are about to be opened.
    """
    rows = db.execute(
        "select training_run_id, merged_path, weights from checkpoints"
        " join training_runs on training_runs.id = training_run_id"
        " where adapter_path <> merged_path and training_runs.state = 'done'"
        " and checkpoints.id not in"
        " (select checkpoint_id from aliases where checkpoint_id is not null)"
        " and checkpoints.id not in (select id from checkpoints where adapter_path <> merged_path"
        " order by created_at desc, rowid desc limit ?)"
        " order by created_at desc, checkpoints.rowid desc",
        (NEWEST,),
    ).fetchall()
    for run_id, path, weights in rows:
        run, files = RunFolder(Path(path).parent), tuple(Path(path).glob("*.safetensors"))
        if files and weights not in needed and copies.can_be_made_again(run):
            yield Leftover(run_id, "merged copy", files, _size(files))


def remove(one: Leftover) -> int:
    """Returns the bytes that are free again."""
    for path in one.files:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return 0 if any(path.exists() for path in one.files) else one.size


def make_room(
    db: Database,
    home: Home,
    progress: Progress,
    needed: Collection[str] = (),
    floor: int | None = None,
) -> None:
    """See to it that there is room to go on with.

    Args:
        needed: fingerprints of models that are about to be opened.
        floor: how much, in bytes; `FLOOR_BYTES` if not given.

    Raises:
        StoreFull: there is too little, and nothing left to remove.
    """
    floor = FLOOR_BYTES if floor is None else floor
    waiting, freed = chain(leftovers(db), spare_copies(db, needed)), 0
    while (free := _free(home)) < floor:
        if (one := next(waiting, None)) is None:
            raise StoreFull(
                f"{home.root} has {free / MIB:.0f} MiB of room left, and a round needs "
                f"{floor / MIB:.0f} to go on.",
                hint="Free some, and go on with the same command, or with preceptor runs resume: "
                "what is finished is kept. preceptor rows training_runs names the folders of "
                "training runs.",
            )
        freed += remove(one)
    if freed:
        progress.say(f"removed {freed / MIB:.0f} MiB that finished training runs can do without")


def _free(home: Home) -> int:
    return shutil.disk_usage(home.root).free


def _size(paths: Iterable[Path]) -> int:
    return sum(one.stat().st_size for one in paths if one.is_file())
