"""What may be asked of a student, and within which bounds. Anything else is refused by name: a
model server takes many more parameters, and some of them stop it.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_BODY_BYTES = 1024 * 1024
_MAX_SCHEMA_BYTES = 16 * 1024
_MAX_SCHEMA_DEPTH = 12
_MAX_COUNT = 1000
# Of a schema, these are turned into an automaton as large as the number says.
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength"}) | {
    "minProperties",
    "maxProperties",
}
_MOST_AT_ONCE = 8
"""Answers to one request, those to several prompts together."""
_USUAL_TOKENS = 256


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(schema)) > _MAX_SCHEMA_BYTES:
        raise ValueError(f"A schema has at most {_MAX_SCHEMA_BYTES >> 10} KiB.")
    for key, value, depth in _walk(schema, 1):
        if depth > _MAX_SCHEMA_DEPTH:
            raise ValueError(f"A schema is nested at most {_MAX_SCHEMA_DEPTH} deep.")
        if _is_expression(key, value):
            raise ValueError(f"{key!r} of a schema is not supported.")
        if key in _COUNTS and isinstance(value, int | float) and value > _MAX_COUNT:
            raise ValueError(f"{key!r} of a schema is at most {_MAX_COUNT}.")
    return schema


def _is_expression(key: str | None, value: Any) -> bool:
    """Whether this is a regular expression of a stranger's: compiling one can take for ever.

    A property of that name is told by its value, which is a schema. Its place tells nothing: a
    reference may make a schema of anything.
    """
    return key == "patternProperties" or (key == "pattern" and isinstance(value, str))


def _walk(value: Any, depth: int) -> Iterator[tuple[str | None, Any, int]]:
    """Every (key, value) of a schema with how deep it stands."""
    waiting = [(value, depth)]
    while waiting:
        one, deep = waiting.pop()
        if isinstance(one, dict):
            for key, inner in one.items():
                yield key, inner, deep
                waiting.append((inner, deep + 1))
        elif isinstance(one, list):
            yield None, None, deep
            waiting.extend((inner, deep + 1) for inner in one)


Schema = Annotated[dict[str, Any], AfterValidator(_bounded_schema)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(_Asked):
    """A part of a message that consists of parts; text only."""

    type: Literal["text"]
    text: str


class CalledFunction(_Asked):
    name: FunctionName
    arguments: str


class ToolCall(_Asked):
    """What a student has called."""

    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Asked):
    """One turn; text only."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = Field(default=None, max_length=64)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=64)
    tool_call_id: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("content is missing")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id belongs to a message of the role tool, which needs it")
        return self


class Function(_Asked):
    name: FunctionName
    description: str | None = Field(default=None, max_length=4096)
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(_Asked):
    """A function that a student may call."""

    type: Literal["function"]
    function: Function


class FunctionChoice(_Asked):
    name: FunctionName


class ToolChoice(_Asked):
    """The function that is to be called."""

    type: Literal["function"]
    function: FunctionChoice


class JsonSchema(_Asked):
    name: str = Field(max_length=64)
    description: str | None = Field(default=None, max_length=4096)
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class Form(_Asked):
    """What the answer has to look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> "Form":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type json_schema, which needs it")
        return self


class StreamOptions(_Asked):
    include_usage: bool = False


class Asked(_Asked):
    """What chat and completion have in common."""

    path: ClassVar[str]
    """Of the model server."""

    model: str = Field(min_length=1, max_length=128)
    n: int = Field(default=1, ge=1, le=_MOST_AT_ONCE)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: str | list[str] | None = Field(default=None, max_length=64)
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    """Taken and not passed on: a seed for one request stops the CPU engine."""
    user: str | None = Field(default=None)
    """Taken and not passed on: who asks, for a canary's sake."""

    @property
    def expected_tokens(self) -> int:
        """About what it takes: a token for four characters of the question, and all that it may
        write, or `_USUAL_TOKENS` where it does not say."""
        return self.question_tokens + self._answers * (self._most_tokens or _USUAL_TOKENS)

    @property
    def question_tokens(self) -> int:
        """Of the question alone."""
        return len(json.dumps(self.forwarded())) // 4

    @property
    def _answers(self) -> int:
        return self.n

    @property
    def _most_tokens(self) -> int | None:
        raise NotImplementedError

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage

    def forwarded(self) -> dict[str, Any]:
        """The body for a model server, without `model`; a stream always tells what it took."""
        body = self.model_dump(
            exclude={"model", "seed", "user", "stream_options"}, exclude_none=True, by_alias=True
        )
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        return body


class ChatRequest(Asked):
    """A conversation to be continued."""

    path = "/v1/chat/completions"

    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=8192)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Tool] | None = Field(default=None, min_length=1, max_length=32)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: Form | None = None

    @property
    def _most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Asked):
    """A text to be continued."""

    path = "/v1/completions"

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=_MOST_AT_ONCE)]
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None

    @model_validator(mode="after")
    def _is_not_too_much(self) -> "CompletionRequest":
        if self._answers > _MOST_AT_ONCE:
            raise ValueError(f"prompts times n is at most {_MOST_AT_ONCE}")
        if self.echo and self.logprobs is not None and self._answers > 1:
            raise ValueError("echo with logprobs is for one prompt and one answer")
        return self

    @property
    def _answers(self) -> int:
        return self.n * (1 if isinstance(self.prompt, str) else len(self.prompt))

    @property
    def _most_tokens(self) -> int | None:
        return self.max_tokens
