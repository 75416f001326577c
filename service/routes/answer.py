"""How every route of the API answers: what did not change is not sent again (ETag, RFC 9110), what
was asked twice with one `Idempotency-Key` is done once, and who changed what is written down.
"""

import hashlib
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from pipelines.home import Home
from pipelines.store import replies, tokens
from pipelines.store.connection import connect, transaction
from pipelines.store.replies import Reply
from service.problems import problem

Handle = Callable[[Request], Coroutine[Any, Any, Response]]
KEY = "idempotency-key"
_ONLY_ASK = ("/query", "/constitutions/preview")
_LONGEST_KEY = 300


class Answer(APIRoute):
    """A route whose answers to GET have an ETag and whose answers to POST may have a key."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method == "GET":
                return _tagged(request, await handle(request))
            if request.url.path.endswith(_ONLY_ASK):
                return await handle(request)
            key = request.headers.get(KEY)
            if key is None:
                return await _audited(request, handle)
            return await _once(request, key, handle)

        return answer


def _tagged(request: Request, response: Response) -> Response:
    body = getattr(response, "body", None)
    if response.status_code != 200 or not body:  # a stream has none
        return response
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if tag in {one.strip() for one in known}:
        return Response(status_code=304, headers={"etag": tag})
    response.headers["etag"] = tag
    return response


async def _audited(request: Request, handle: Handle) -> Response:
    """Answer, and write down who has changed what."""
    response = await handle(request)
    state, what = request.app.state, f"{request.method} {request.url.path}"
    await run_in_threadpool(_write, state.home, tokens.audit, str(request.state.caller), what)
    return response


async def _once(request: Request, key: str, handle: Handle) -> Response:
    state = request.app.state
    # Nobody is given what another was answered.
    caller = await run_in_threadpool(state.door.check, request, "read")
    key = f"{caller}: {key}"
    if len(key) > _LONGEST_KEY:
        return problem(400, f"{KEY} is longer than it may be.")
    what = f"{request.method} {request.url.path}\n".encode() + await request.body()
    asked = hashlib.sha256(what).hexdigest()
    known = await run_in_threadpool(_write, state.home, replies.reserve, key, asked)
    if known is not None:
        return _again(known, asked)
    try:
        response = await _audited(request, handle)
    except BaseException:
        await run_in_threadpool(_write, state.home, replies.forget, key)
        raise
    body = bytes(response.body).decode()
    await run_in_threadpool(_write, state.home, replies.keep, key, response.status_code, body)
    return response


def _again(known: Reply, asked: str) -> Response:
    if known.request != asked:
        return problem(422, f"This {KEY} was used for another request.")
    if known.status == replies.PENDING:
        return problem(409, "This request is being done.", "Ask again in a moment.")
    return Response(known.body, known.status, media_type="application/json")


def _write(home: Home, change: Callable[..., Any], *values: object) -> Any:
    with closing(connect(home.store)) as db, transaction(db):
        return change(db, *values)
