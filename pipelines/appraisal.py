"""Whether a reward model may be used: what it says of pairs that it never saw.

Arithmetic on scores; nothing here asks or reads anything.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev, quantiles
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from judges.certify import calibration_error
from judges.share import Share, share
from pipelines.gates.statistics import mcnemar
from pipelines.store.pairs import StoredPair
from pipelines.training.reward_notes import Norm

LengthDifference = Literal["chosen longer", "chosen shorter", "about the same"]
# Up to here the longer one's characters over the shorter one's are the same length.
SAME_LENGTH = 1.1


class HeldOut(NamedTuple):
    """A pair that was not learned from, and what its sides scored."""

    pair: StoredPair
    chosen: float
    rejected: float

    @property
    def right(self) -> bool:
        return self.chosen > self.rejected

    @property
    def longer_is_right(self) -> bool:
        """Whether always taking the longer answer would have been; of equals, it would not."""
        return len(self.pair.chosen) > len(self.pair.rejected)

    @property
    def difference(self) -> LengthDifference:
        lengths = sorted((len(self.pair.chosen), len(self.pair.rejected)))
        if lengths[1] <= SAME_LENGTH * lengths[0]:
            return "about the same"
        return "chosen longer" if self.longer_is_right else "chosen shorter"


class Spread(BaseModel):
    """How scores lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    mean: float
    deviation: float
    quartiles: tuple[float, float, float]


class Appraisal(BaseModel):
    """A reward model's figures on held-out pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: Share
    longer: Share
    """What always taking the longer answer would reach on the same pairs."""
    gained: int
    """Pairs that it got right and length did not,"""
    lost: int
    """and the other way round."""
    p: float
    """McNemar's, exact, two-sided, of those two."""
    calibration_error: float
    """Of the sigmoid of the lead (Guo et al. 2017, equation 3, 10 bins)."""
    by: dict[str, dict[str, Share]]
    """The accuracy by who labelled, by the principle that decided most, and by length."""
    scores: Spread
    """Of the round's answers to the held-out prompts, before they are normalised."""

    def faults(self, alpha: float) -> list[str]:
        """Why it may not be used; nothing if it may."""
        found = []
        if self.accuracy.low <= 0.5:
            found.append(f"its interval begins at {self.accuracy.low:.0%}, not above 50%")
        if self.gained <= self.lost or self.p >= alpha:
            found.append(
                f"always the longer answer is right on {self.longer.value:.0%}, and its own "
                f"{self.accuracy.value:.0%} are not clearly more (p = {self.p:.2g}, and it takes "
                f"{alpha:g})"
            )
        if not self.scores.deviation > 0:
            found.append("it scores all answers alike")
        return found

    @property
    def norm(self) -> Norm:
        """What makes the round's answers score 0 on average, with a deviation of 1."""
        return Norm(mean=self.scores.mean, deviation=self.scores.deviation, samples=self.scores.n)


def appraised(pairs: Sequence[HeldOut], scores: Sequence[float]) -> Appraisal:
    """Measure a reward model.

    Args:
        scores: of the round's answers to held-out prompts, two at least.

    Raises:
        ValueError: there are no pairs.
    """
    right = [one.right for one in pairs]
    longer = [one.longer_is_right for one in pairs]
    paired = mcnemar(longer, right)
    # The chosen side always stands first: the first is the better one.
    believed = [(_sigmoid(one.chosen - one.rejected), True) for one in pairs]
    return Appraisal(
        accuracy=share(right),
        longer=share(longer),
        gained=paired.gained,
        lost=paired.lost,
        p=paired.p,
        calibration_error=calibration_error(believed) or 0.0,
        by={
            "source": _by(pairs, lambda one: one.pair.source),
            "principle": _by(pairs, lambda one: one.pair.principle or "none"),
            "length": _by(pairs, lambda one: one.difference),
        },
        scores=_spread(scores),
    )


def _by(pairs: Sequence[HeldOut], name: Callable[[HeldOut], str]) -> dict[str, Share]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for one in pairs:
        groups[name(one)].append(one.right)
    return {group: share(right) for group, right in sorted(groups.items())}


def _spread(scores: Sequence[float]) -> Spread:
    low, middle, high = quantiles(scores, n=4)
    return Spread(
        n=len(scores),
        mean=fmean(scores),
        deviation=pstdev(scores),
        quartiles=(low, middle, high),
    )


def _sigmoid(lead: float) -> float:
    return 1 / (1 + math.exp(-lead)) if lead > 0 else 1 - 1 / (1 + math.exp(lead))
