"""A request on its way to a model server, and the answer on its way back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp import ClientConnectionError, ClientResponse
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.exchange import Exchange
from service.line import Full
from service.recorder import Recorder
from service.seat import LOST, Seat

STALLED_S = 60.0
WELCOME_S = 1.0
GONE = 499
BROKEN = 502
LATE = 504
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_RESTARTS = "The model server is being restarted; try again."
_SOON = {"Retry-After": "2"}


async def ask(
    seat: Seat,
    exchange: Exchange,
    caller: str,
    request: Request,
    recorder: Recorder,
    still_welcome: Callable[[], object],
) -> Response:
    """Have a model server answer.

    Args:
        caller: who waits in the line.
        request: its caller's connection: whoever hangs up stops the generation.
        still_welcome: raises HTTPException once a stream is to end, its token being revoked.

    Raises:
        HTTPException: the line is full, or the server is not there.
        ClientDisconnect: the caller hung up.
    """
    try:
        answer = await _unless_gone(request, _asked(seat, exchange, caller))
        if exchange.asked.stream and answer.ok:
            return _Relay(answer, seat, exchange, recorder, still_welcome)
        return await _whole(answer, seat, exchange, request, recorder)
    except Full as full:
        recorder.ended(exchange, 503)
        raise HTTPException(503, "Too many requests wait already.", {"Retry-After": "5"}) from full
    except TimeoutError as late:
        recorder.ended(exchange, LATE)
        raise HTTPException(LATE, "The answer took longer than it may.") from late
    except LOST as lost:
        recorder.ended(exchange, BROKEN)
        raise HTTPException(503, _RESTARTS, _SOON) from lost
    except ValueError as garbage:
        recorder.ended(exchange, BROKEN)
        raise HTTPException(BROKEN, "The model server has answered something else.") from garbage
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
        body = await _unless_gone(request, bounded(answer))
        exchange.came_whole(body)
    finally:
        seat.line.leave()
        answer.close()
    recorder.ended(exchange, answer.status)
    kind = answer.headers.get("content-type", "application/json")
    return Response(body, answer.status, _headers(exchange), media_type=kind)


async def bounded(answer: ClientResponse) -> bytes:
    """The body.

    Raises:
        ValueError: it is larger than any answer.
    """
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError("longer than any answer")
    return bytes(body)


class _Relay(StreamingResponse):
    """A stream, event by event as they come; the place in front of the server is given up however
    that ends."""

    def __init__(
        self,
        answer: ClientResponse,
        seat: Seat,
        exchange: Exchange,
        recorder: Recorder,
        still_welcome: Callable[[], object],
    ) -> None:
        kind = answer.headers.get("content-type", "text/event-stream")
        super().__init__(self._events(), answer.status, _headers(exchange), media_type=kind)
        self._answer, self._seat = answer, seat
        self._exchange, self._recorder = exchange, recorder
        self._still_welcome = still_welcome
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
            asked_at = time.monotonic()
            async for chunk in self._answer.content.iter_any():
                if time.monotonic() - asked_at > WELCOME_S:
                    self._still_welcome()
                    asked_at = time.monotonic()
                if passed := self._exchange.came(chunk):
                    yield passed
            self._status = self._answer.status
        except HTTPException as unwelcome:
            yield self._broken(unwelcome.status_code, str(unwelcome.detail))
        except (*LOST, ValueError):
            yield self._broken(BROKEN, _RESTARTS)

    def _broken(self, status: int, why: str) -> bytes:
        """The last event of a stream of which the first ones have been passed on."""
        self._status = status
        detail = {"message": why, "type": error_type(status), "code": status}
        return f"data: {json.dumps({'error': detail})}\n\n".encode()


def error_type(status: int) -> str:
    """What OpenAI's API calls an error."""
    return "invalid_request_error" if status < 500 else "server_error"


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
