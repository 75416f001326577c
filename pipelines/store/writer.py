"""Writes from many tasks at once, each durable before its task goes on.

One thread owns the connection. Whatever is waiting when it comes round shares one transaction: at
3 ms a commit, one transaction a call would cap the whole service at a few hundred calls a second.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlite_utils import Database

from pipelines.store.connection import connect, explained, transaction

Result = TypeVar("Result")
MOST_PER_TRANSACTION = 512


class _Write(NamedTuple):
    change: Callable[[Database], Any]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Any]"


class Writer:
    """A thread that commits. Use it as a context manager; leaving it waits for what is queued."""

    def __init__(self, path: Path) -> None:
        # Opened here, so that a store that cannot be opened is an error of whoever asked for it.
        self._db = connect(path)
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._db.close()

    async def commit(self, change: Callable[[Database], Result]) -> Result:
        """Run `change` in a transaction and return its result once that is on disk.

        If `change` raises, it alone is undone and the exception comes back here.

        Raises:
            StoreFull: there is no space left; nothing of the transaction was kept.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        self._waiting.put(_Write(change, loop, done))
        # A cancelled task must not tear its write in two: it is queued, so it will be committed.
        return await asyncio.shield(done)

    def _run(self) -> None:
        while batch := self._next_batch():
            _commit(self._db, batch)

    def _next_batch(self) -> list[_Write]:
        """Everything that waits, at least one; empty when the writer is being closed."""
        batch: list[_Write] = []
        write = self._waiting.get()
        while write is not None:
            batch.append(write)
            if len(batch) == MOST_PER_TRANSACTION:
                return batch
            try:
                write = self._waiting.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._waiting.put(None)
        return batch


def _commit(db: Database, batch: list[_Write]) -> None:
    outcomes: list[tuple[Any, Exception | None]] = []
    try:
        with transaction(db):
            outcomes.extend(_apply(db, write.change) for write in batch)
    except Exception as failed:  # handed to whoever waits for it
        outcomes = [(None, failed)] * len(batch)
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Write, Any, Exception | None]]] = {}
    for write, (result, error) in zip(batch, outcomes, strict=True):
        by_loop.setdefault(write.loop, []).append((write, result, error))
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop ended, and nobody waits any more
            loop.call_soon_threadsafe(_settle, settled)


def _apply(db: Database, change: Callable[[Database], Any]) -> tuple[Any, Exception | None]:
    db.conn.execute("SAVEPOINT one")
    try:
        with explained():
            result = change(db)
    except Exception as error:
        if not db.conn.in_transaction:  # SQLite gave up the whole transaction: disk full
            raise
        db.conn.execute("ROLLBACK TO one")
        return None, error
    finally:
        if db.conn.in_transaction:
            db.conn.execute("RELEASE one")
    return result, None


def _settle(settled: list[tuple[_Write, Any, Exception | None]]) -> None:
    for write, result, error in settled:
        if write.done.done():
            continue
        if error is None:
            write.done.set_result(result)
        else:
            write.done.set_exception(error)
