"""What happened, in order: the store writes it down by itself wherever a state changes."""

from typing import NamedTuple

from sqlite_utils import Database


class Event(NamedTuple):
    """A change."""

    seq: int
    """Its number; later ones are higher."""
    kind: str
    """`run`, `round`, `stage`, `checkpoint`, `promotion` or `alias`."""
    subject: str
    """The id of what changed; of a stage its round's, of an alias its checkpoint's or `base`."""
    what: str
    """The new state, with the stage's name before it; of an alias, its name."""
    at: float


def since(db: Database, seq: int, limit: int = 500) -> list[Event]:
    """Those after a number, oldest first."""
    rows = db.execute(
        "select seq, kind, subject, what, at from events where seq > ? order by seq limit ?",
        (seq, limit),
    )
    return [Event(*row) for row in rows]


def forget(db: Database, before: float) -> None:
    """Leave out those before a time."""
    db.execute("delete from events where at < ?", (before,))


def last(db: Database) -> int:
    """The newest one's number; 0 before there is any."""
    return int(db.execute("select coalesce(max(seq), 0) from events").fetchone()[0])
