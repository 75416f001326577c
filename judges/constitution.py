"""What "good" means: a constitution of principles, each with the cases that test its judges.

Principles and constitutions are frozen. A verdict belongs to a principle's text and to nothing else
of it, so that only another text asks a judge again: a weight, a veto or a scope is arithmetic.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Self

import regex
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from teachers.errors import ConfigError
from teachers.records import Message, Prompt, Record, content_id

TEXT_CHARACTERS = 4_000
ANSWER_CHARACTERS = 20_000
SEARCH_S = 1.0
"""Longest that a scope's expression may be searched for in one question."""
MOST_WRITTEN_OUT = 1_000_000
"""A scope's expression is compiled if its repetitions, written out, are no longer than this."""


def one_line(text: str) -> str:
    """A statement's normal form: how it is wrapped in a file says nothing."""
    return " ".join(unicodedata.normalize("NFC", text).split())


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Statement = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=TEXT_CHARACTERS),
    AfterValidator(one_line),
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=ANSWER_CHARACTERS)]
_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Case(BaseModel):
    """A request with two answers of which one is better under a principle: a test of judges."""

    model_config = _FROZEN

    prompt: Text = ""
    """What a user asked; or `conversation` instead."""
    conversation: tuple[Message, ...] = ()
    """Several turns, the user's last."""
    better: Text = Field(min_length=1)
    worse: Text = Field(min_length=1)
    why: Statement = ""
    """What decides it under this principle: for people, never shown to a judge."""
    sealed: bool = Field(default=False, strict=True)
    """Kept out of sight while judge prompts are written."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the two answers are answers to."""
        return self.conversation or (Message(role="user", content=self.prompt),)

    @model_validator(mode="after")
    def _one_request(self) -> Self:
        if bool(self.prompt) == bool(self.conversation):
            raise ValueError("a case has either a prompt or a conversation")
        if self.messages[-1].role != "user":
            raise ValueError("a conversation ends with the user's turn")
        if any(not message.content.strip() for message in self.messages):
            raise ValueError("a turn of a conversation is empty")
        if one_line(self.better) == one_line(self.worse):
            raise ValueError("the two answers of a case are the same")
        return self


class Scope(BaseModel):
    """Which prompts a principle is about; all of them where nothing is said."""

    model_config = _FROZEN

    tags: tuple[Tag, ...] = ()
    """Only prompts with one of these tags."""
    except_tags: tuple[Tag, ...] = ()
    """No prompt with one of these."""
    matching: str = Field(default="", max_length=500)
    """Only requests in which this regular expression is found; `(?i)` first ignores case."""

    @property
    def in_words(self) -> str:
        """`tags: code, maths; not: poetry; matching 'proof'`, or `all prompts`."""
        parts = [f"tags: {', '.join(self.tags)}"] if self.tags else []
        parts += [f"not: {', '.join(self.except_tags)}"] if self.except_tags else []
        parts += [f"matching {self.matching!r}"] if self.matching else []
        return "; ".join(parts) or "all prompts"

    def covers(self, question: str, tags: Sequence[str] = ()) -> bool:
        """Whether the principle is about this request.

        Raises:
            ConfigError: its regular expression is too slow.
        """
        if self.tags and not set(self.tags) & set(tags):
            return False
        if set(self.except_tags) & set(tags):
            return False
        try:
            return regex.search(self.matching, question, timeout=SEARCH_S) is not None
        except TimeoutError as slow:
            raise ConfigError(
                f"The scope matching {self.matching!r} takes longer than {SEARCH_S:g} s on the "
                f"prompt {question[:60]!r}.",
                hint="What can be repeated in several ways, as in (a|a)+, is tried in all of them.",
            ) from slow

    @field_validator("matching")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        if _written_out(pattern) > MOST_WRITTEN_OUT:
            raise ValueError(f"{pattern!r} repeats what repeats too often")
        try:
            regex.compile(pattern)
        except (regex.error, OverflowError, RecursionError) as wrong:
            raise ValueError(f"{pattern!r} is no regular expression: {wrong}") from wrong
        return pattern

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if both := sorted(set(self.tags) & set(self.except_tags)):
            raise ValueError(f"contradicts itself: {both[0]!r} is wanted and excepted")
        return self


