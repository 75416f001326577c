"""The statistics that decide: intervals for one share, and a paired test for two."""

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


class Paired(NamedTuple):
    """Two systems on the same items, compared by McNemar's exact test (McNemar 1947)."""

    gained: int
    """Items that the second got right and the first did not."""
    lost: int
    """Items that the first got right and the second did not."""
    n: int
    p: float
    """Two-sided: the chance of a split at least this uneven if both were equally good."""

    @property
    def difference(self) -> float:
        """Share of the second minus share of the first."""
        return (self.gained - self.lost) / self.n


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare two systems item by item.

    Args:
        first, second: whether each got item i right; same items, same order.

    Raises:
        ValueError: the sequences differ in length or are empty.
    """
    from scipy.stats import binomtest

    pairs = list(zip(first, second, strict=True))
    if not pairs:
        raise ValueError("a comparison of nothing")
    gained = sum(after and not before for before, after in pairs)
    lost = sum(before and not after for before, after in pairs)
    # Under equality each changed item falls on either side like a coin.
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Paired(gained, lost, len(pairs), p)
