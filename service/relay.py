"""A request on its way to a model server, and the answer on its way back."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import ClientConnectionError, ClientResponse
from fastapi import HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.exchange import Exchange
from service.line import Full
from service.recorder import Recorder
from service.seat import LOST, Seat

STALLED_S = 60.0
GONE = 499
BROKEN = 502
_RESTARTS = "The model server is being restarted; try again."
_SOON = {"Retry-After": "2"}


async def ask(
    seat: Seat, exchange: Exchange, caller: str, request: Request, recorder: Recorder
) -> Response:
    """Have a model server answer.

    Args:
        caller: who waits in the line.
        request: its caller's connection: whoever hangs up stops the generation.

    Raises:
        HTTPException: the line is full, or the server is not there.
        ClientDisconnect: the caller hung up.
    """
    try:
        answer = await _unless_gone(request, _asked(seat, exchange, caller))
        if exchange.asked.stream and answer.ok:
            return _Relay(answer, seat, exchange, recorder)
        return await _whole(answer, seat, exchange, request, recorder)
    except Full as full:
        recorder.ended(exchange, 503)
        raise HTTPException(503, "Too many requests wait already.", {"Retry-After": "5"}) from full
    except LOST as lost:
        recorder.ended(exchange, BROKEN)
        raise HTTPException(503, _RESTARTS, _SOON) from lost
    except ClientDisconnect:
        recorder.ended(exchange, GONE)
        raise


async def _asked(seat: Seat, exchange: Exchange, caller: str) -> ClientResponse:
    """The answer's head; its body is still to be read, and the place to be given up."""
    await seat.line.enter(caller)
    try:
        if seat.gone:
            raise ClientConnectionError("the server was stopped while this waited")
        # Only now: whoever waited may have waited for a change.
        exchange.checkpoint = seat.identity
        return await seat.send(exchange.asked.path, exchange.asked.forwarded(), exchange.id)
    except BaseException:
        seat.line.leave()
        raise


async def _whole(
    answer: ClientResponse,
    seat: Seat,
    exchange: Exchange,
    request: Request,
    recorder: Recorder,
) -> Response:
    """An answer that is no stream: passed on only if all of it came."""
    try:
        body = await _unless_gone(request, answer.read())
    finally:
        seat.line.leave()
        answer.close()
    exchange.came_whole(body)
    recorder.ended(exchange, answer.status)
    kind = answer.headers.get("content-type", "application/json")
    return Response(body, answer.status, _headers(exchange), media_type=kind)


class _Relay(StreamingResponse):
    """A stream, event by event as they come; the place in front of the server is given up however
    that ends."""

    def __init__(
        self, answer: ClientResponse, seat: Seat, exchange: Exchange, recorder: Recorder
    ) -> None:
        kind = answer.headers.get("content-type", "text/event-stream")
        super().__init__(self._events(), answer.status, _headers(exchange), media_type=kind)
        self._answer, self._seat = answer, seat
        self._exchange, self._recorder = exchange, recorder
        self._status = GONE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            # A caller who stops reading must not hold up a change of the champion for ever.
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        finally:
            self._seat.line.leave()
            self._recorder.ended(self._exchange, self._status)
            # Also when the caller hung up: closing makes the server stop generating.
            self._answer.close()

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_any():
                if passed := self._exchange.came(chunk):
                    yield passed
            self._status = self._answer.status
        except LOST:
            # What has come has been passed on: the error is the stream's last event.
            self._status = BROKEN
            detail = {"message": _RESTARTS, "type": "server_error", "code": 503}
            yield f"data: {json.dumps({'error': detail})}\n\n".encode()


def _headers(exchange: Exchange) -> dict[str, str]:
    return {
        "x-preceptor-checkpoint": exchange.checkpoint,
        "x-preceptor-exchange": exchange.id,
    }


async def _unless_gone(request: Request, doing: Coroutine[Any, Any, Any]) -> Any:
    """Wait for something, but no longer than the caller does.

    Raises:
        ClientDisconnect: the caller hung up; what was being done was stopped.
    """
    task = asyncio.create_task(doing)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
