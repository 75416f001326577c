"""The line in front of a model server: callers take turns, and a change waits until nobody is
inside."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Full(Exception):
    """Too many wait already."""


class Line:
    """Places inside, given to callers in turn: who asks much waits for those who ask little.

    Args:
        places: most who are inside at once.
        waiting: most who wait, of one caller and four times as many of all.
    """

    def __init__(self, places: int, waiting: int = 256) -> None:
        self._places, self._most_waiting = places, waiting
        self._inside = 0
        self._shut = False
        self._empty = asyncio.Event()
        self._empty.set()
        # A caller goes to the end whenever one of his was let in.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def busy(self) -> bool:
        """Whether anybody is inside or waits."""
        return bool(self._inside or self._waiting)

    async def enter(self, caller: str) -> None:
        """Wait for a place; every `enter` that returns needs its `leave`.

        Raises:
            Full: too many wait.
        """
        if not self._shut and not self._waiting and self._inside < self._places:
            self._let_in()
            return
        mine = self._waiting.get(caller, ())
        if len(mine) >= self._most_waiting or self.waiting >= 4 * self._most_waiting:
            raise Full
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(caller, turn)
            raise

    def leave(self) -> None:
        self._inside -= 1
        if self._inside == 0:
            self._empty.set()
        self._admit()

    @asynccontextmanager
    async def shut(self, *, empty: bool) -> AsyncIterator[None]:
        """Let nobody in meanwhile.

        Args:
            empty: whether those inside are waited for first.
        """
        self._shut = True
        try:
            if empty:
                await self._empty.wait()
            yield
        finally:
            self._shut = False
            self._admit()

    def _let_in(self) -> None:
        self._inside += 1
        self._empty.clear()

    def _admit(self) -> None:
        while self._waiting and not self._shut and self._inside < self._places:
            caller, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            del self._waiting[caller]
            if turns:
                self._waiting[caller] = turns
            if not turn.done():
                self._let_in()
                turn.set_result(None)

    def _give_up(self, caller: str, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # let in, and gone at the same moment
            self.leave()
            return
        turns = self._waiting.get(caller)
        if turns and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[caller]
