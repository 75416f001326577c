"""The queue: runs that wait for their turn, the rounds they have had, and who is at work on them.

Whoever works on a run holds it by a token, and every write of his asks for it: if another worker
took the run meanwhile, nothing of his is written. A run is taken from an owner whose process is
gone, or that was not heard of for `LEASE_S`.
"""

from typing import Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store import calls
from pipelines.store.connection import now
from teachers.errors import ConfigError, LeaseLost

State = Literal["queued", "running", "paused", "stopped", "done", "failed", "cancelled"]
"""`stopped`: a person has to look; `failed`: it crashed again and again."""
Wish = Literal["pause", "cancel"]

LEASE_S = 120.0
# If a pause seems longer than any that we make, the clock was set back.
LONGEST_PAUSE_S = 900.0
_WAITING = ("queued", "paused", "stopped", "failed")
_COLUMNS = "id, name, request, state, wish, priority, note, crashes, created_at, ended_at, due_at"


class Run(NamedTuple):
    """A row of the queue."""

    id: str
    name: str
    request: str
    """JSON, a `pipelines.loop.Request`."""
    state: State
    wish: Wish | None
    """What whoever works on it is asked to do."""
    priority: int
    note: str | None
    crashes: int
    """In a row, without anything finished between them."""
    created_at: float
    ended_at: float | None
    due_at: float
    """Its next round does not begin before that."""


class Lease(NamedTuple):
    """The right to work on a run."""

    run_id: str
    token: int


class StoredTurn(NamedTuple):
    """A round of a run."""

    number: int
    begun: str
    """JSON, a `pipelines.loop.Begun`."""
    promoted: bool | None
    """None as long as it is not done."""


def add(
    db: Database,
    run_id: str,
    name: str,
    request: str,
    priority: int,
    due_at: float | None = None,
) -> None:
    """Put a run into the queue; one that is known goes on, with what is asked of it now.

    Args:
        due_at: when its next round may begin; None is when it could before. A round that it is at
            goes on at once.
    """
    begun = "select 1 from turns where run_id = :id and promoted is null"
    db.execute(
        "insert into runs (id, name, request, state, priority, created_at, due_at)"
        " values (:id, :name, :request, 'queued', :priority, :now, coalesce(:due_at, 0))"
        " on conflict (id) do update set request = excluded.request, wish = null,"
        " priority = excluded.priority, crashes = 0, not_before = 0, ended_at = null,"
        f" due_at = iif(exists({begun}), 0, coalesce(:due_at, due_at)),"
        " note = iif(state = 'running', note, null),"
        " state = iif(state = 'running', state, 'queued')",
        {
            "id": run_id,
            "name": name,
            "request": request,
            "priority": priority,
            "now": now(),
            "due_at": due_at,
        },
    )


def listed(db: Database) -> list[Run]:
    """All of them: what runs or waits first, then what ended last."""
    return [
        Run(*row)
        for row in db.execute(
            f"select {_COLUMNS} from runs order by ended_at is not null, ended_at desc,"
            " priority desc, created_at"
        )
    ]


def counted(db: Database) -> dict[str, int]:
    """How many there are, by state."""
    return dict(db.execute("select state, count(*) from runs group by state").fetchall())


def run(db: Database, beginning: str) -> Run:
    """By its id, an unambiguous beginning of it, or its name.

    Raises:
        ConfigError: there is none, or more than one.
    """
    rows = db.execute(f"select {_COLUMNS} from runs where id = ?", (beginning,)).fetchall()
    rows = (
        rows
        or db.execute(
            f"select {_COLUMNS} from runs where substr(id, 1, length(?)) = ? or name = ? limit 2",
            (beginning, beginning, beginning),
        ).fetchall()
    )
    if len(rows) != 1 or not beginning:
        raise ConfigError(
            f"{'More than one' if rows else 'No'} run is called {beginning!r}.",
            hint="preceptor runs list shows them.",
        )
    return Run(*rows[0])


def take(db: Database, run_id: str | None = None) -> Lease | None:
    """Take the run whose turn it is: the highest priority, and of those who waited longest.

    Args:
        run_id: this one and no other.
    """
    found = next_one(db, run_id)
    if found is None:
        return None
    db.execute(
        "update runs set state = 'running', owner = ?, token = ?, beat_at = ?, served_at = ?"
        " where id = ?",
        (calls.owner(), found.token, now(), now(), found.run_id),
    )
    return found


def next_one(db: Database, run_id: str | None = None) -> Lease | None:
    """What `take` would take; looking costs no lock."""
    at = now()
    rows = db.execute(
        "select id, state, owner, token, beat_at from runs where state in ('queued', 'running')"
        " and not (not_before > ? and not_before <= ?) and due_at <= ? and (? is null or id = ?)"
        " order by priority desc, served_at, created_at",
        (at, at + LONGEST_PAUSE_S, at, run_id, run_id),
    ).fetchall()
    for found, state, owner, token, beat_at in rows:
        if state == "queued" or not _held(owner, beat_at):
            return Lease(found, token + 1)
    return None


def _held(owner: str, beat_at: float) -> bool:
    """Whether somebody else is at work on a run: alive, and heard of."""
    return owner != calls.owner() and calls.lives(owner) and now() < beat_at + LEASE_S


def beat(db: Database, lease: Lease) -> Wish | None:
    """Say that somebody is at work; returns what is wished of him.

    Raises:
        LeaseLost: somebody else is.
    """
    row = db.execute("select token, state, wish from runs where id = ?", (lease.run_id,)).fetchone()
    if row is None or row[0] != lease.token:
        raise _lost(lease)
    if row[1] != "running":
        return None  # its round has written down how it ended, and is about to leave
    _change(db, lease, "beat_at = ?", now())
    wish: Wish | None = row[2]
    return wish


