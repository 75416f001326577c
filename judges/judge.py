"""Who judges: weights, how they are asked, and how the reply is read.

A judge is named by its content, so verdicts and certificates belong to exactly these weights and
these words: another prompt is another judge.
"""

from typing import Literal

from pydantic import Field

from judges.template import prompt_text
from teachers.records import Record

Rung = Literal["logprobs", "choice", "json_schema", "text"]
"""What the endpoint can do, best first. See `judges.ladder`."""


class Judge(Record):
    """A model, a prompt and a way of reading the reply."""

    weights: str
    """Fingerprint of the weights, or an endpoint's address, model name and declared revision."""
    kind: Literal["compare", "score"]
    """`compare` sees two answers and names the better one; `score` grades one."""
    prompt: str
    """The whole text of the prompt, with its places."""
    reason: str = ""
    """Text that asks for a rationale before the verdict; the verdict is asked for at once if
    empty."""
    words: tuple[str, ...]
    """The verdict's words: two letters for `compare`; for `score` from worst to best."""
    rung: Rung = "logprobs"
    """How the verdict is constrained and read."""
    thinks: bool = False
    """Whether it thinks before it replies: then it needs room for that, and no constraint."""
    answer_characters: int = Field(default=8000, ge=1)
    """An answer is shown up to here, with a mark where it was cut: judges have a context too."""
    rationale_tokens: int = Field(default=256, ge=1)
    """Longest rationale."""

    @property
    def name(self) -> str:
        """How people tell judges apart: kind, weights, id."""
        return f"{self.kind} {self.weights[:40]} ({self.id[:8]})"


def comparing(weights: str, *, rationale: bool = False, rung: Rung = "logprobs") -> Judge:
    """A judge that compares two answers with the shipped prompt."""
    return Judge(
        weights=weights,
        kind="compare",
        prompt=prompt_text("verdict" if rationale else "compare"),
        reason=prompt_text("reason") if rationale else "",
        words=("A", "B"),
        rung=rung,
    )


def scoring(weights: str, *, rung: Rung = "logprobs") -> Judge:
    """A judge that grades one answer from 1 to 5 with the shipped prompt."""
    words = ("1", "2", "3", "4", "5")
    return Judge(weights=weights, kind="score", prompt=prompt_text("score"), words=words, rung=rung)


def following(weights: str, *, rung: Rung = "logprobs") -> Judge:
    """A judge that says whether one answer follows the rule: the form that we train judges in."""
    return Judge(
        weights=weights,
        kind="score",
        prompt=prompt_text("follows"),
        words=("no", "yes"),
        rung=rung,
        # Enough to see how an answer goes on, and cheap enough to train on.
        answer_characters=500,
    )
