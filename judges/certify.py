"""Whether a judge may label: its verdicts on pairs whose better answer is known.

A judge is measured, never trusted. Everything that it leaves undecided counts as not right, so one
that only speaks up when it is easy gains nothing by that.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from judges.agreement import Named, cohen_kappa
from judges.records import Comparison, ComparisonState, Judgement
from judges.score import logit
from judges.share import Share, share

BINS = 10
UNREAD: frozenset[ComparisonState] = frozenset({"unparsed", "refused", "abstain", "error"})
# With more of its replies unread than this, what is wrong is how it is asked.
MOST_UNREAD = 0.2


class Outcome(NamedTuple):
    """A judged pair whose better answer is known."""

    comparison: Comparison
    first_is_better: bool
    judgement: Judgement
    chose_shown_first: tuple[bool, ...] = ()
    """For each order that could be read: whether the answer shown first was preferred."""
    sealed: bool | None = None
    """Of a case: whether it is kept out of sight while judge prompts are written."""

    @property
    def right(self) -> bool:
        return self.judgement.state == ("win" if self.first_is_better else "loss")


class Criteria(BaseModel):
    """What a judge has to reach before it may label with a principle."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_cases: int = Field(default=10, ge=1)
    """Fewer pairs than this certify nothing."""
    min_lower: float = Field(default=0.5, ge=0, lt=1)
    """The accuracy's Wilson interval (95 %) has to lie above this."""
    min_accuracy: float = Field(default=0.65, gt=0, le=1)
    """Least share of pairs that it gets right; what it leaves undecided is not right."""
    max_flips: float = Field(default=0.3, ge=0, le=1)
    """Largest share of pairs where another order changes its verdict."""


class Figures(BaseModel):
    """How often a judge is right about some pairs, and how steadily it can be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    accuracy: float
    low: float
    """The accuracy's Wilson interval, 95 %."""
    high: float
    flips: float
    """Share of all pairs where the two orders contradict each other."""
    unread: float
    """Share unparsed, refused, abstained or failed."""


class Certificate(Figures):
    """A judge's figures on pairs whose better answer is known."""

    kappa: float
    """Agreement beyond chance (Cohen 1960): first, second or undecided against the truth."""
    first_slot: float | None
    """Share of readings that prefer the answer shown first; None for a judge that sees one."""
    picks_longer: float | None
    """Share of its decided pairs in which it prefers the longer answer,"""
    longer_is_better: float | None
    """and the share of the same pairs in which the longer one is better."""
    calibration_error: float | None
    """Expected calibration error over 10 bins (Guo et al. 2017, equation 3)."""
    temperature: float | None
    """What the verdicts' log-odds are to be divided by (Guo et al. 2017, section 4.2),"""
    calibration_error_scaled: float | None
    """and the error that is left then, on the same pairs."""
    states: dict[str, int]
    open: Figures | None = None
    """On the open cases alone,"""
    sealed: Figures | None = None
    """and on the sealed ones: what does worse there was fitted to the others."""

    def faults(self, criteria: Criteria) -> list[str]:
        """Why the judge may not label; nothing if it may."""
        found = []
        if self.n < criteria.min_cases:
            found.append(f"{self.n} pairs are fewer than {criteria.min_cases}")
        if self.unread > MOST_UNREAD:
            found.append(f"{self.unread:.0%} of its replies could not be read")
        if self.low <= criteria.min_lower:
            found.append(
                f"its interval begins at {self.low:.0%}, not above {criteria.min_lower:.0%}"
            )
        if self.accuracy < criteria.min_accuracy:
            found.append(f"accuracy {self.accuracy:.0%} is below {criteria.min_accuracy:.0%}")
        if self.flips > criteria.max_flips:
            found.append(f"flips {self.flips:.0%} exceed {criteria.max_flips:.0%}")
        return found

    @property
    def figures(self) -> str:
        """The figures that matter most, on one line."""
        share = Share(round(self.accuracy * self.n), self.n, self.low, self.high)
        return (
            f"accuracy {str(share).strip()} of {self.n}, kappa {self.kappa:.2f}, "
            f"flips {self.flips:.0%}, unread {self.unread:.0%}"
        )


