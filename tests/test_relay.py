"""A stream between a model server and a caller who reads it at a pace of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from service import relay
from service.relay import Unread

MIB = 1024**2


def played(play: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(20):
            await play()

    asyncio.run(in_time())


@asynccontextmanager
async def answer_of(
    size: int, *, breaks_off: bool = False
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A server's answer of so many bytes."""

    async def tell(request: web.Request) -> web.StreamResponse:
        said = web.StreamResponse()
        await said.prepare(request)
        with suppress(ConnectionError):
            for _ in range(size // MIB):
                await said.write(b"x" * MIB)
        if breaks_off and request.transport is not None:
            request.transport.abort()
        return said

    app = web.Application()
    app.router.add_get("/", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/") as answer:
        yield answer
    await runner.cleanup()


def test_the_server_is_done_however_slowly_the_caller_reads() -> None:
    async def play() -> None:
        done = asyncio.Event()
        async with answer_of(8 * MIB) as answer:
            unread = Unread(answer, done.set)
            await done.wait()
            assert sum([len(piece) async for piece in unread.pieces()]) == 8 * MIB

    played(play)


def test_no_more_than_so_much_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MOST_UNREAD_BYTES", MIB)

    async def play() -> None:
        done = asyncio.Event()
        async with answer_of(32 * MIB) as answer:
            unread = Unread(answer, done.set)
            await asyncio.sleep(0.5)
            assert not done.is_set()
            assert unread.size < 2 * MIB
            assert sum([len(piece) async for piece in unread.pieces()]) == 32 * MIB
            await done.wait()

    played(play)


def test_a_server_that_hangs_up_is_done_and_the_caller_hears_of_it() -> None:
    async def play() -> None:
        done = asyncio.Event()
        async with answer_of(MIB, breaks_off=True) as answer:
            unread = Unread(answer, done.set)
            with pytest.raises(aiohttp.ClientError):
                [piece async for piece in unread.pieces()]
            await done.wait()

    played(play)


def test_nobody_wants_to_hear_more() -> None:
    async def play() -> None:
        done = asyncio.Event()
        async with answer_of(256 * MIB) as answer:
            Unread(answer, done.set).stop()
            await done.wait()
            assert answer.closed

    played(play)
