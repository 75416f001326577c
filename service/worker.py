"""The worker: takes the runs of a home in turn, a round at a time, each in a process of its own.

A round that crashes is tried again, later each time; after `GIVE_UP` times without anything
finished between them its run is given up, and says why. If the worker itself is killed, the next
one takes over where it was.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from rich.console import Console
from sqlite_utils import Database

from pipelines.home import Home
from pipelines.store import events, runs
from pipelines.store.connection import connect, now, sqlite3, transaction
from pipelines.store.runs import Lease, Run
from service.auth import TOKEN_VARIABLE
from service.logs import told
from service.runs import local
from service.turn import BUSY
from teachers.engine import tail
from teachers.errors import LeaseLost, StoreFull
from teachers.process import die_with_parent, kill_group

GIVE_UP = 5
POLL_S, BEAT_S = 0.25, 2.0
EVENTS_KEPT_S = 30 * 24 * 3600.0
BUSY_PAUSE_S, TROUBLE_PAUSE_S = 30.0, 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
STOP_S = 8.0
"""So long may a round take to end what it has begun."""


def log_of(home: Home, run_id: str) -> Path:
    """What the rounds of a run have said."""
    return home.logs / f"run-{run_id[:12]}.log"


def environment(home: Home) -> dict[str, str]:
    """What processes that work for the service are given: all but the key to the service."""
    found = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return {**found, "PRECEPTOR_HOME": str(home.root)}


class Worker:
    """Works until it is interrupted, or until there is nothing left of one run.

    Args:
        home: where the queue is.
        console: who is told what it does.
        only: the run to serve; all of them if not given.
        first_pause_s: before a crashed round is tried again; each further time doubles it.
    """

    def __init__(
        self,
        home: Home,
        console: Console,
        only: str | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._home, self._console, self._only = home, console, only
        self._first_pause_s = first_pause_s
        self._told_of_another = False
        self._told_of_due = 0.0

    def run(self) -> None:
        """
        Raises:
            KeyboardInterrupt: as it was; the round at work has ended, and goes on next time.
        """
        with closing(connect(self._home.store)) as db:
            with transaction(db):
                events.forget(db, now() - EVENTS_KEPT_S)
            while True:
                try:
                    if not self._step(db):
                        return
                except (StoreFull, sqlite3.OperationalError) as trouble:
                    self._tell(f"{trouble} Trying again in {TROUBLE_PAUSE_S:.0f} s.")
                    time.sleep(TROUBLE_PAUSE_S)

    def _step(self, db: Database) -> bool:
        """A round, or a moment's rest; returns whether there is anything to come."""
        if runs.next_one(db, self._only) is None:
            time.sleep(POLL_S)
            return not self._only or self._waits_for(db, self._only)
        with transaction(db):
            lease = runs.take(db, self._only)
        if lease is not None:
            self._serve(db, lease)
        return True

    def _waits_for(self, db: Database, run_id: str) -> bool:
        """Whether there is anything to come of a run that is not to be taken now."""
        found = runs.run(db, run_id)
        if found.state == "running" and not self._told_of_another:
            self._told_of_another = True
            self._tell("another worker is at it (preceptor runs log); waiting for what comes of it")
        if found.state == "queued" and found.due_at > max(now(), self._told_of_due):
            self._told_of_due = found.due_at
            self._tell(f"the next round begins at {local(found.due_at)}; Ctrl-C leaves it queued")
        return found.state in ("queued", "running")

    def _serve(self, db: Database, lease: Lease) -> None:
        """One round, and what comes of it."""
        before = runs.trace(db, lease.run_id)
        try:
            code = self._turn(db, lease)
            with transaction(db):
                self._settle(db, lease, code, before)
        except LeaseLost as lost:
            self._tell(lost.message, lease.run_id)
        except KeyboardInterrupt:
            with transaction(db), suppress(LeaseLost):
                self._settle(db, lease, None, before)
            raise

    def _turn(self, db: Database, lease: Lease) -> int | None:
        """Run the round; returns its exit code, or None if it was ended because somebody asked."""
        child, heard, wished = self._start(lease), 0.0, False
        try:
            while child.poll() is None and not wished:
                time.sleep(POLL_S)
                if time.monotonic() - heard >= BEAT_S:
                    heard = time.monotonic()
                    with transaction(db):
                        wished = runs.beat(db, lease) is not None
        finally:
            _end(child)
        return None if wished else child.returncode

    def _start(self, lease: Lease) -> "subprocess.Popen[bytes]":
        log = log_of(self._home, lease.run_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "service.turn", lease.run_id, str(lease.token)],
                stdin=subprocess.DEVNULL,
                # Somebody who waits for one run sees it; what goes wrong is in the log either way.
                stdout=None if self._only else out,
                stderr=out,
                process_group=0,
                env=environment(self._home),
                preexec_fn=die_with_parent(os.getpid()),
            )

    def _settle(
        self, db: Database, lease: Lease, code: int | None, before: tuple[int, ...]
    ) -> None:
        """Let go of the run, in the state that follows from how its round ended.

        Args:
            code: the round's exit code; None if we ended it.
        """
        found = runs.run(db, lease.run_id)
        if found.state != "running":  # the round has written it down
            self._tell(f"{found.name}: {found.state}: {found.note}", found.id)
        elif found.wish is not None:
            state: runs.State = "cancelled" if found.wish == "cancel" else "paused"
            runs.let_go(db, lease, state)
            self._tell(f"{found.name}: {state}", found.id)
        elif code == 0:
            runs.let_go(db, lease)
        elif code is None:
            runs.let_go(db, lease, note=found.note, crashes=found.crashes)
        elif code == BUSY:
            runs.let_go(db, lease, crashes=found.crashes, pause_s=BUSY_PAUSE_S)
            self._tell(f"{found.name}: another process is at work in this home; waiting", found.id)
        else:
            moved = runs.trace(db, lease.run_id) != before
            self._crashed(db, lease, found, code, 1 if moved else found.crashes + 1)

    def _crashed(self, db: Database, lease: Lease, found: Run, code: int, crashes: int) -> None:
        log = log_of(self._home, lease.run_id)
        said = f"Its process ended with code {code}; {log} ends:\n{tail(log, 8)}"
        if crashes >= GIVE_UP:
            given_up = f"given up after {crashes} crashes"
            runs.let_go(db, lease, "failed", f"{given_up}. {said}", crashes=crashes)
            self._tell(f"{found.name}: {given_up}: preceptor runs list", found.id)
            return
        pause = min(self._first_pause_s * 2 ** (crashes - 1), LONGEST_PAUSE_S)
        runs.let_go(db, lease, note=said, crashes=crashes, pause_s=pause)
        self._tell(f"{found.name}: ended with code {code}; again in {pause:.0f} s", found.id)

    def _tell(self, text: str, run_id: str | None = None) -> None:
        ids = {} if run_id is None else {"run": run_id}
        told(self._console, **ids).say(text)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let a round stop what it has started; it has `STOP_S` for that."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            child.wait()
