"""What requests with an idempotency key were answered, so that one that is sent again is not done
again."""

from typing import NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now

KEPT_S = 24 * 3600.0
PENDING = 0
"""The status of a request that is being done."""
LONGEST_S = 120.0
"""After so long nobody is doing it any more: the service ended meanwhile."""


class Reply(NamedTuple):
    """An answer that was given."""

    request: str
    """SHA-256 of what was asked."""
    status: int
    """Of HTTP, or `PENDING`."""
    body: str


def reserve(db: Database, key: str, request: str) -> Reply | None:
    """The answer to the request with this key. If there was none within `KEPT_S`, the key is this
    request's from now on, and it is to be done."""
    db.execute(
        "delete from replies where created_at <= ? or (status = ? and created_at <= ?)",
        (now() - KEPT_S, PENDING, now() - LONGEST_S),
    )
    row = db.execute("select request, status, body from replies where key = ?", (key,)).fetchone()
    if row is not None:
        return Reply(*row)
    db.execute("insert into replies values (?, ?, ?, '', ?)", (key, request, PENDING, now()))
    return None


def keep(db: Database, key: str, status: int, body: str) -> None:
    """Remember the answer to a request that has reserved its key."""
    db.execute("update replies set status = ?, body = ? where key = ?", (status, body, key))


def forget(db: Database, key: str) -> None:
    """Nothing came of a request; the key is free again."""
    db.execute("delete from replies where key = ?", (key,))
