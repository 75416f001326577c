"""What students were asked and answered, and what people said of it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now
from teachers.errors import ConfigError

Arm = Literal["direct", "canary", "shadow"]
"""Asked by name; asked for the champion and given to its candidate; asked beside it."""
Thumb = Literal["up", "down"]
KEPT_DAYS = 30.0


class Exchange(NamedTuple):
    """A request and its answer; their texts only where they were to be kept."""

    id: str
    name: str
    """What was asked for."""
    checkpoint_id: str
    """Who answered: a checkpoint, or `base`."""
    arm: Arm
    caller: str
    token_id: str | None
    status: int
    """As in HTTP; 499 if the caller hung up, 502 if the answer broke off."""
    first_s: float | None
    """Seconds to the first of a stream; None for an answer that came whole."""
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    request: str | None
    """JSON, as the student was asked."""
    answer: str | None
    """Of several answers the first."""
    beside: str | None
    """The exchange that this one was made beside."""
    at: float


class Figures(NamedTuple):
    """How a checkpoint has answered."""

    n: int
    failed: int
    first_s: Sequence[float]
    """Seconds to the first of each stream that came."""


_IN_TRIAL = "name = 'champion'"
# Of a status from 400 on, these are the caller's doing: without a token, or too often.
_CALLERS = "(401, 403, 429)"
_NEWEST = 1000
_FIELDS = ", ".join(Exchange._fields)


def add(db: Database, exchanges: Sequence[Exchange]) -> None:
    marks = ", ".join("?" * len(Exchange._fields))
    db.conn.executemany(f"insert or ignore into exchanges values ({marks})", exchanges)


def exchange(db: Database, exchange_id: str) -> Exchange:
    """By its id.

    Raises:
        ConfigError: there is none.
    """
    row = db.execute(f"select {_FIELDS} from exchanges where id = ?", (exchange_id,)).fetchone()
    if row is None:
        raise ConfigError(
            f"There is no answer {exchange_id!r}.",
            hint="Its id is the answer's `id`, or its header x-preceptor-exchange; it is known "
            "about a second after the answer's end.",
        )
    return Exchange(*row)


def beside_each_other(db: Database, ids: Sequence[str]) -> list[tuple[Exchange, Exchange]]:
    """Of these exchanges, those that were made beside another, with both texts kept: both."""
    marks = ", ".join("?" * len(ids))
    columns = ", ".join(
        f"{side}.{field}" for side in ("first", "second") for field in Exchange._fields
    )
    pairs = (
        f"select {columns} from exchanges second join exchanges first on first.id = second.beside"
    )
    kept = "first.answer is not null and second.answer is not null"
    rows = db.execute(
        f"{pairs} where second.beside in ({marks}) and {kept}"
        f" union {pairs} where second.id in ({marks}) and {kept}",
        (*ids, *ids),
    )
    width = len(Exchange._fields)
    return [(Exchange(*row[:width]), Exchange(*row[width:])) for row in rows]


def of_candidate(
    db: Database, checkpoint_id: str, since: float, until: float | None = None
) -> Figures:
    """How a checkpoint has answered in the champion's place or beside it, between two times."""
    return _figures(
        db, f"{_IN_TRIAL} and arm <> 'direct' and checkpoint_id = ?", since, until, checkpoint_id
    )


def of_champion(
    db: Database, since: float, until: float | None = None, who: str | None = None
) -> Figures:
    """How the champion has answered between two times.

    Args:
        who: a checkpoint, if only its answers count.
    """
    direct = f"{_IN_TRIAL} and arm = 'direct' and checkpoint_id = coalesce(?, checkpoint_id)"
    return _figures(db, direct, since, until, who)


def _figures(
    db: Database, where: str, since: float, until: float | None, *values: str | None
) -> Figures:
    # What callers broke off says nothing of who answered.
    some = f"from exchanges where at >= ? and at < coalesce(?, 1e12) and status <> 499 and {where}"
    asked = (since, until, *values)
    n, failed = db.execute(
        f"select count(*), coalesce(sum(status >= 400 and status not in {_CALLERS}), 0) {some}",
        asked,
    ).fetchone()
    first = db.execute(
        f"select first_s {some} and first_s is not null order by at desc limit {_NEWEST}", asked
    )
    return Figures(n, failed, [one for (one,) in first])


def spent(db: Database, token_id: str, since: float) -> int:
    """Tokens that were read and written for a key since a time."""
    row = db.execute(
        "select coalesce(sum(prompt_tokens + completion_tokens), 0) from exchanges"
        " where token_id = ? and at >= ?",
        (token_id, since),
    ).fetchone()
    return int(row[0])


def forget(db: Database) -> None:
    """Leave out what is older than `KEPT_DAYS`, unless somebody has said something of it."""
    db.execute(
        "delete from exchanges where at < ? and id not in (select exchange_id from feedback)"
        " and id not in (select over_id from feedback where over_id is not null)",
        (now() - KEPT_DAYS * 86400,),
    )


def add_feedback(
    db: Database,
    exchange_id: str,
    who: str,
    thumb: Thumb | None,
    over: str | None,
    comment: str,
) -> None:
    """Keep what somebody says of an answer; what the same one says later takes its place.

    Args:
        over: the answer to the same request that is worse.
    """
    db.execute(
        "insert or replace into feedback (exchange_id, who, thumb, over_id, comment, at)"
        " values (?, ?, ?, ?, ?, ?)",
        (exchange_id, who, thumb, over, comment, now()),
    )
