"""Requests no larger than they may be, counted as they come."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 4 * 1024 * 1024


class BoundedBody:
    """Refuses a body as soon as it is larger than `MOST_BYTES`, with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                raise HTTPException(413, f"The request is larger than {MOST_BYTES >> 20} MiB.")
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)
