"""As much HTTP/1.1 as a client of ours speaks, in as little time as possible per request."""

from asyncio import IncompleteReadError, StreamReader
from typing import NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    authorization: str
    body: bytes
    id: str = ""
    """As its caller names it."""
    trace: str = ""
    """The trace that its caller makes it a part of."""


async def read_request(reader: StreamReader) -> Request | None:
    """The next request on a connection, or None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    told = (headers.get(name, "") for name in ("x-request-id", "traceparent"))
    return Request(method, path, headers.get("authorization", ""), body, *told)


def response(body: bytes, status: int = 200, headers: str = "") -> bytes:
    """A whole answer; `headers` are lines of their own, each ending in CRLF."""
    head = (
        f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body
