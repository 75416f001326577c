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
MOST_UNREAD_BYTES = 16 * 1024 * 1024
GONE = 499
BROKEN = 502
LATE = 504
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_RESTARTS = "The model server is being restarted; try again."
_SOON = {"Retry-After": "2"}
_BROKE_OFF = "The answer broke off."


class Moved(Exception):
    """Who was asked by name answers no more from the server in whose line this waited."""


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
        Moved: somebody else has to be asked; nobody was.
    """
    recorder.began(exchange)
    try:
        answer = await _unless_gone(request, begun(seat, exchange, caller))
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
    except Moved:
        recorder.left(exchange)
        raise


async def begun(seat: Seat, exchange: Exchange, caller: str) -> ClientResponse:
    """The answer's head; its body is still to be read, and the place to be given up.

    Raises:
        Full: the line is.
        TimeoutError: it took longer than an answer may to get a place.
        Moved: as `ask` does.
    """
    async with asyncio.timeout(seat.limit_s):
        await seat.line.enter(caller)
    try:
        if seat.gone:
            raise ClientConnectionError("the server was stopped while this waited")
        # Whoever waited may have waited for a change: only who asks for the champion means it.
        if exchange.follows_champion:
            exchange.checkpoint = seat.identity
        elif exchange.checkpoint != seat.identity:
            raise Moved
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
    headers = _headers(exchange) | (_SOON if answer.status in (429, 503) else {})
    return Response(body, answer.status, headers, media_type=kind)


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


class Unread:
    """A stream between the server, which is to be done with it soon, and a caller who may read
    slowly.

    Args:
        answer: what is read, no more than `MOST_UNREAD_BYTES` ahead.
        done: called when the server has said all, or hung up, or nobody wants to hear it.
    """

    def __init__(self, answer: ClientResponse, done: Callable[[], None]) -> None:
        self._answer = answer
        self._pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self.size = 0
        """Bytes that wait for the caller."""
        self._read = asyncio.Event()
        self._reading = asyncio.create_task(self._run())
        self._reading.add_done_callback(lambda _: done())

    async def pieces(self) -> AsyncIterator[bytes]:
        """As they came.

        Raises:
            One of `LOST`: the server has hung up.
        """
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            self.size -= len(piece)
            self._read.set()
            yield piece

    def stop(self) -> None:
        """Nobody wants to hear more; closing makes the server stop generating."""
        self._reading.cancel()
        self._answer.close()

    async def _run(self) -> None:
        try:
            async for piece in self._answer.content.iter_any():
                self.size += len(piece)
                self._pieces.put_nowait(piece)
                while self.size > MOST_UNREAD_BYTES:
                    self._read.clear()
                    await self._read.wait()
            self._pieces.put_nowait(None)
        except (*LOST, ValueError) as lost:
            self._pieces.put_nowait(lost)


class _Relay(StreamingResponse):
    """A stream, event by event as they come; the place in front of the server is given up when the
    server is done, or the caller gone."""

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

        unread = self._unread = Unread(self._answer, self._seat.line.leave)
        try:
            await super().__call__(scope, receive, patiently)
        finally:
            unread.stop()
            self._recorder.ended(self._exchange, self._status)

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            asked_at = time.monotonic()
            async for chunk in self._unread.pieces():
                if time.monotonic() - asked_at > WELCOME_S:
                    self._still_welcome()
                    asked_at = time.monotonic()
                if passed := self._exchange.came(chunk):
                    yield passed
            if not self._exchange.ended:
                yield self._broken(BROKEN, _BROKE_OFF)
            else:
                self._status = BROKEN if self._exchange.failed else self._answer.status
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