def _written_out(pattern: str) -> int:
    """How long an expression is at most with its repetitions written out, as compiling does:
    `((a{9}){9}){9}` has 729 of `a`, and 9,999 in place of each 9 would take all memory there is.

    Only as many can be inside one another as there are brackets, and one more.
    """
    times = [int(least) + 1 for least in regex.findall(r"\{\s*(\d+)", pattern)]
    times += [2] * pattern.count("+")  # `x+` is `xx*`
    nested = sorted(times, reverse=True)[: pattern.count("(") + 1]
    return len(pattern) * math.prod(nested)


class Construction(BaseModel):
    """How to ask for answers that are better or worse on purpose: labels without a judge.

    Small models follow a short order put after the request; they do not follow a principle.
    """

    model_config = _FROZEN

    better: Statement = Field(min_length=1)
    """An order that makes answers follow the principle, for example "Answer in one sentence."."""
    worse: Statement = Field(min_length=1)
    """An order that makes them follow its opposite."""


class Principle(BaseModel):
    """One statement that a judge can decide, what it counts for, and its tests."""

    model_config = _FROZEN

    id: Name
    text: Statement = Field(min_length=1)
    """True of a good answer; decided by reading the request and the answers."""
    opposite: Statement = ""
    """The contrary, in the same style."""
    construction: Construction | None = None
    """How to ask for better and worse answers on purpose; text and opposite if not given."""
    weight: float = Field(default=1.0, ge=0.0, le=1000.0, allow_inf_nan=False, strict=True)
    """What it counts for beside the others; 0 measures it and lets it decide nothing."""
    veto: bool = Field(default=False, strict=True)
    """A loss under it cannot be outweighed."""
    scope: Scope = Scope()
    critique: Statement = ""
    """What to ask a model that should criticise an answer."""
    revision: Statement = ""
    """What to ask for a rewrite."""
    cases: tuple[Case, ...] = ()

    @property
    def orders(self) -> Construction | None:
        """What to ask for better and worse answers, where it can be said."""
        if self.construction is not None or not self.opposite:
            return self.construction
        return Construction(better=self.text, worse=self.opposite)

    @property
    def counts(self) -> bool:
        """Whether it can decide anything."""
        return self.weight > 0 or self.veto

    @property
    def text_id(self) -> str:
        """The id of what the principle says, to which verdicts belong."""
        return content_id("principle", self.text)


def in_scope(
    principles: Iterable[Principle], question: str, tags: Sequence[str] = ()
) -> list[Principle]:
    """The principles that are about a request.

    Args:
        question: what was asked, without what a recipe puts after every question.
        tags: of a prompt: its task.
    """
    return [one for one in principles if one.scope.covers(question, tags)]


def about(principles: Iterable[Principle], prompt: Prompt) -> list[Principle]:
    """The principles that are about a prompt: its own question and its task count."""
    return in_scope(principles, prompt.question, [prompt.task])


class Constitution(Record):
    """Principles that belong together. Its id is the hash of everything that it says."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Name
    description: Statement = ""
    principles: tuple[Principle, ...] = Field(min_length=1)

    def principle(self, id: str) -> Principle:
        """The principle of this id.

        Raises:
            ConfigError: there is none.
        """
        known = {principle.id: principle for principle in self.principles}
        if id not in known:
            near = get_close_matches(id, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "There are: " + ", ".join(known)
            raise ConfigError(f"{self.name} has no principle {id!r}.", hint=hint)
        return known[id]

    @field_validator("principles")
    @classmethod
    def _distinct(cls, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        ((id, times),) = Counter(principle.id for principle in principles).most_common(1)
        if times > 1:
            raise ValueError(f"more than one principle is called {id!r}")
        return principles
