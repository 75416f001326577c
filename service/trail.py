"""Every request has an id, and leaves a line in the log where lines of JSON are asked for."""

import re
import secrets
import sys
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import tracing
from service.logs import Lines, as_json

HEADER = "x-request-id"
_OURS = ("x-preceptor-checkpoint", "x-preceptor-exchange")
_FIT = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST_PATH = 200


class Trail:
    """Gives answers the id that the request came with, or a new one.

    A line says who asked for what, what was answered, and how long it took; never what a body, a
    query or a token was.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = Lines(sys.stderr, {}) if as_json() else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answered = time.monotonic(), dict[str, Any]()
        given = Headers(scope=scope)
        name = given.get(HEADER, "")
        name = name if _FIT.fullmatch(name) else secrets.token_hex(8)
        # `needs` puts the caller into the state.
        state, path = scope.setdefault("state", {}), scope["path"][:_LONGEST_PATH]

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = name
                answered["status"] = message["status"]
                answered.update({key: headers[key] for key in _OURS if key in headers})
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                answered["whole"] = True
            await send(message)

        with tracing.request(scope["method"], path, given) as said:
            try:
                await self._app(scope, receive, heard)
            finally:
                line = _line(state, answered, round(time.monotonic() - began, 4))
                said |= _attributes(name, line)
                if self._log is not None:
                    method = scope["method"]
                    self._log.write("request", request=name, method=method, path=path, **line)


def _attributes(name: str, line: dict[str, Any]) -> dict[str, Any]:
    """What a span says, by OpenTelemetry's names where it has some."""
    return {
        "http.response.status_code": line["status"],
        "preceptor.request": name,
        "preceptor.whole": line["whole"],
        "preceptor.checkpoint": line["checkpoint"],
        "preceptor.exchange": line["exchange"],
        "user.name": line["who"],
    }


def _line(state: dict[str, Any], answered: dict[str, Any], seconds: float) -> dict[str, Any]:
    caller = state.get("caller")
    return {
        "who": caller.name if caller else None,
        "status": answered.get("status"),
        "whole": answered.get("whole", False),
        "seconds": seconds,
        "checkpoint": answered.get(_OURS[0]),
        "exchange": answered.get(_OURS[1]),
    }