def let_go(
    db: Database,
    lease: Lease,
    state: State = "queued",
    note: str | None = None,
    *,
    crashes: int = 0,
    pause_s: float = 0.0,
) -> None:
    """End one's work on a run; what was wished of it is done by then, or too late.

    Args:
        pause_s: nobody takes it for so long, in seconds.

    Raises:
        LeaseLost: somebody else has it.
    """
    ended = None if state in _WAITING else now()
    _change(
        db,
        lease,
        "state = ?, note = ?, crashes = ?, not_before = ?, ended_at = ?, wish = null, owner = null",
        *(state, note, crashes, now() + pause_s, ended),
    )


def _change(db: Database, lease: Lease, what: str, *values: object) -> None:
    changed = db.execute(
        f"update runs set {what} where id = ? and token = ? and state = 'running'",
        (*values, lease.run_id, lease.token),
    )
    if changed.rowcount != 1:
        raise _lost(lease)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"Another worker has the run {lease.run_id[:12]} by now.")


# --- What people ask ----------------------------------------------------------------------------


def ask(db: Database, one: Run, wish: Wish) -> State:
    """Pause or cancel a run; what is at work on it does so within seconds. Returns its state.

    Raises:
        ConfigError: it has ended.
    """
    if one.state not in ("running", *_WAITING):
        raise ConfigError(f"{one.name} is {one.state} already.")
    owner = db.execute("select owner from runs where id = ?", (one.id,)).fetchone()[0]
    if one.state == "running" and calls.lives(owner):
        db.execute("update runs set wish = ? where id = ?", (wish, one.id))
        return "running"
    state: State = "cancelled" if wish == "cancel" else "paused"
    ended = None if state in _WAITING else now()
    db.execute(
        "update runs set state = ?, ended_at = ?, token = token + 1 where id = ?",
        (state, ended, one.id),
    )
    return state


def again(db: Database, one: Run) -> None:
    """Let a run go on that was paused, stopped, cancelled or given up.

    Raises:
        ConfigError: it is done.
    """
    if one.state == "done":
        raise ConfigError(
            f"{one.name} is done: {one.note}.", hint="preceptor loop with more --rounds goes on."
        )
    add(db, one.id, one.name, one.request, one.priority)


# --- Its rounds ---------------------------------------------------------------------------------


def turns(db: Database, run_id: str) -> list[StoredTurn]:
    """Those that it has had, and the one that it is at."""
    rows = db.execute(
        "select number, begun, promoted from turns where run_id = ? order by number", (run_id,)
    )
    return [
        StoredTurn(number, begun, None if promoted is None else bool(promoted))
        for number, begun, promoted in rows
    ]


def begin_turn(db: Database, lease: Lease, number: int, round_id: str, begun: str) -> None:
    """Write down the next round.

    Raises:
        LeaseLost: somebody else has the run.
    """
    _change(db, lease, "beat_at = ?", now())
    db.execute(
        "insert into turns (run_id, number, round_id, begun, began_at) values (?, ?, ?, ?, ?)",
        (lease.run_id, number, round_id, begun, now()),
    )


def end_turn(
    db: Database, lease: Lease, number: int, *, promoted: bool, due_at: float = 0.0
) -> None:
    """Write down how a round ended.

    Args:
        due_at: when the next may begin.

    Raises:
        LeaseLost: somebody else has the run.
    """
    _change(db, lease, "beat_at = ?, due_at = ?", now(), due_at)
    db.execute(
        "update turns set promoted = ?, ended_at = ? where run_id = ? and number = ?",
        (promoted, now(), lease.run_id, number),
    )


def tokens(db: Database, run_id: str) -> int:
    """What its rounds' calls and rollouts came to; a call that was cut off, as much as it may have
    written."""
    most = "json_extract(request, '$.sampling.max_tokens') * json_extract(request, '$.sampling.n')"
    its = "round_id in (select round_id from turns where run_id = :run)"
    row = db.execute(
        f"select (select sum(iif(state = 'uncertain', {most}, prompt_tokens + completion_tokens))"
        f" from calls where state in ('done', 'uncertain') and {its}),"
        " (select sum(tokens) from rollouts where training_run_id in"
        f" (select id from training_runs where {its}))",
        {"run": run_id},
    ).fetchone()
    return sum(int(part or 0) for part in row)


def trace(db: Database, run_id: str) -> tuple[int, ...]:
    """Counts that only grow while its rounds get on: rounds, stages, calls, figures of training."""
    of_rounds = "round_id in (select round_id from turns where run_id = ?)"
    counts = (
        "turns where run_id = ? and promoted is not null",
        f"stages where {of_rounds} and state = 'done'",
        f"calls where {of_rounds} and state = 'done'",
        f"metrics where training_run_id in (select id from training_runs where {of_rounds})",
    )
    return tuple(
        int(db.execute(f"select count(*) from {what}", (run_id,)).fetchone()[0]) for what in counts
    )


def stage_of(db: Database, run_id: str) -> str | None:
    """The stage that its newest round is in or came to last."""
    row = db.execute(
        "select name from stages where round_id ="
        " (select round_id from turns where run_id = ? order by number desc limit 1)"
        " order by started_at desc, rowid desc limit 1",
        (run_id,),
    ).fetchone()
    return row[0] if row else None
