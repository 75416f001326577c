"""What a teacher is asked and what it answers: frozen records, named by their content."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]


def content_id(kind: str, content: object) -> str:
    """Name a record by what it says: the SHA-256 of its kind and its canonical JSON.

    Args:
        kind: keeps records of different kinds apart that happen to say the same.
        content: anything JSON can carry. NaN and infinity are refused.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(f"{kind}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


class Record(BaseModel):
    """A frozen record whose id is the hash of its content: what it says, not when it was said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @cached_property
    def id(self) -> str:
        return content_id(type(self).__name__.lower(), self.model_dump(mode="json"))

    def model_copy(self, **how: Any) -> Self:
        """A copy with other content has another id."""
        copy = super().model_copy(**how)
        copy.__dict__.pop("id", None)
        return copy


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str


class Prompt(Record):
    """A task for a student, with what a verifier needs to check an answer."""

    task: str
    """The kind of task, for example `chain_sum` or `gsm8k`: results are reported by it."""
    question: str
    """The text that the student sees."""
    reference: str | None = None
    """The right answer, where there is one."""
    verifier: str = "number"
    """Which verifier decides: a name from `judges.verifiers.VERIFIERS`, or `none`."""
    entry: dict[str, Any] = Field(default_factory=dict)
    """What the verifier needs beside the reference, for example a generator's own metadata."""


class Sampling(BaseModel):
    """How a model is sampled. There is no seed: one per request kills the CPU engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    n: int = Field(default=1, ge=1, le=64)
    """Answers per request."""
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    """0 takes the likeliest token every time; 1 samples as the model was trained."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Only the likeliest tokens that make up this share of the probability are sampled."""
    max_tokens: int = Field(default=512, ge=1)
    """An answer is cut after this many tokens."""
    stop: tuple[str, ...] = ()
    """An answer ends before any of these texts."""


class Output(BaseModel):
    """The form that an answer must have, where it is more than free text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: tuple[str, ...] = ()
    """The answer is one of these."""
    top_logprobs: int = Field(default=0, ge=0, le=20)
    """So many of the likeliest first tokens are told, with their log-probabilities."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON of this schema."""


class Call(Record):
    """One request to a model. Its id is known before it is sent, so a finished one is never resent.

    It covers the weights (not the name they are served under), every message, the sampling
    parameters and the repeat: a changed adapter or prompt can never get yesterday's answer.
    """

    weights: str
    """Fingerprint of the weights; for a remote endpoint, its model name and declared revision."""
    messages: tuple[Message, ...]
    sampling: Sampling
    repeat: int = 0
    """Tells apart requests that ask the same thing on purpose."""
    # Not part of the id where there is none: calls had their ids before there were outputs.
    output: Output | None = Field(default=None, exclude_if=lambda output: output is None)
    """The form that the answer must have."""


class Sample(BaseModel):
    """One answer to a call, as the model gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str
    position: int
    """Which of the call's n answers."""
    text: str
    """The visible answer, thinking taken out."""
    thinking: str | None = None
    """The model's thinking where it was marked as such, without its tags."""
    finish_reason: str
    tokens: int | None = None
    """Completion tokens of this answer, where the endpoint counts them one by one."""
    first_token: tuple[tuple[str, float], ...] = ()
    """The likeliest first tokens and their log-probabilities (natural), if they were asked for."""

    @property
    def id(self) -> str:
        return sample_id(self.call_id, self.position)


def sample_id(call_id: str, position: int) -> str:
    """The id of a call's n-th answer, known before the call is made."""
    return content_id("sample", [call_id, position])