def certificate(outcomes: Sequence[Outcome]) -> Certificate:
    """Measure a judge.

    Raises:
        ValueError: there are no outcomes.
    """
    states = Counter(one.judgement.state for one in outcomes)
    slots = [chosen for one in outcomes for chosen in one.chose_shown_first]
    picks, better = _lengths(outcomes)
    believed = [
        (one.judgement.p, one.first_is_better) for one in outcomes if one.judgement.p is not None
    ]
    temperature = _temperature(believed)
    return Certificate(
        **_figures(outcomes).model_dump(),
        kappa=cohen_kappa([_named(one) for one in outcomes]),
        first_slot=sum(slots) / len(slots) if slots else None,
        picks_longer=picks,
        longer_is_better=better,
        calibration_error=calibration_error(believed),
        temperature=temperature,
        calibration_error_scaled=calibration_error(believed, temperature or 1.0),
        states=dict(sorted(states.items())),
        open=_half(outcomes, sealed=False),
        sealed=_half(outcomes, sealed=True),
    )


def _figures(outcomes: Sequence[Outcome]) -> Figures:
    right = share([one.right for one in outcomes])
    states = [one.judgement.state for one in outcomes]
    return Figures(
        n=right.n,
        accuracy=right.value,
        low=right.low,
        high=right.high,
        flips=states.count("flip") / right.n,
        unread=sum(state in UNREAD for state in states) / right.n,
    )


def _half(outcomes: Sequence[Outcome], *, sealed: bool) -> Figures | None:
    half = [one for one in outcomes if one.sealed is sealed]
    return _figures(half) if half else None


def _named(outcome: Outcome) -> Named:
    """What is true and what the judge said; whatever labels nothing is one and the same."""
    said = outcome.judgement
    return "win" if outcome.first_is_better else "loss", said.state if said.labels else "undecided"


def _lengths(outcomes: Sequence[Outcome]) -> tuple[float | None, float | None]:
    """Among decided pairs of different length: share won by the longer, share it deserves."""
    picks, better = [], []
    for one in outcomes:
        first, second = len(one.comparison.first), len(one.comparison.second)
        if one.judgement.labels and first != second:
            picks.append((one.judgement.state == "win") == (first > second))
            better.append(one.first_is_better == (first > second))
    if not picks:
        return None, None
    return sum(picks) / len(picks), sum(better) / len(better)


def calibration_error(
    believed: Sequence[tuple[float, bool]], temperature: float = 1.0
) -> float | None:
    """Mean distance between how sure somebody was and how often he was right; None of nothing.

    Expected calibration error over 10 bins (Guo et al. 2017, equation 3).

    Args:
        believed: how probable the first answer was held to be the better one, and whether it is.
        temperature: what the log-odds are divided by.
    """
    if not believed:
        return None
    bins: dict[int, list[tuple[float, bool]]] = {}
    for p, truth in believed:
        scaled = _scaled(p, temperature)
        confidence, right = max(scaled, 1 - scaled), (scaled > 0.5) == truth
        bins.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    gaps = [
        abs(sum(confidence for confidence, _ in rows) - sum(right for _, right in rows))
        for rows in bins.values()
    ]
    return sum(gaps) / len(believed)


def _temperature(believed: Sequence[tuple[float, bool]]) -> float | None:
    """The temperature at which the truth is likeliest."""
    from scipy.optimize import minimize_scalar

    if not believed:
        return None

    def surprise(log_temperature: float) -> float:
        scaled = [(_scaled(p, math.exp(log_temperature)), truth) for p, truth in believed]
        return -sum(math.log(max(p if truth else 1 - p, 1e-12)) for p, truth in scaled)

    return float(math.exp(minimize_scalar(surprise, bounds=(-4.0, 4.0), method="bounded").x))


def _scaled(p: float, temperature: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit(p) / temperature))
