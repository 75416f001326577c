"""Loaded into the model server: every route but its health wants the key.

vLLM asks for its key on `/v1` only, and with weight swaps enabled the other routes call any method
of its workers: without this, whoever finds the port could change the weights after their proof.
"""

import hmac
import os

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = {"/health", "/ping"}


class RequireKey:
    """ASGI middleware, named to vLLM by its `--middleware`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._has_key(scope):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._wanted)
