"""From judgements by principle to one preference: arithmetic on stored verdicts, never a call.

Weighted mean of the log-odds of the principles in scope, after the vetoes: changing a weight, a
veto, a scope or a margin changes preferences without asking a judge anything.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from judges.constitution import Principle
from judges.records import Judgement
from judges.score import logit

# A token's probability is 1 to the last digit now and then; no single principle is that sure.
MOST_SURE = 0.99
# So sure has a judge to be of a veto principle for it to silence the others.
CLEAR = 0.9
# Closer to indifference is rounding: principles that outweigh each other exactly are a tie.
_EVEN = 1e-9


class Decision(BaseModel):
    """How one principle spoke of a comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principle: str
    p: float
    """Probability that the first answer is the better one by this principle."""
    pull: float
    """What it adds to the log-odds of the preference: positive for the first answer."""


class Preference(BaseModel):
    """Which of two answers a constitution prefers, how clearly, and by which principles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["first", "second", "tie", "undecided"]
    """`undecided`: too little was read, nothing counts, or vetoes contradict each other."""
    p: float | None = None
    """Probability that the first answer is the better one."""
    decisions: tuple[Decision, ...] = ()
    """The principles that counted, the strongest pull first."""
    vetoed_by: str | None = None

    @property
    def margin(self) -> float:
        """Distance from indifference, 0 to 0.5."""
        return abs(self.p - 0.5) if self.p is not None else 0.0


def prefer(
    principles: Sequence[Principle], judgements: Mapping[str, Judgement], least_margin: float = 0.0
) -> Preference:
    """Combine the judgements of one comparison.

    Args:
        principles: those that the request is in scope of.
        judgements: by principle id; what is not there was not judged.
        least_margin: closer to indifference than this is a tie.

    The log-odds are sum(w_k * logit(p_k)) / sum(w_k) over win, loss, tie and flip; a tie or a flip
    counts as p = 1/2. A veto principle whose verdict is clear decides alone, whatever the others
    weigh; where it is not, it counts by its weight as they do: a judge that has to name an answer
    names one even where the principle is not touched. Without a reading of every veto principle,
    or of half of the weight, nothing is decided: what a judge refuses is what vetoes are for.
    """
    spoken = [
        (one, judgements[one.id])
        for one in principles
        if one.id in judgements and judgements[one.id].state in ("win", "loss", "tie", "flip")
    ]
    vetoes = [both for both in spoken if both[0].veto and _clear(both[1])]
    if _unread(principles, spoken) or len({judgement.state for _, judgement in vetoes}) > 1:
        return Preference(state="undecided")
    counted = vetoes or [both for both in spoken if both[0].weight > 0]
    if not counted:
        return Preference(state="undecided")
    return _mean(counted, least_margin, vetoes[0][0].id if vetoes else None)


def _clear(judgement: Judgement) -> bool:
    return judgement.labels and judgement.p is not None and abs(judgement.p - 0.5) >= CLEAR - 0.5


def _unread(principles: Sequence[Principle], spoken: Sequence[tuple[Principle, Judgement]]) -> bool:
    """Whether too much is missing to decide anything."""
    names = {principle.id for principle, _ in spoken}
    missing = [one for one in principles if one.id not in names]
    weight = sum(one.weight for one in principles)
    return any(one.veto for one in missing) or sum(one.weight for one in missing) > weight / 2


def _mean(
    counted: Sequence[tuple[Principle, Judgement]], least_margin: float, veto: str | None
) -> Preference:
    total = sum(principle.weight for principle, _ in counted)
    # Vetoes may have no weight at all: they decide by rank.
    weights = [principle.weight / total if total else 1 / len(counted) for principle, _ in counted]
    decisions = [
        Decision(principle=principle.id, p=p, pull=weight * logit(p))
        for (principle, judgement), weight in zip(counted, weights, strict=True)
        for p in [_belief(judgement)]
    ]
    p = 1.0 / (1.0 + math.exp(-sum(one.pull for one in decisions)))
    tie = abs(p - 0.5) < max(least_margin, _EVEN)
    return Preference(
        state="tie" if tie else "first" if p > 0.5 else "second",
        p=p,
        decisions=tuple(sorted(decisions, key=lambda one: -abs(one.pull))),
        vetoed_by=veto,
    )


def _belief(judgement: Judgement) -> float:
    if not judgement.labels or judgement.p is None:
        return 0.5
    return min(max(judgement.p, 1 - MOST_SURE), MOST_SURE)
