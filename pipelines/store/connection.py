"""The one way to the SQLite file: every pragma is set here, and every write starts here."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]

from pipelines.store.migrations import MIGRATIONS
from teachers.errors import StoreError, StoreFull

BUSY_S = 20.0

__all__ = [
    "Version",
    "bounded",
    "connect",
    "damaged",
    "explained",
    "loaded_version",
    "now",
    "sqlite3",
    "transaction",
    "wal_is_safe",
]


class Version(NamedTuple):
    """A release of SQLite."""

    major: int
    minor: int
    patch: int


def loaded_version() -> Version:
    """The SQLite that this process uses: pysqlite3's, where it is installed."""
    major, minor, patch = (int(part) for part in sqlite3.sqlite_version.split(".")[:3])
    return Version(major, minor, patch)


def wal_is_safe(version: Version) -> bool:
    """Whether this release is free of the WAL-reset race (3.7.0 to 3.51.2), which loses commits.

    Fixed in 3.51.3 and, as back-ports, in 3.50.7 and 3.44.6: https://sqlite.org/wal.html
    """
    if version < Version(3, 7, 0) or version >= Version(3, 51, 3):
        return True
    return version[:2] in {(3, 50), (3, 44)} and version.patch >= {50: 7, 44: 6}[version.minor]


def connect(path: Path, *, version: Version | None = None) -> Database:
    """Open the store for reading and writing, bring its schema up to date.

    Args:
        path: the file; made with its folder if it is not there.
        version: the SQLite release to judge the journal by, for tests.

    Raises:
        StoreError: the file is no store, is damaged, or is in WAL mode under an affected SQLite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with explained(path):
        # Autocommit: Python then never opens a (deferred) transaction behind our back.
        connection = sqlite3.connect(
            str(path), timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        db = Database(connection)
        _choose_journal(db, path, version or loaded_version())
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
            db.execute(f"PRAGMA {pragma}")
        if MIGRATIONS.pending(db):
            with transaction(db):
                MIGRATIONS.apply(db)
    return db


@contextmanager
def transaction(db: Database) -> Iterator[Database]:
    """All of the block's writes, or none. Takes the write lock at once: a transaction that starts
    by reading and writes later fails with "locked" whenever somebody else wrote in between.

    Raises:
        StoreFull: the disk has no space left; nothing of the block was kept.
    """
    with explained():
        db.conn.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.conn.execute("COMMIT")
        except BaseException:
            # After "disk full" SQLite has rolled back already; another ROLLBACK would hide that.
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
            raise


@contextmanager
def bounded(db: Database, seconds: float) -> Iterator[None]:
    """Reads that are given up after so long.

    Raises:
        StoreError: they were.
    """
    deadline = time.monotonic() + seconds
    db.conn.set_progress_handler(lambda: int(time.monotonic() > deadline), 5000)
    try:
        yield
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise StoreError(f"Finding this in the store takes longer than {seconds:g} s.") from error
    finally:
        db.conn.set_progress_handler(None, 0)


def now() -> float:
    """Seconds since 1970, as the store writes them."""
    return round(time.time(), 3)


def _choose_journal(db: Database, path: Path, version: Version) -> None:
    current = str(db.execute("PRAGMA journal_mode").fetchone()[0])
    if wal_is_safe(version):
        _to_wal(db)
    elif current == "wal":
        raise StoreError(
            f"{path} is in WAL mode, and SQLite {'.'.join(map(str, version))} can corrupt it.",
            hint="pip install 'pysqlite3>=0.6.1', which brings a SQLite without that bug.",
        )
    else:
        db.execute("PRAGMA journal_mode=DELETE")


def _to_wal(db: Database) -> None:
    """Waits for whoever changes the same at this moment: SQLite itself gives up at once."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as busy:
            if "locked" not in str(busy) or time.monotonic() > end:
                raise
            time.sleep(0.02)


def damaged(path: Path, error: Exception) -> StoreError:
    """The error that a file is no store, or not a sound one any more."""
    return StoreError(
        f"{path} is not a sound store: {error}.",
        hint="Put a backup in its place, or move the file away to start an empty store; "
        "preceptor doctor tells whether it is sound then.",
    )


@contextmanager
def explained(path: Path | None = None) -> Iterator[None]:
    """Turn SQLite's own errors into ours, where a person has to act.

    Args:
        path: the store, while it is being opened.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error) or "disk I/O error" in str(error):
            raise StoreFull(
                f"There is no space left for the store ({error}).",
                hint="Free some space and run the same command again: what is committed is kept.",
            ) from error
        if path is not None:
            raise StoreError(f"{path} cannot be opened: {error}.") from error
        raise
    except sqlite3.DatabaseError as error:
        if path is None:
            raise
        raise damaged(path, error) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFull("There is no space left on the disk.") from error
        raise
