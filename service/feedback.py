"""What callers say of answers, as they send it."""

import re
from contextlib import closing
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines import feedback
from pipelines.home import Home
from pipelines.store.connection import connect, transaction
from service.redaction import redacted

# Model servers name an answer after the exchange.
_PREFIX = re.compile(r"^(chatcmpl|cmpl)-")


class Feedback(BaseModel):
    """A thumb, the better of two answers, a comment: at least one of them."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=64)
    """Of the answer, as its `id` or its header `x-preceptor-exchange` says."""
    thumb: Literal["up", "down"] | None = None
    over: str | None = Field(default=None, min_length=1, max_length=64)
    """The answer to the same request that this one is better than."""
    comment: str = Field(default="", max_length=2000)

    @model_validator(mode="after")
    def _says_something(self) -> "Feedback":
        if self.thumb is None and self.over is None and not self.comment:
            raise ValueError("one of thumb, over and comment is needed")
        if self.over is not None and _id(self.over) == _id(self.id):
            raise ValueError("over is the other of two answers")
        return self


def keep(home: Home, said: Feedback, who: str, token_id: str) -> str | None:
    """Keep feedback; personal data in a comment is blotted out.

    Args:
        who: says it.
        token_id: with this token, of which several may have one name; empty without one.

    Returns:
        The id of the label that it became, if it did.

    Raises:
        ConfigError: there is no such answer, or the two are not answers to the same request.
    """
    over = None if said.over is None else _id(said.over)
    with closing(connect(home.store)) as db, transaction(db):
        label = feedback.record(
            db,
            _id(said.id),
            who,
            key=token_id or who,
            thumb=said.thumb,
            over=over,
            comment=redacted(said.comment),
        )
    return label.id if label else None


def _id(given: str) -> str:
    return _PREFIX.sub("", given)
