"""The OpenAI-compatible address that users see. The engine behind it never faces them.

Only the routes and parameters listed here are forwarded, within bounds: a model server takes many
more, and some of them stop it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.auth import Door, needs
from service.champion import NOBODY, Champion

_NOBODY = (
    "No checkpoint has been promoted yet, so nobody answers. `preceptor run` trains one, and "
    "`preceptor promote` promotes one that the gate kept aside."
)
MAX_BODY_BYTES = 1024 * 1024
STALLED_S = 60.0


class ChatMessage(BaseModel):
    """One turn; text only."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """What may be asked. Anything else is refused by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    n: int = Field(default=1, ge=1, le=8)
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=8192)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: str | list[str] | None = Field(default=None, max_length=64)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    """Taken and not passed on: a seed for one request stops the CPU engine."""
    user: str | None = None
    """Taken and not passed on."""

    def forwarded(self) -> dict[str, Any]:
        return self.model_dump(exclude={"seed", "user"}, exclude_none=True)


def create_app(champion: Champion, door: Door) -> FastAPI:
    """The gateway in front of one champion.

    Args:
        champion: who answers.
        door: who may ask.
    """
    app = FastAPI(title="Preceptor", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.door, guarded = door, [Depends(needs("read"))]
    app.add_exception_handler(AnyHTTPException, _as_openai_error)
    app.add_exception_handler(RequestValidationError, _as_openai_error)
    app.add_exception_handler(ClientDisconnect, _to_nobody)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        status = "ok" if champion.ready else "loading"
        if champion.identity == NOBODY:
            status = "nothing to serve yet"
        return {"status": status, "checkpoint": champion.identity}

    @app.get("/v1/models", dependencies=guarded)
    async def models() -> dict[str, Any]:
        if champion.identity == NOBODY:
            return {"object": "list", "data": []}
        served = {
            "id": champion.name,
            "object": "model",
            "created": int(champion.since),
            "owned_by": "preceptor",
            "root": champion.identity,
        }
        return {"object": "list", "data": [served]}

    @app.post("/v1/chat/completions", dependencies=guarded)
    async def chat(
        asked: Annotated[ChatRequest, Depends(_chat_request)], request: Request
    ) -> Response:
        if asked.model != champion.name:
            raise HTTPException(404, f"There is no model {asked.model!r}; {champion.name!r} is.")
        if champion.identity == NOBODY:
            raise HTTPException(503, _NOBODY, {"Retry-After": "60"})
        return await _forward(champion, asked, request)

    return app


async def _chat_request(request: Request) -> ChatRequest:
    """The body as a request that may be made; bounded before it is read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"The request is larger than {MAX_BODY_BYTES >> 20} MiB.")
    try:
        return ChatRequest.model_validate_json(bytes(body))
    except ValueError as wrong:
        raise HTTPException(400, _first_problem(wrong)) from wrong


async def _forward(champion: Champion, asked: ChatRequest, request: Request) -> Response:
    """Pass a request to the engine, and its answer back as it comes."""
    await champion.enter()
    try:
        answer = await _unless_gone(request, champion.send(asked.forwarded()))
    except httpx.HTTPError as lost:
        champion.leave()
        raise HTTPException(503, "The model server is being restarted; try again.") from lost
    except BaseException:
        champion.leave()
        raise
    return _Relay(answer, champion)


async def _unless_gone(
    request: Request, sending: Coroutine[Any, Any, httpx.Response]
) -> httpx.Response:
    """Wait for the engine's answer, but no longer than the caller does.

    Raises:
        ClientDisconnect: the caller hung up; the engine has been told to stop generating.
    """
    answer = asyncio.create_task(sending)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Relay(StreamingResponse):
    """The engine's answer, byte by byte as it comes; the place in front of the engine is given up
    however that ends."""

    def __init__(self, answer: httpx.Response, champion: Champion) -> None:
        headers = {"x-preceptor-checkpoint": champion.identity}
        kind = answer.headers.get("content-type", "application/json")
        super().__init__(answer.aiter_raw(), answer.status_code, headers, media_type=kind)
        self._answer, self._leave = answer, champion.leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            # A caller who stops reading must not hold up a change of the champion for ever.
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        finally:
            self._leave()
            # Also when the caller hung up: closing makes the engine stop generating.
            await self._answer.aclose()


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
    kind = "invalid_request_error" if status < 500 else "server_error"
    detail = {"message": str(getattr(error, "detail", error)), "type": kind, "code": status}
    return JSONResponse({"error": detail}, status, getattr(error, "headers", None))


async def _to_nobody(_: Request, __: Exception) -> Response:
    """For the log's sake: who asked has hung up."""
    return Response(status_code=499)
