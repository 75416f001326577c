"""Whether a store file is sound, found out without changing it."""

from pathlib import Path
from typing import NamedTuple

from pipelines.store.connection import loaded_version, sqlite3, wal_is_safe


class Health(NamedTuple):
    """What a store file says of itself."""

    journal: str
    """SQLite's journal mode: `wal` or `delete`."""
    problem: str
    """What is wrong, or nothing."""


def health(store: Path) -> Health:
    """Read a store's pages and look for damage; a few seconds per gigabyte."""
    try:
        connection = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            journal = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
            if journal == "wal" and not wal_is_safe(loaded_version()):
                return Health(journal, "it is in WAL mode, which this SQLite can corrupt")
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Health("", str(error))
    return Health(journal, "" if found == "ok" else found)
