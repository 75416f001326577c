"""The parts of the OpenAI protocol that we read, as types: anything else is not an answer."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Wire(BaseModel):
    # Endpoints add fields of their own; NaN in a number is never meant.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class WireMessage(_Wire):
    content: str | None = None
    reasoning: str | None = None
    """vLLM's field for thinking parsed by the server; others call it `reasoning_content`."""
    reasoning_content: str | None = None


class WireToken(_Wire):
    token: str
    logprob: float


class WirePlace(WireToken):
    """What was sampled at one place of the answer, and what else was likely there."""

    top_logprobs: list[WireToken] = []


class WireLogprobs(_Wire):
    content: list[WirePlace] | None = None
    """Of a chat completion;"""
    token_logprobs: list[float | None] | None = None
    """of a plain one."""


class WireChoice(_Wire):
    index: int = 0
    message: WireMessage | None = None
    """Chat completions carry a message,"""
    text: str | None = None
    """plain completions a text."""
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None
    prompt_logprobs: list[dict[str, dict[str, Any]] | None] | None = None
    token_ids: list[int] | None = None
    """vLLM's own field: the tokens of the answer, its end token included."""


class WireUsage(_Wire):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class WireCompletion(_Wire):
    model: str = ""
    choices: list[WireChoice]
    usage: WireUsage | None = None


class WireModel(_Wire):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class WireModels(_Wire):
    data: list[WireModel]
