"""Everything an endpoint can do wrong, by name: ask for the model `fault:NAME`, or ask it that.

`fault:NAME:K` does it only the first K times that the very same request arrives.
"""

import asyncio
import gzip
import json
import os
import signal
from asyncio import StreamWriter
from collections.abc import Awaitable, Callable

from tests.scripted.http import response

_GOOD = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
_START = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n{"
_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    b'data: {"choices":[{"index":0,"delta":{"content":"fine"}}]}\n\n'
)


def _chat(*choices: object, **more: object) -> bytes:
    return json.dumps({"object": "chat.completion", "choices": choices, **more}).encode()


def _says(**message: str) -> bytes:
    return _chat({**_GOOD, "message": {"role": "assistant", **message}})


# A whole answer with status 200 that is wrong, or unusual, in its body alone.
BODIES = {
    "empty": b"",
    "not-json": b"<html>Bad gateway</html>",
    "not-utf8": b'{"choices": "\xff\xfe"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "nan": b'{"choices": [], "usage": {"prompt_tokens": NaN}}',
    "no-choices": b'{"object": "chat.completion"}',
    "one-choice-too-many": _chat(_GOOD, {**_GOOD, "index": 1}),
    "zero-choices": _chat(),
    "duplicate-index": _chat(_GOOD, _GOOD),
    "no-message": _chat({"index": 0}),
    "think-tags": _says(content="<think>two and two</think>\n\nfour"),
    "think-unclosed": _says(content="<think>two and two and"),
    "think-field": _says(content="four", reasoning_content="two and two"),
    "null-content": _chat({**_GOOD, "message": {"role": "assistant", "content": None}}),
}

# A status other than 200, with its headers.
STATUSES = {
    "400": (400, ""),
    "401": (401, ""),
    "404": (404, ""),
    "500": (500, ""),
    "502": (502, ""),
    "503": (503, ""),
    "429": (429, "retry-after: 0.3\r\n"),
    "429-for-an-hour": (429, "retry-after: 3600\r\n"),
    "429-nonsense": (429, "retry-after: soon\r\n"),
    "redirect": (307, "location: http://127.0.0.1:1/v1/chat/completions\r\n"),
}


async def _silent(writer: StreamWriter) -> None:
    """Takes the request and never says a word."""
    await asyncio.Event().wait()


async def _drip(writer: StreamWriter) -> None:
    """One byte at a time, for ever."""
    writer.write(_START)
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _endless(writer: StreamWriter) -> None:
    """A body without an end, as fast as it is read."""
    writer.write(_CHUNKED)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    while not writer.is_closing():
        writer.write(chunk)
        await writer.drain()


async def _drop(writer: StreamWriter) -> None:
    """Hangs up in the middle of the answer."""
    writer.write(_START + b'"choices": [')
    await writer.drain()


async def _break_off(writer: StreamWriter) -> None:
    """A stream that ends in order, but too soon."""
    writer.write(_EVENTS)
    await writer.drain()


async def _fail_inside(writer: StreamWriter) -> None:
    """A stream that says in its middle that it failed, and ends in order."""
    writer.write(_EVENTS + b'data: {"error": {"message": "scripted"}}\n\ndata: [DONE]\n\n')
    await writer.drain()


async def _hang_up(writer: StreamWriter) -> None:
    """Hangs up before the answer."""


async def _bad_gzip(writer: StreamWriter) -> None:
    """Says that the body is compressed when it is not."""
    writer.write(response(b"not gzip at all", headers="content-encoding: gzip\r\n"))
    await writer.drain()


async def _bomb(writer: StreamWriter) -> None:
    """A small body that unpacks to 64 MiB."""
    packed = gzip.compress(b" " * (64 << 20), 6)
    writer.write(response(packed, headers="content-encoding: gzip\r\n"))
    await writer.drain()


async def _not_http(writer: StreamWriter) -> None:
    """Speaks another protocol."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()


async def _die(writer: StreamWriter) -> None:
    """Is killed, as soon as what arrived together with the request is answered."""
    await asyncio.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


STREAMS: dict[str, Callable[[StreamWriter], Awaitable[None]]] = {
    "silent": _silent,
    "drip": _drip,
    "endless": _endless,
    "drop": _drop,
    "hang-up": _hang_up,
    "bad-gzip": _bad_gzip,
    "bomb": _bomb,
    "not-http": _not_http,
    "die": _die,
    "break-off": _break_off,
    "fail-inside": _fail_inside,
}


async def commit(name: str, writer: StreamWriter) -> None:
    """Do what the fault is called; the caller closes the connection afterwards.

    Raises:
        KeyError: there is no such fault.
    """
    if name in STREAMS:
        await STREAMS[name](writer)
        return
    if name in STATUSES:
        status, headers = STATUSES[name]
        error = json.dumps({"error": {"message": f"scripted {status}", "code": status}}).encode()
        writer.write(response(error, status, headers))
    else:
        writer.write(response(BODIES[name]))
    await writer.drain()
