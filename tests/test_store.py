"""The store's ground: opening, migrations, the SQLite gate, transactions, the writer's promise."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from pipelines.store.connection import (
    Version,
    bounded,
    connect,
    loaded_version,
    sqlite3,
    transaction,
    wal_is_safe,
)
from pipelines.store.migrations import MIGRATIONS
from pipelines.store.rounds import open_round
from pipelines.store.writer import Writer
from teachers.errors import StoreError, StoreFull

SAFE, AFFECTED = Version(3, 51, 3), Version(3, 40, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    db = connect(path)
    yield db
    db.close()


def adds(number: int) -> Callable[[Database], int]:
    """A write that is known by its number."""

    def add(db: Database) -> int:
        open_round(db, f"r{number}", "a round", number, "{}")
        return number

    return add


def breaks(db: Database) -> int:
    """A write that fails half-way."""
    adds(1000)(db)
    db.execute("insert into stages values ('no such round', 's', 'running', 0, 0, '')")
    return 0


def numbers(path: Path) -> list[int]:
    db = connect(path)
    found = [row[0] for row in db.execute("select number from rounds order by number")]
    db.close()
    return found


def children(*programs: str) -> list[str]:
    """Run Python programs at the same time; returns what they printed."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for program in programs
    ]
    return [child.communicate()[0].decode() for child in started]


def test_the_schema_is_made_once_and_opened_twice(path: Path) -> None:
    first = connect(path)
    schema = first.schema
    assert not MIGRATIONS.pending(first)
    first.close()
    second = connect(path)
    assert second.schema == schema
    second.close()


def test_every_table_is_strict(db: Database) -> None:
    loose = "select name from pragma_table_list where type = 'table' and not strict"
    names = {row[0] for row in db.execute(loose)}
    assert {name for name in names if not name.startswith(("sqlite_", "_"))} == set()


def test_the_pragmas_are_set(db: Database) -> None:
    def value(pragma: str) -> object:
        return db.execute(f"PRAGMA {pragma}").fetchone()[0]

    assert value("synchronous") == 2
    assert value("foreign_keys") == 1
    assert value("trusted_schema") == 0
    assert value("journal_mode") == ("wal" if wal_is_safe(loaded_version()) else "delete")


def test_two_processes_that_make_the_store_at_once_make_one(path: Path) -> None:
    program = (
        f"from pipelines.store.connection import *; from pathlib import Path\n"
        f"db = connect(Path({str(path)!r})); print(len(db.table_names()))"
    )
    counts = children(*[program] * 4)
    assert len(set(counts)) == 1, counts
    assert int(counts[0]) > 10


def test_who_comes_while_another_makes_the_store_waits(path: Path) -> None:
    path.parent.mkdir(parents=True)
    other = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
    other.execute("create table something (x)")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.5, other.execute, ["COMMIT"])
    done.start()
    db = connect(path)
    assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
    done.join()
    other.close()
    db.close()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 6, 23), True),
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_the_gate_knows_the_releases_that_corrupt_wal_files(
    version: tuple[int, int, int], safe: bool
) -> None:
    assert wal_is_safe(Version(*version)) is safe


def test_an_affected_sqlite_gets_the_old_journal(path: Path) -> None:
    db = connect(path, version=AFFECTED)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    db.close()
    db = connect(path, version=SAFE)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_an_affected_sqlite_does_not_open_a_wal_file(path: Path) -> None:
    connect(path, version=SAFE).close()
    with pytest.raises(StoreError, match=r"WAL mode, and SQLite 3\.40\.1") as refused:
        connect(path, version=AFFECTED)
    assert "pysqlite3" in refused.value.hint


