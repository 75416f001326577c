"""A user's own SQL: read-only, on a connection of its own, bounded in time, rows and bytes."""

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.store.connection import damaged, sqlite3
from teachers.errors import QueryRefused, StoreError

TIME_LIMIT_S = 5.0
ROW_LIMIT = 1000
BYTE_LIMIT = 16 * 1024 * 1024
# Functions that make big values out of small queries, or leave the database.
DENIED = {
    "load_extension",
    "zeroblob",
    "randomblob",
    "printf",
    "format",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
}
_ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


# What SQLite says of a file that is no database, or whose pages do not fit together.
_DAMAGE = re.compile(r"not a database|disk image is malformed|malformed database schema")


class Rows(NamedTuple):
    """The answer to a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool
    """Whether there was more than the limits let through."""


def query(
    store: Path,
    sql: str,
    parameters: dict[str, Any] | None = None,
    *,
    rows: int = ROW_LIMIT,
    seconds: float = TIME_LIMIT_S,
) -> Rows:
    """Run one SELECT.

    Raises:
        QueryRefused: it is no single SELECT, is wrong, asks for something forbidden or ran too
            long.
        StoreError: there is no store, or it is damaged.
    """
    if not store.is_file():
        raise StoreError(f"There is no store at {store}.", hint="preceptor init makes one.")
    connection = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        _guard(connection, seconds)
        return _fetch(connection, sql, parameters or {}, rows)
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise QueryRefused(
                f"The query ran longer than {seconds:g} s and was stopped.",
                hint="Narrow it down, or raise the limit with --seconds.",
            ) from error
        if _DAMAGE.search(str(error)):
            raise damaged(store, error) from error
        raise QueryRefused(f"{error}.", hint=_HELP) from error
    except sqlite3.DatabaseError as error:
        if _DAMAGE.search(str(error)):
            raise damaged(store, error) from error
        forbidden = "not authorized" in str(error) or "prohibited" in str(error)
        reason = "Only SELECT is possible here, without " + ", ".join(sorted(DENIED))
        raise QueryRefused(f"{reason}." if forbidden else f"{error}.") from error
    except (sqlite3.Warning, sqlite3.ProgrammingError, ValueError, OverflowError) as error:
        raise QueryRefused(f"{error}.", hint="One SELECT at a time.") from error
    finally:
        connection.close()


_HELP = 'preceptor query "select name, sql from sqlite_master" shows every table.'


def _guard(connection: Any, seconds: float) -> None:
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 5000)
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_PRAGMA and first == "data_version":  # full-text search asks it
        return int(sqlite3.SQLITE_OK)
    if action not in _ALLOWED_ACTIONS:
        return int(sqlite3.SQLITE_DENY)
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in DENIED:
        return int(sqlite3.SQLITE_DENY)
    return int(sqlite3.SQLITE_OK)


def _fetch(connection: Any, sql: str, parameters: dict[str, Any], most: int) -> Rows:
    cursor = connection.execute(sql, parameters)
    if cursor.description is None:
        raise QueryRefused("That is no SELECT.", hint="One SELECT at a time.")
    columns = [column[0] for column in cursor.description]
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(found) == most or size > BYTE_LIMIT:
            return Rows(columns, found, True)
        found.append(row)
    return Rows(columns, found, False)
