"""Writes down exchanges, a second's at a time, so that nobody's answer waits for the store."""

import asyncio
from collections.abc import Callable
from contextlib import closing

from sqlite_utils import Database

from pipelines import feedback
from pipelines.home import Home
from pipelines.store import exchanges
from pipelines.store.connection import connect, transaction
from service.exchange import Exchange
from service.limits import Limits
from teachers.errors import StoreError

EVERY_S = 1.0
_FORGET_EVERY_S = 3600.0
# Beyond it, what cannot be written is not kept in memory either.
_MOST_WAITING = 10_000


class Recorder:
    """Keeps what students were asked, and answered.

    Args:
        home: whose store.
        limits: who counts the tokens of each key.
        keep: whether the texts are kept as well.
    """

    def __init__(self, home: Home, limits: Limits, *, keep: bool = False) -> None:
        self._home, self._limits = home, limits
        self.keep = keep
        self._waiting: list[tuple[Exchange, exchanges.Exchange]] = []

    def began(self, exchange: Exchange) -> None:
        """Take note of an exchange; every one has to end."""
        self._limits.begin(exchange.token_id, exchange.expected_tokens)

    def left(self, exchange: Exchange) -> None:
        """Forget an exchange that began and was not asked."""
        self._limits.spend(exchange.token_id, 0, exchange.expected_tokens)

    def ended(self, exchange: Exchange, status: int) -> None:
        """Take an exchange that is over."""
        one = exchange.stored(status)
        took = one.prompt_tokens + one.completion_tokens
        self._limits.spend(one.token_id, took, exchange.expected_tokens)
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((exchange, one))

    async def watch(self) -> None:
        """Write every second; never returns."""
        forgot = -_FORGET_EVERY_S
        while True:
            await asyncio.sleep(EVERY_S)
            await self.write()
            at = asyncio.get_running_loop().time()
            if at - forgot > _FORGET_EVERY_S:
                forgot = at
                await asyncio.to_thread(self._change, exchanges.forget)

    async def write(self) -> None:
        """Write what waits; it goes on waiting while the store cannot be written."""
        some, self._waiting = self._waiting, []
        written = not some
        try:
            written = written or await asyncio.to_thread(self._add, some)
        finally:
            if not written:
                self._waiting = some + self._waiting

    def _add(self, some: list[tuple[Exchange, exchanges.Exchange]]) -> bool:
        rows = [exchange.with_texts(one) for exchange, one in some]

        def add(db: Database) -> None:
            exchanges.add(db, rows)
            feedback.compare(db, [one.id for one in rows if one.answer is not None])

        return self._change(add)

    def _change(self, change: Callable[[Database], None]) -> bool:
        try:
            with closing(connect(self._home.store)) as db, transaction(db):
                change(db)
        except StoreError:
            return False
        return True
