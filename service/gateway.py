"""The OpenAI-compatible address that users see. The model servers behind it never face them."""

from contextlib import suppress
from functools import partial
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from pipelines.home import Home
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import sqlite3
from pipelines.store.traffic import Kind
from service.asked import MAX_BODY_BYTES, Asked, ChatRequest, CompletionRequest
from service.auth import Door, Person, needs
from service.champion import NOBODY
from service.exchange import Exchange
from service.feedback import Feedback, keep
from service.fleet import Fleet, NoRoom
from service.relay import Moved, ask, error_type
from service.rooms import Rooms
from service.seat import Seat
from teachers.errors import ConfigError, PreceptorError, StoreError

_NOBODY = (
    "No checkpoint has been promoted yet, so nobody answers. `preceptor run` trains one, and "
    "`preceptor promote` promotes one that the gate kept aside."
)
_NO_EMBEDDINGS = (
    "Students are causal language models that write text; none of them makes embeddings."
)
_LATER = {"Retry-After": "60"}

Some = TypeVar("Some", bound=BaseModel)


def create_app(home: Home, rooms: Rooms, door: Door) -> FastAPI:
    """The gateway in front of the students.

    Args:
        home: where feedback is kept.
        door: who may ask.
    """
    app = FastAPI(title="Preceptor", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.door, guarded = door, [Depends(needs("read"))]
    app.add_exception_handler(AnyHTTPException, _as_openai_error)
    app.add_exception_handler(RequestValidationError, _as_openai_error)
    app.add_exception_handler(ClientDisconnect, _to_nobody)
    for unreadable in (StoreError, sqlite3.OperationalError):
        app.add_exception_handler(unreadable, _store_is_busy)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        champion = rooms.fleet.champion
        status = "nothing to serve yet" if champion.identity == NOBODY else "ok"
        return {"status": status, "checkpoint": champion.identity}

    @app.get("/v1/models", dependencies=guarded)
    def models() -> dict[str, Any]:
        return {"object": "list", "data": _models(rooms.fleet)}

    @app.post("/v1/chat/completions", dependencies=guarded)
    async def chat(asked: Annotated[ChatRequest, Depends(_chat)], request: Request) -> Response:
        return await _answer(rooms, asked, request)

    @app.post("/v1/completions", dependencies=guarded)
    async def complete(
        asked: Annotated[CompletionRequest, Depends(_completion)], request: Request
    ) -> Response:
        return await _answer(rooms, asked, request)

    @app.post("/v1/embeddings", dependencies=guarded)
    async def embed() -> Response:
        raise HTTPException(400, _NO_EMBEDDINGS)

    @app.post("/v1/feedback", status_code=201, dependencies=[Depends(needs("label"))])
    def feedback(
        said: Annotated[Feedback, Depends(_feedback)], person: Person, request: Request
    ) -> dict[str, str | None]:
        token_id = request.state.caller.token_id
        try:
            return {"id": said.id, "label": keep(home, said, person, token_id)}
        except ConfigError as wrong:
            raise HTTPException(404, f"{wrong.message} {wrong.hint}".strip()) from wrong

    return app


def _models(fleet: Fleet) -> list[dict[str, Any]]:
    champion = fleet.champion
    if champion.seat is None:
        return []
    found = {one.name: (one.checkpoint_id or "base", one.since) for one in fleet.names()}
    # The alias may be a moment ahead of who answers.
    found[CHAMPION] = champion.identity, champion.seat.since
    return [
        {"id": name, "object": "model", "created": int(at), "owned_by": "preceptor", "root": who}
        for name, (who, at) in found.items()
    ]


async def _chat(request: Request) -> ChatRequest:
    return _read(ChatRequest, await _body(request))


async def _completion(request: Request) -> CompletionRequest:
    return _read(CompletionRequest, await _body(request))


async def _feedback(request: Request) -> Feedback:
    return _read(Feedback, await _body(request))


async def _body(request: Request) -> bytes:
    """The body, bounded before it is read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"The request is larger than {MAX_BODY_BYTES >> 20} MiB.")
    return bytes(body)


def _read(kind: type[Some], body: bytes) -> Some:
    try:
        return kind.model_validate_json(body)
    except ValueError as wrong:
        raise HTTPException(400, _first_problem(wrong)) from wrong


async def _answer(rooms: Rooms, asked: Asked, request: Request) -> Response:
    """Have a student answer: the one that was asked for, or the candidate in its place."""
    door: Door = request.app.state.door
    token = door.token(request)
    rooms.limits.admit(token)
    token_id = token.id if token else None
    caller = token_id or _address(request)
    still_welcome = partial(door.check, request, "read")
    while True:
        seat, exchange = await _asked_of(rooms, asked, str(request.state.caller), token_id)
        # Who was asked by name may have lost the server to another while this waited there.
        with suppress(Moved):
            return await ask(seat, exchange, caller, request, rooms.recorder, still_welcome)


async def _asked_of(
    rooms: Rooms, asked: Asked, who: str, token_id: str | None
) -> tuple[Seat, Exchange]:
    """Who is to answer, and the exchange; a candidate beside the champion is asked already."""
    tried = await _tried(rooms, asked, asked.user or token_id)
    if tried is not None and tried.kind == "canary":
        keep = rooms.recorder.keep
        return tried.seat, Exchange(asked, tried.seat.identity, "canary", who, token_id, keep=keep)
    seat = await _seat(rooms, asked.model)
    exchange = Exchange(asked, seat.identity, "direct", who, token_id, keep=rooms.recorder.keep)
    if tried is not None:
        keep = rooms.recorder.keep or tried.kind == "compare"
        exchange.keep |= rooms.shadows.ask(tried.seat, asked, exchange, keep=keep) and keep
    return seat, exchange


class _Tried(NamedTuple):
    """A candidate that takes part in answering a request."""

    seat: Seat
    kind: Kind


async def _tried(rooms: Rooms, asked: Asked, user: str | None) -> _Tried | None:
    """The candidate on trial, if the request is in its share and its server runs."""
    trial = rooms.traffic.trial
    if trial is None or asked.model != CHAMPION or not rooms.traffic.drawn(user):
        return None
    try:
        seat = rooms.fleet.soon(trial.checkpoint_id)
    except PreceptorError as error:
        rooms.traffic.end_soon(trial, f"its server did not start: {error.message}")
        return None
    # A candidate that has become the champion is on trial no longer.
    if seat is None or seat is rooms.fleet.champion.seat:
        return None
    return _Tried(seat, trial.kind)


async def _seat(rooms: Rooms, name: str) -> Seat:
    try:
        seat = await rooms.fleet.seat(name)
    except ConfigError as unknown:
        raise HTTPException(404, f"There is no model {name!r}: {unknown.message}") from unknown
    except NoRoom as full:
        raise HTTPException(503, f"{full.message} {full.hint}".strip(), _LATER) from full
    except PreceptorError as failed:
        raise HTTPException(503, failed.message, _LATER) from failed
    if seat is None:
        raise HTTPException(503, _NOBODY, _LATER)
    return seat


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _first_problem(wrong: ValueError) -> str:
    errors = getattr(wrong, "errors", None)
    if errors is None:
        return str(wrong)
    first = errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"The parameter {where!r} is not supported."
    return f"{where}: {first['msg']}" if where else str(first["msg"])


async def _as_openai_error(_: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 400)
    why = str(getattr(error, "detail", error))
    detail = {"message": why, "type": error_type(status), "code": status}
    return JSONResponse({"error": detail}, status, getattr(error, "headers", None))


async def _store_is_busy(request: Request, error: Exception) -> JSONResponse:
    said = error.message if isinstance(error, PreceptorError) else str(error)
    refused = HTTPException(503, f"The store cannot be used now: {said}.", {"Retry-After": "5"})
    return await _as_openai_error(request, refused)


async def _to_nobody(_: Request, __: Exception) -> Response:
    """For the log's sake: who asked has hung up."""
    return Response(status_code=499)
