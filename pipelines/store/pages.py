"""Pages of a table: filtered, searched, the newest first, each found again by a cursor.

A cursor is a place in the order of insertion, so rows that come meanwhile move nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlite_utils import Database

from teachers.errors import ConfigError


class Page(NamedTuple):
    """Some rows, and where the next ones are."""

    rows: list[dict[str, Any]]
    after: str | None
    """The cursor of the last row, if there are more."""


def page(
    db: Database,
    table: str,
    columns: Sequence[str],
    where: Mapping[str, Any],
    *,
    words: str = "",
    after: str = "",
    limit: int = 50,
) -> Page:
    """A page of a table.

    Args:
        table: its name; like those of columns, never a user's text.
        where: the values that columns have to have.
        words: only rows whose text has all of these; the table is one with a full-text index.
        after: the cursor of the last row before this page.
        limit: most rows.

    Raises:
        ConfigError: the cursor is none.
    """
    conditions = [f'{table}."{column}" = ?' for column in where]
    values = list(where.values())
    source = place = table
    if words.strip():
        # The index gives its rows in this order by itself, and stops when there are enough.
        place = f"{table}_text"
        source = f"{place} cross join {table} on {table}.rowid = {place}.rowid"
        conditions.append(f"{place} match ?")
        values.append(_all_of(words))
    if after:
        conditions.append(f"{place}.rowid < ?")
        values.append(_place(after))
    rows = db.execute(
        f"select {place}.rowid, {_named(table, columns)} from {source}"
        f" where {' and '.join(conditions) or 'true'} order by {place}.rowid desc limit ?",
        (*values, limit + 1),
    ).fetchall()
    found = [dict(zip(columns, row[1:], strict=True)) for row in rows[:limit]]
    return Page(found, str(rows[limit - 1][0]) if len(rows) > limit else None)


def one(db: Database, table: str, columns: Sequence[str], id_: str) -> dict[str, Any] | None:
    """The row with this id; of several, the newest."""
    row = db.execute(
        f"select {_named(table, columns)} from {table} where id = ? order by rowid desc limit 1",
        (id_,),
    ).fetchone()
    return dict(zip(columns, row, strict=True)) if row else None


def _named(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f'{table}."{column}"' for column in columns)


def _all_of(words: str) -> str:
    """A full-text query for rows that have every word; nothing in it is an operator."""
    found = words.replace("\0", " ").split()
    return " ".join('"{}"'.format(word.replace('"', '""')) for word in found)


def _place(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise ConfigError(f"{cursor!r} is no cursor: take `next` of the page before.")
    return int(cursor)
