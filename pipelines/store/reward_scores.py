"""What reward models scored answers, as their heads read it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlite_utils import Database

from pipelines.store.calls import chunks, marks
from pipelines.store.connection import now


class RewardScore(NamedTuple):
    """A stored answer's score by one reward model."""

    id: str
    """Of reward model, question and answer."""
    model: str
    """The adapter's SHA-256."""
    sample_id: str
    score: float
    """Not normalised: a norm that is measured anew changes no row."""


def add(db: Database, scores: Iterable[RewardScore]) -> None:
    at = now()
    db.conn.executemany(
        "insert or ignore into reward_scores values (?, ?, ?, ?, ?)",
        [(*score, at) for score in scores],
    )


def known(db: Database, ids: Sequence[str]) -> dict[str, float]:
    """Those that are stored, by id."""
    found: dict[str, float] = {}
    for some in chunks(ids):
        sql = f"select id, score from reward_scores where id in ({marks(some)})"
        found.update(db.execute(sql, some))
    return found
