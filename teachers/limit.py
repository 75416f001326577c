"""How many requests may be in flight: additive increase, multiplicative decrease."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Data Designer's published settings, which suit vLLM's queue: x0.75 on a sign of overload,
# +1 after 25 good answers, and one cut per cooldown, so that a burst of 429s counts once.
CUT, GOOD_BEFORE_RAISE, COOLDOWN_S = 0.75, 25, 2.0


class AdaptiveLimit:
    """A semaphore that shrinks when the endpoint says it is overloaded and grows back slowly.

    Args:
        most: upper bound of requests in flight, and where it starts.
        least: lower bound.
    """

    def __init__(self, most: int, least: int = 1) -> None:
        self.most, self.least = most, least
        self._allowed = float(most)
        self._in_flight = 0
        self._good = 0
        self._last_cut = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return max(self.least, int(self._allowed))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the places; waits in order of arrival."""
        if self._in_flight >= self.allowed:
            await self._turn()
        else:
            self._in_flight += 1
        try:
            yield
        finally:
            self._leave()

    def succeeded(self) -> None:
        """A request ended well."""
        self._good += 1
        if self._good >= GOOD_BEFORE_RAISE and self.allowed < self.most:
            self._allowed, self._good = self.allowed + 1, 0
            self._wake()

    def overloaded(self) -> None:
        """A request was turned away or timed out."""
        now = time.monotonic()
        self._good = 0
        if now - self._last_cut >= COOLDOWN_S:
            self._last_cut = now
            self._allowed = max(self.least, self._allowed * CUT)

    async def _turn(self) -> None:
        """Wait to be given a place; whoever gives it has counted it already."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # given the place and cancelled at the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._in_flight < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
