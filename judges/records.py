"""What judges and verifiers look at and what they say: each kind of verdict has its own states.

Only the decided ones (verified or refuted, win or loss, scored) ever become a label or a reward.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from teachers.records import Message, Prompt, Record, content_id

Parser = Literal["strict", "lenient"]
"""How the answer is found in the text: by the agreed form alone, or wherever it may stand."""

VerificationState = Literal["verified", "refuted", "unparsed", "timeout", "not_applicable", "error"]


class Verification(BaseModel):
    """A verifier's finding about one text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: VerificationState
    reason: str
    answer: str | None = None
    """The final answer that was read from the text, where one was found."""
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    """How much of it holds, 0 to 1, by rules that know more than yes and no."""
    jail: str | None = None
    """The kind of jail that model-written code ran in; none where none was run."""

    @property
    def decided(self) -> bool:
        """Whether the finding says anything about the sample, rather than about the check."""
        return self.state in ("verified", "refuted")


class Verdict(BaseModel):
    """A verification, tied to the sample it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str
    verifier: str
    """Name and version, `number/1`: a new version of a verifier asks again."""
    parser: Parser
    state: VerificationState
    reason: str
    answer: str | None
    reference: dict[str, Any]
    """What the sample was checked against."""
    jail: str | None = None
    """The kind of jail that its code ran in, if it is code."""

    @property
    def id(self) -> str:
        return verdict_id(self.sample_id, self.verifier, self.parser, self.reference)


def verdict_id(sample_id: str, verifier: str, parser: Parser, reference: dict[str, Any]) -> str:
    """The id of a verdict, known before it is made."""
    return content_id("verdict", [sample_id, verifier, parser, reference])


def reference_of(prompt: Prompt) -> dict[str, Any]:
    """What an answer to `prompt` is checked against."""
    return {"reference": prompt.reference, "entry": prompt.entry}


class Comparison(Record):
    """Two answers to one request. Which is called first says nothing; judges see both orders."""

    conversation: tuple[Message, ...]
    first: str
    second: str

    def swap(self) -> "Comparison":
        """The same two answers, the other way round."""
        return self.model_copy(update={"first": self.second, "second": self.first})

    @property
    def unordered(self) -> str:
        """One name for the comparison and its swap."""
        return min(self.id, self.swap().id)

    @property
    def identical(self) -> bool:
        """Whether both say the same, spaces and line breaks aside: a tie without asking."""
        return self.first.split() == self.second.split()


class Answer(Record):
    """One answer to a request, as a grading judge sees it."""

    conversation: tuple[Message, ...]
    text: str


Order = Literal["forward", "backward"]
"""Which answer a judge is shown as A: the comparison's first, or its second."""

ORDERS: tuple[Order, Order] = ("forward", "backward")

ReadingState = Literal["read", "unparsed", "refused", "error"]


class Reading(BaseModel):
    """What one reply of a judge says: a probability or a score, and how much was said besides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: ReadingState
    value: float | None = None
    """Of a comparison, the probability that the answer shown as A is better; of a grade, the
    expected score from 0 to 1."""
    outside: float | None = None
    """Probability mass on anything but the verdict's words, where log-probabilities are known."""


ComparisonState = Literal["win", "loss", "tie", "flip", "abstain", "unparsed", "refused", "error"]
"""Of the comparison's first answer. Only win and loss label."""


class Judgement(BaseModel):
    """What a judge says of a comparison by one principle, both orders taken together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: ComparisonState
    p: float | None = None
    """Probability that the first answer is the better one, averaged over the orders."""

    @property
    def labels(self) -> bool:
        return self.state in ("win", "loss")

    @property
    def turned(self) -> "Judgement":
        """The same of the swapped comparison."""
        turns: dict[ComparisonState, ComparisonState] = {"win": "loss", "loss": "win"}
        p = None if self.p is None else 1.0 - self.p
        return Judgement(state=turns.get(self.state, self.state), p=p)