@pytest.mark.parametrize("content", [b"just text, " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError):
        connect(path)
    assert path.read_bytes() == content


def test_a_folder_in_the_stores_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be opened"):
        connect(path)


def test_a_transaction_is_all_or_nothing(db: Database, path: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        breaks(db)
    assert numbers(path) == []
    with transaction(db):
        adds(2)(db)
    assert numbers(path) == [2]


def test_readers_that_write_later_are_never_locked_out(path: Path) -> None:
    connect(path).close()
    program = f"""if True:
        from pathlib import Path
        from pipelines.store.connection import connect, transaction
        db = connect(Path({str(path)!r}))
        db.execute("create table if not exists tally (n integer)")
        for _ in range(400):
            with transaction(db):
                seen = db.execute("select count(*) from tally").fetchone()[0]
                db.execute("insert into tally values (?)", (seen,))
        print("done")"""
    assert children(program, program) == ["done\n", "done\n"]
    db = connect(path)
    rows = [row[0] for row in db.execute("select n from tally order by n")]
    db.close()
    # Each saw all that were written before it: no two read the same count.
    assert rows == list(range(800))


def test_the_writer_gives_back_what_the_change_returns(path: Path) -> None:
    async def write() -> list[int]:
        with Writer(path) as writer:
            return await asyncio.gather(*(writer.commit(adds(n)) for n in range(1200)))

    assert asyncio.run(write()) == list(range(1200))
    assert numbers(path) == list(range(1200))


def test_a_change_that_fails_does_not_hurt_its_neighbours(path: Path) -> None:
    async def write() -> list[object]:
        with Writer(path) as writer:
            changes = [breaks if n % 5 == 0 else adds(n) for n in range(50)]
            return await asyncio.gather(*map(writer.commit, changes), return_exceptions=True)

    outcomes = asyncio.run(write())
    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert failed == list(range(0, 50, 5))
    assert numbers(path) == [n for n in range(50) if n % 5]


def test_a_cancelled_task_does_not_take_its_write_back(path: Path) -> None:
    async def write() -> None:
        with Writer(path) as writer:
            task = asyncio.create_task(writer.commit(adds(1)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await writer.commit(adds(2))

    asyncio.run(write())
    assert numbers(path) == [1, 2]


def test_a_read_that_takes_too_long_is_given_up(db: Database) -> None:
    forever = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
    with pytest.raises(StoreError, match=r"longer than 0\.1 s"), bounded(db, 0.1):
        db.execute(forever)
    with pytest.raises(sqlite3.OperationalError, match="no such table"), bounded(db, 0.1):
        db.execute("select * from nowhere")
    tenth = forever.replace("from n)", "from n where i < 100000)")
    assert db.execute(tenth).fetchone() == (100_000,), "and what comes after has all its time"


def test_a_store_that_cannot_be_opened_is_said_at_once(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be opened"):
        Writer(path)


@pytest.mark.fault
def test_what_the_writer_confirmed_survives_a_kill(path: Path) -> None:
    program = f"""if True:
        import asyncio, itertools
        from pathlib import Path
        from pipelines.store.writer import Writer
        from tests.test_store import adds
        numbers = itertools.count()
        async def work(writer):
            while True:
                print(await writer.commit(adds(next(numbers))), flush=True)
        async def main():
            with Writer(Path({str(path)!r})) as writer:
                await asyncio.gather(*(work(writer) for _ in range(8)))
        asyncio.run(main())"""
    for _ in range(3):
        path.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        confirmed = [int(child.stdout.readline()) for _ in range(100)]
        child.kill()
        # What it printed before the kill and we had not read yet.
        rest = child.stdout.read()
        confirmed += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        child.stdout.close()
        child.wait()
        stored = numbers(path)
        assert set(confirmed) <= set(stored)
        # At most the writes that were in flight are there without having been confirmed.
        assert len(stored) - len(confirmed) <= 8


async def fill(writer: Writer) -> list[int]:
    """Write, eight at a time, until there is no space; returns what was confirmed."""
    kept: list[int] = []
    for first in range(0, 100_000, 8):
        writes = (writer.commit(adds(number)) for number in range(first, first + 8))
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        kept += [outcome for outcome in outcomes if isinstance(outcome, int)]
        if failed := [outcome for outcome in outcomes if not isinstance(outcome, int)]:
            assert {type(error) for error in failed} == {StoreFull}
            assert "run the same command again" in str(failed[0])
            return kept
    raise AssertionError("the store never got full")


@pytest.mark.fault
def test_a_full_store_says_so_keeps_what_it_has_and_goes_on(path: Path) -> None:
    def limits(db: Database) -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 20}")

    def frees(db: Database) -> None:
        db.execute("PRAGMA max_page_count = 1000000")

    async def write() -> list[int]:
        with Writer(path) as writer:
            await writer.commit(limits)
            kept = await fill(writer)
            await writer.commit(frees)
            return [*kept, await writer.commit(adds(100_000))]

    kept = asyncio.run(write())
    assert numbers(path) == sorted(kept)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.fault
def test_a_full_disk_loses_nothing_that_was_confirmed(small_disk: Path) -> None:
    async def write() -> list[int]:
        with Writer(small_disk / "store.db") as writer:
            (small_disk / "ballast").write_bytes(b"x" * 200_000)
            kept = await fill(writer)
            (small_disk / "ballast").unlink()
            return [*kept, await writer.commit(adds(100_000))]

    kept = asyncio.run(write())
    assert len(kept) > 100
    assert numbers(small_disk / "store.db") == sorted(kept)
