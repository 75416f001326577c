"""The queue of runs: whose turn it is, who may write, and what people may ask."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from pipelines.store import calls, runs
from pipelines.store.connection import connect, now, transaction
from pipelines.store.runs import Lease
from teachers.errors import ConfigError, LeaseLost
from teachers.process import started_at


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(connect(tmp_path / "store.db")) as db:
        yield db


def queued(db: Database, *names: str, priority: int = 0) -> None:
    for name in names:
        runs.add(db, name, name, "{}", priority)


def taken(db: Database) -> str:
    lease = runs.take(db)
    assert lease is not None
    runs.let_go(db, lease)
    return lease.run_id


def lease_of(db: Database) -> Lease:
    lease = runs.take(db)
    assert lease is not None
    return lease


def held_by(db: Database, pid: int) -> None:
    """As if another process had taken the run."""
    db.execute("update runs set owner = ?", (f"{pid}:{started_at(pid)}",))


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def state_of(db: Database, name: str) -> str:
    return runs.run(db, name).state


def test_runs_take_turns_and_those_with_priority_come_first(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**9, 10**10))
    monkeypatch.setattr(runs, "now", lambda: float(next(clock)))
    queued(db, "a", "b", "c")
    assert [taken(db) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    queued(db, "urgent", priority=1)
    assert [taken(db) for _ in range(3)] == ["urgent"] * 3


def test_who_holds_a_run_holds_it_alone(db: Database) -> None:
    queued(db, "a")
    lease_of(db)
    held_by(db, os.getppid())
    assert runs.take(db) is None


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "silent"])
def test_a_run_is_taken_from_who_is_gone_and_he_writes_nothing_more(
    db: Database, gone: int, killed: bool
) -> None:
    queued(db, "a")
    late = lease_of(db)
    held_by(db, os.getppid())
    assert runs.take(db) is None
    if killed:
        db.execute("update runs set owner = ?", (f"{gone}:1.0",))
    else:
        db.execute("update runs set beat_at = beat_at - ?", (runs.LEASE_S + 1,))
    lease = lease_of(db)
    assert lease == Lease("a", late.token + 1)
    writes: list[Callable[[], object]] = [
        lambda: runs.beat(db, late),
        lambda: runs.let_go(db, late, "done"),
        lambda: runs.begin_turn(db, late, 1, "round", "{}"),
        lambda: runs.end_turn(db, late, 1, promoted=True),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="Another worker"):
            write()
    assert state_of(db, "a") == "running"
    assert runs.turns(db, "a") == []
    assert runs.beat(db, lease) is None


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_takes_no_run_from_who_is_heard_of(
    db: Database, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    queued(db, "a")
    lease = lease_of(db)
    held_by(db, os.getppid())
    monkeypatch.setattr(runs, "now", lambda: now() + jump)
    runs.beat(db, lease)
    assert runs.take(db) is None


def test_a_clock_set_back_makes_nobody_wait_for_an_hour(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(db, "a")
    runs.let_go(db, lease_of(db), pause_s=30)
    assert runs.take(db) is None
    monkeypatch.setattr(runs, "now", lambda: now() - 3600)
    assert runs.take(db) is not None


def test_a_run_waits_for_its_time_and_other_runs_do_not(db: Database) -> None:
    runs.add(db, "later", "later", "{}", 9, due_at=now() + 3600)
    queued(db, "a")
    assert taken(db) == "a"
    db.execute("update runs set due_at = ? where id = 'later'", (now() - 1,))
    assert taken(db) == "later"


def test_a_round_that_has_begun_waits_for_no_time(db: Database) -> None:
    queued(db, "a")
    lease = lease_of(db)
    runs.begin_turn(db, lease, 1, "r1", "{}")
    runs.let_go(db, lease)
    runs.add(db, "a", "a", "{}", 0, due_at=now() + 3600)
    lease = lease_of(db)
    runs.end_turn(db, lease, 1, promoted=True, due_at=now() + 3600)
    runs.let_go(db, lease)
    assert runs.take(db) is None
    runs.again(db, runs.run(db, "a"))
    assert runs.take(db) is None, "to let it go on is not to change its schedule"
    runs.add(db, "a", "a", "{}", 0, due_at=0.0)
    assert runs.take(db) is not None


def test_what_nobody_works_on_is_paused_at_once_and_goes_on_when_asked(db: Database) -> None:
    queued(db, "a")
    assert runs.ask(db, runs.run(db, "a"), "pause") == "paused"
    assert runs.take(db) is None
    runs.again(db, runs.run(db, "a"))
    assert lease_of(db).run_id == "a"


def test_who_works_on_a_run_is_told_what_is_wished(db: Database) -> None:
    queued(db, "a")
    lease = lease_of(db)
    assert runs.beat(db, lease) is None
    assert runs.ask(db, runs.run(db, "a"), "cancel") == "running"
    assert runs.beat(db, lease) == "cancel"
    runs.let_go(db, lease, "cancelled")
    assert state_of(db, "a") == "cancelled"
    assert runs.run(db, "a").wish is None


@pytest.mark.parametrize("state", ["stopped", "failed", "cancelled"])
def test_a_run_that_ended_badly_goes_on_when_asked(db: Database, state: runs.State) -> None:
    queued(db, "a")
    runs.let_go(db, lease_of(db), state, "because", crashes=5, pause_s=60)
    runs.again(db, runs.run(db, "a"))
    found = runs.run(db, "a")
    assert (found.state, found.crashes, found.note, found.ended_at) == ("queued", 0, None, None)
    assert lease_of(db).run_id == "a"


def test_a_run_whose_worker_was_killed_is_paused_at_once_and_he_writes_nothing_more(
    db: Database, gone: int
) -> None:
    queued(db, "a")
    late = lease_of(db)
    db.execute("update runs set owner = ?", (f"{gone}:1.0",))
    assert runs.ask(db, runs.run(db, "a"), "pause") == "paused"
    with pytest.raises(LeaseLost):
        runs.beat(db, late)


def test_what_is_done_is_not_steered(db: Database) -> None:
    queued(db, "a")
    runs.let_go(db, lease_of(db), "done", "3 rounds done")
    with pytest.raises(ConfigError, match="a is done already"):
        runs.ask(db, runs.run(db, "a"), "pause")
    with pytest.raises(ConfigError, match="a is done: 3 rounds done"):
        runs.again(db, runs.run(db, "a"))
    queued(db, "a")  # asked for anew, perhaps for more
    assert state_of(db, "a") == "queued"


def test_asked_for_again_while_it_runs_it_goes_on_running(db: Database) -> None:
    queued(db, "a")
    lease = lease_of(db)
    runs.ask(db, runs.run(db, "a"), "pause")
    runs.add(db, "a", "a", '{"more": 1}', 2)
    assert runs.beat(db, lease) is None, "nobody wishes it to pause any more"
    found = runs.run(db, "a")
    assert (found.state, found.request, found.priority) == ("running", '{"more": 1}', 2)


def test_a_run_is_found_by_the_beginning_of_its_id(db: Database) -> None:
    queued(db, "abc", "abd")
    assert runs.run(db, "abc").id == "abc"
    for name, told in (("ab", "More than one"), ("", "More than one"), ("x", "No run")):
        with pytest.raises(ConfigError, match=told):
            runs.run(db, name)


def test_two_workers_never_take_one_run(db: Database, tmp_path: Path) -> None:
    """Each in its own process; a run is let go as soon as it is taken, and never held twice."""
    queued(db, "a", "b", "c")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(_takes(tmp_path / "store.db"))
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert [row[0] for row in db.execute("select sum(token) from runs")] == [4 * 50]


def _takes(store: Path) -> int:
    with closing(connect(store)) as mine:
        done = 0
        while done < 50:
            with transaction(mine):
                lease = runs.take(mine)
            if lease is None:
                continue
            holder = mine.execute("select owner from runs where id = ?", (lease.run_id,))
            if holder.fetchone()[0] != calls.owner():
                return 1
            with transaction(mine):
                runs.let_go(mine, lease)
            done += 1
    return 0
