"""Which share of the champion's traffic a candidate gets, and how that ended."""

from typing import Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store import checkpoints
from pipelines.store.connection import now
from teachers.errors import ConfigError

MOST_CANARY = 0.5
Kind = Literal["canary", "shadow", "compare"]
"""The candidate answers; it answers too and nobody sees it; the same, and both texts are kept."""


class Trial(NamedTuple):
    """A candidate and its share of the champion's traffic."""

    seq: int
    checkpoint_id: str
    kind: Kind
    share: float
    """From 0 to 1."""
    started_at: float
    ended_at: float | None
    why: str | None
    """Why it ended."""


_FIELDS = ", ".join(Trial._fields)


def begin(db: Database, checkpoint_id: str | None, kind: Kind, share: float) -> Trial:
    """Start a trial; one that runs ends.

    Raises:
        ConfigError: the share is none that a trial can have, or the candidate is the champion.
    """
    most = MOST_CANARY if kind == "canary" else 1.0
    if not 0 < share <= most:
        raise ConfigError(
            f"The share of a {kind} is more than 0 and at most {most:g}.",
            hint="Beyond that there are too few answers of the champion's to compare with.",
        )
    if checkpoint_id is None or checkpoint_id == checkpoints.champion_id(db):
        who = "The base is no candidate" if checkpoint_id is None else "This is the champion"
        raise ConfigError(f"{who}: there is nothing to try.")
    end(db, "another one was started")
    db.execute(
        "insert into trials (checkpoint_id, kind, share, started_at) values (?, ?, ?, ?)",
        (checkpoint_id, kind, share, now()),
    )
    started = current(db)
    assert started is not None
    return started


def current(db: Database) -> Trial | None:
    """The one that runs."""
    row = db.execute(f"select {_FIELDS} from trials where ended_at is null").fetchone()
    return Trial(*row) if row else None


def end(db: Database, why: str, seq: int | None = None) -> bool:
    """End the trial that runs; returns whether one did.

    Args:
        seq: only if it is this one.
    """
    ended = db.execute(
        "update trials set ended_at = ?, why = ? where ended_at is null and seq = coalesce(?, seq)",
        (now(), why, seq),
    )
    return ended.rowcount > 0


def listed(db: Database) -> list[Trial]:
    """The last hundred, the newest first."""
    rows = db.execute(f"select {_FIELDS} from trials order by seq desc limit 100")
    return [Trial(*row) for row in rows]
