"""Requests made again to a candidate, whose answers nobody sees."""

import asyncio

from pipelines.store.exchanges import Arm
from service.asked import Asked
from service.exchange import Exchange
from service.line import Full
from service.recorder import Recorder
from service.relay import BROKEN, Moved, begun, bounded
from service.seat import LOST, Seat

MOST = 8
_ARM: Arm = "shadow"
_CALLER = "shadow"


class Shadows:
    """Asks a candidate beside the champion, a few requests at a time.

    Args:
        recorder: who writes down what it answered.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._asking: set[asyncio.Task[None]] = set()

    def ask(self, seat: Seat, asked: Asked, beside: Exchange, *, keep: bool) -> bool:
        """Ask, unless `MOST` are being asked already: nobody waits for a shadow.

        Args:
            beside: the exchange with the champion.
            keep: whether the answer's text is kept.

        Returns:
            Whether it is asked.
        """
        if len(self._asking) >= MOST:
            return False
        exchange = Exchange(asked, seat.identity, _ARM, _CALLER, keep=keep, beside=beside.id)
        task = asyncio.create_task(self._ask(seat, exchange))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return True

    async def stop(self) -> None:
        """Ask no further."""
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, seat: Seat, exchange: Exchange) -> None:
        status = BROKEN
        try:
            status = await _answered(seat, exchange)
        except Full:
            return
        except (Moved, *LOST, ValueError):
            pass
        self._recorder.ended(exchange, status)


async def _answered(seat: Seat, exchange: Exchange) -> int:
    """Have a candidate answer as the champion was asked to; returns the status."""
    answer = await begun(seat, exchange, _CALLER)
    try:
        if not (exchange.asked.stream and answer.ok):
            exchange.came_whole(await bounded(answer))
            return answer.status
        async for chunk in answer.content.iter_any():
            exchange.came(chunk)
        return answer.status if exchange.ended and not exchange.failed else BROKEN
    finally:
        seat.line.leave()
        answer.close()
