"""Requests made again to a candidate, whose answers nobody sees."""

import asyncio

from pipelines.store.exchanges import Arm
from service.asked import Asked
from service.exchange import Exchange
from service.line import Full
from service.recorder import Recorder
from service.relay import BROKEN, bounded
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

    def ask(self, seat: Seat, asked: Asked, beside: Exchange) -> None:
        """Ask, unless `MOST` are being asked already: nobody waits for a shadow."""
        if len(self._asking) >= MOST:
            return
        whole = asked.model_copy(update={"stream": False})
        exchange = Exchange(whole, seat.identity, _ARM, _CALLER, keep=beside.keep, beside=beside.id)
        task = asyncio.create_task(self._ask(seat, exchange))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def stop(self) -> None:
        """Ask no further."""
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, seat: Seat, exchange: Exchange) -> None:
        try:
            await seat.line.enter(_CALLER)
        except Full:
            return
        status = BROKEN
        try:
            asked = exchange.asked
            answer = await seat.send(asked.path, asked.forwarded(), exchange.id)
            exchange.came_whole(await bounded(answer))
            status = answer.status
        except (*LOST, ValueError):
            pass
        finally:
            seat.line.leave()
        self._recorder.ended(exchange, status)
