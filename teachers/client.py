"""Any OpenAI-compatible endpoint, over httpx."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from teachers.errors import (
    BadAnswer,
    CallRefused,
    CallUncertain,
    CallUnfit,
    ConfigError,
    EndpointBusy,
)
from teachers.limit import AdaptiveLimit
from teachers.reasoning import split_thinking
from teachers.records import Call, Output, Sample
from teachers.transport import Lanes
from teachers.wire import WireChoice, WireCompletion, WireModels

# Turned away before any work was done, so sending again cannot pay twice.
BUSY = {429, 503}
# About the request itself, not about who asks: too long, a parameter out of range.
UNFIT = {400, 413, 422}
MAX_BODY_BYTES = 16 * 1024 * 1024
# A server may ask for a pause; nobody may ask for an hour.
MAX_RETRY_AFTER_S = 30.0

Shape = TypeVar("Shape", bound=BaseModel)


class Endpoint(BaseModel):
    """Where a model answers, and how patient we are with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://")
    """Base address, with or without a closing `/v1`."""
    model: str
    """The name the endpoint serves it under."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key: keys are never written down."""
    concurrency: int = 32
    """Most requests in flight; fewer while the endpoint says it is busy."""
    timeout_s: float = 300.0
    """Longest a whole call may take, however slowly it drips."""
    retries: int = 6
    """How often a call is sent again that was turned away untouched."""

    @property
    def base(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1")

    def key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if key and key.isascii() and key.isprintable():
            return key
        raise ConfigError(
            f"The environment variable {self.api_key_env} holds no key that a header can carry."
            if key
            else f"The environment variable {self.api_key_env} is not set.",
            hint=f"It should hold the API key of {self.url}.",
        )


class Usage(NamedTuple):
    """Tokens that a call cost, as the endpoint counts them."""

    prompt_tokens: int
    completion_tokens: int


class Tokens(NamedTuple):
    """One answer as the tokens it was sampled as."""

    ids: tuple[int, ...]
    """With the end token, if it came to its end."""
    logprobs: tuple[float, ...]
    """Of each token, in nats, at temperature 1."""
    finish_reason: str


class Completion(NamedTuple):
    """A call's answers. `samples` has the length that the call's `n` asked for."""

    samples: tuple[Sample, ...]
    usage: Usage


class Client:
    """A pool of connections to one endpoint, with bounded and adaptive concurrency.

    Use it as an async context manager. Cancelling a call closes its connection, which makes a
    vLLM server stop generating.

    Args:
        endpoint: where to ask.
        key: the key itself, for engines of ours whose key lives in no environment variable.
        transport: for tests that need another one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.limit = AdaptiveLimit(endpoint.concurrency)
        key = key or endpoint.key()
        self._http = httpx.AsyncClient(
            base_url=endpoint.base,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            # Reads have no limit of their own: the deadline of the whole call bounds them.
            timeout=httpx.Timeout(None, connect=10.0),
            transport=transport or Lanes(),
            trust_env=False,
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def chat(
        self, call: Call, *, before: Callable[[], Awaitable[None]] | None = None
    ) -> Completion:
        """Ask for `call.sampling.n` answers to a conversation.

        Args:
            call: what to ask.
            before: awaited once, when the call has its place and is about to leave.

        Raises:
            EndpointBusy: turned away or unreachable through every retry; nothing was done.
            CallUnfit: the endpoint refuses this very request, a too long one for example.
            CallRefused: the endpoint will not do any (wrong model or key).
            CallUncertain: it was sent, and no whole answer came back.
            BadAnswer: the answer is not a chat completion, or has too few choices.
        """
        body = chat_body(self.endpoint.model, call)
        reply = await self._send("POST", "/v1/chat/completions", body, before)
        answer = _parse(WireCompletion, reply)
        wanted = call.sampling.n
        choices = sorted(answer.choices, key=lambda choice: choice.index)
        if [choice.index for choice in choices] != list(range(wanted)):
            raise BadAnswer(
                f"{self.endpoint.url} gave choices {[c.index for c in choices]} where "
                f"{wanted} were asked for."
            )
        usage = answer.usage
        alone = usage.completion_tokens if usage and wanted == 1 else None
        return Completion(
            tuple(_sample(call.id, choice, alone) for choice in choices),
            Usage(usage.prompt_tokens, usage.completion_tokens) if usage else Usage(0, 0),
        )

    async def logprobs(self, token_ids: Sequence[int], *, model: str = "") -> list[float]:
        """Log-probability (natural log) of each token given those before it.

        Args:
            token_ids: T tokens of the model's own tokenizer.
            model: another of the server's models, an adapter for example.

        Returns:
            T - 1 numbers; the first token has nothing before it.

        Raises:
            BadAnswer: the endpoint does not give prompt log-probabilities.
        """
        body = {
            "model": model or self.endpoint.model,
            "prompt": list(token_ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
        }
        answer = _parse(WireCompletion, await self.post("/v1/completions", body))
        rows = answer.choices[0].prompt_logprobs if answer.choices else None
        if rows is None or len(rows) != len(token_ids):
            raise BadAnswer(f"{self.endpoint.url} gives no log-probabilities of the prompt.")
        try:
            return [
                float((row or {})[str(token)]["logprob"])
                for row, token in zip(rows[1:], token_ids[1:], strict=True)
            ]
        except (KeyError, TypeError) as missing:
            raise BadAnswer(f"A prompt token has no log-probability: {missing}.") from missing

    async def sample(
        self, prompt: Sequence[int], n: int, max_tokens: int, *, model: str = ""
    ) -> list[Tokens]:
        """Answers drawn at temperature 1 from the whole distribution, as tokens.

        Args:
            prompt: tokens of the model's own tokenizer.
            n: how many answers.
            max_tokens: an answer is cut after so many.
            model: another of the server's models, an adapter for example.

        Raises:
            BadAnswer: the endpoint tells neither tokens nor log-probabilities; vLLM does.
        """
        body = {
            "model": model or self.endpoint.model,
            "prompt": list(prompt),
            "n": n,
            "max_tokens": max_tokens,
            "temperature": 1.0,
            "logprobs": 0,
            "return_token_ids": True,
        }
        answer = _parse(WireCompletion, await self.post("/v1/completions", body))
        choices = sorted(answer.choices, key=lambda choice: choice.index)
        if [choice.index for choice in choices] != list(range(n)):
            raise BadAnswer(f"{self.endpoint.url} gave {len(choices)} answers of {n}.")
        return [_tokens(choice) for choice in choices]

    async def models(self) -> WireModels:
        """What the endpoint says it serves."""
        return _parse(WireModels, await self._send("GET", "/v1/models", None))

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """One request to a route of the server's own, with the same care."""
        return await self._send("POST", path, body)

    async def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> bytes:
        """Send until it is taken or the retries are used up, waiting longer each time."""
        async with self.limit.slot():
            if before is not None:
                await before()
            attempt = 0
            while True:
                outcome = await self._attempt(method, path, body)
                if isinstance(outcome, bytes):
                    self.limit.succeeded()
                    return outcome
                if attempt == self.endpoint.retries:
                    raise EndpointBusy(
                        f"{self.endpoint.url} {outcome.why}, {attempt + 1} times.",
                        hint="Nothing was lost: run the same command again when it answers.",
                    )
                await asyncio.sleep(outcome.pause(attempt))
                attempt += 1

    async def _attempt(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> "bytes | _TurnedAway":
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                async with self._http.stream(method, path, json=body) as response:
                    content = await _read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return _TurnedAway("cannot be reached")
        except httpx.DecodingError as garbled:
            raise BadAnswer(f"{self.endpoint.url} sent a body that does not unpack.") from garbled
        except (TimeoutError, httpx.TransportError) as broken:
            self.limit.overloaded()
            raise CallUncertain(
                f"{self.endpoint.url} did not finish its answer ({_name(broken)})."
            ) from broken
        if response.status_code in BUSY:
            self.limit.overloaded()
            return _TurnedAway(f"is busy ({response.status_code})", _retry_after(response))
        if response.status_code >= 500:
            raise CallUncertain(f"{self.endpoint.url} failed: {_explain(response, content)}")
        if response.status_code in UNFIT:
            raise CallUnfit(f"{self.endpoint.url} refused it: {_explain(response, content)}")
        if response.status_code != 200:
            raise CallRefused(
                f"{self.endpoint.url} refused the request: {_explain(response, content)}",
                hint="Check the model's name, the key and the parameters.",
            )
        return content


class _TurnedAway(NamedTuple):
    """Why an attempt was not taken, and how long the server asked us to wait."""

    why: str
    retry_after_s: float | None = None

    def pause(self, attempt: int) -> float:
        """Seconds to wait: exponential with full jitter, at least what the server asked for."""
        backoff = random.uniform(0, min(30.0, 0.25 * 2**attempt))
        return max(backoff, self.retry_after_s or 0.0)


def chat_body(model: str, call: Call) -> dict[str, Any]:
    """What a call says on the wire."""
    sampling = call.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in call.messages],
        "n": sampling.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body | _output_body(call.output)


def _output_body(output: Output | None) -> dict[str, Any]:
    """What asks for a form; `structured_outputs` is vLLM's own field."""
    body: dict[str, Any] = {}
    if output is None:
        return body
    if output.choices:
        body["structured_outputs"] = {"choice": list(output.choices)}
    if output.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": output.top_logprobs}
    if output.json_schema is not None:
        schema = {"name": "answer", "schema": output.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _sample(call_id: str, choice: WireChoice, tokens: int | None) -> Sample:
    if choice.message is None:
        raise BadAnswer("A choice of the chat completion has no message.")
    thought = split_thinking(choice.message.content or "")
    thinking = choice.message.reasoning or choice.message.reasoning_content or thought.thinking
    return Sample(
        call_id=call_id,
        position=choice.index,
        text=thought.answer,
        thinking=thinking,
        finish_reason=choice.finish_reason or "unknown",
        tokens=tokens,
        first_token=_first_token(choice),
    )


def _tokens(choice: WireChoice) -> Tokens:
    logprobs = choice.logprobs.token_logprobs if choice.logprobs else None
    known = [one for one in logprobs or () if one is not None]
    if not choice.token_ids or len(known) != len(choice.token_ids):
        raise BadAnswer("An answer has no tokens, or not every token has a log-probability.")
    return Tokens(tuple(choice.token_ids), tuple(known), choice.finish_reason or "unknown")


def _first_token(choice: WireChoice) -> tuple[tuple[str, float], ...]:
    places = choice.logprobs.content if choice.logprobs else None
    return tuple((one.token, one.logprob) for one in places[0].top_logprobs) if places else ()


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BadAnswer(f"The answer is longer than {MAX_BODY_BYTES >> 20} MiB; given up.")
    return bytes(body)


def _parse(shape: type[Shape], body: bytes) -> Shape:
    try:
        return shape.model_validate_json(body)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadAnswer(
            f"The endpoint's answer is not what the OpenAI protocol says: {first['msg']}"
            + (f" (at {where})." if where else ".")
        ) from wrong


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return min(float(response.headers["retry-after"]), MAX_RETRY_AFTER_S)
    except (KeyError, ValueError):
        return None


def _explain(response: httpx.Response, content: bytes) -> str:
    return f"{response.status_code} {content[:300].decode('utf-8', 'replace')}"


def _name(error: BaseException) -> str:
    return str(error) or type(error).__name__
