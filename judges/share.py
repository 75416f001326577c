"""A share of some items, with how sure one can be of it."""

from collections.abc import Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """A share of n items with its 95 % Wilson interval (Wilson 1927)."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else 0.0

    def __str__(self) -> str:
        return f"{self.value:6.1%} [{self.low:.1%}, {self.high:.1%}]"


def share(outcomes: Sequence[bool]) -> Share:
    """The share of True in `outcomes`.

    Raises:
        ValueError: there are none.
    """
    from scipy.stats import binomtest

    if not outcomes:
        raise ValueError("a share of nothing")
    interval = binomtest(sum(outcomes), len(outcomes)).proportion_ci(0.95, method="wilson")
    return Share(sum(outcomes), len(outcomes), float(interval.low), float(interval.high))
