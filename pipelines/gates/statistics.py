"""The statistics that decide: paired tests of two systems on the same items."""

import math
from collections.abc import Sequence
from typing import NamedTuple


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


class Change(NamedTuple):
    """A difference with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.1%} [{self.low:+.1%}, {self.high:+.1%}]"


def change(first: Sequence[bool], second: Sequence[bool]) -> Change:
    """Share of the second minus share of the first, on the same items.

    Wald's interval for paired shares with half an item added to each cell (Agresti and Min 2005),
    which keeps a width where no item changed.
    """
    paired = mcnemar(first, second)
    n, gained, lost = paired.n + 2, paired.gained + 0.5, paired.lost + 0.5
    value = (gained - lost) / n
    spread = 1.96 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return Change(paired.difference, value - spread, value + spread)


def moved(first: Sequence[float], second: Sequence[float]) -> float:
    """p of Wilcoxon's signed-rank test (1945), two-sided: that the same items moved at random."""
    from scipy.stats import wilcoxon

    if list(first) == list(second):
        return 1.0
    return float(wilcoxon(second, first).pvalue)


def median_ratio(first: Sequence[float], second: Sequence[float], draws: int = 2000) -> Change:
    """Median of the second over median of the first, with a bootstrap interval over items."""
    import numpy as np

    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    # Seeded, so that a report says the same whenever it is made.
    rows = np.random.default_rng(0).integers(0, len(one), (draws, len(one)))
    ratios = np.median(other[rows], axis=1) / np.maximum(np.median(one[rows], axis=1), 1.0)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Change(float(np.median(other) / max(np.median(one), 1.0)), float(low), float(high))


def even(wins: int, losses: int) -> float:
    """p of the sign test, two-sided: that wins and losses fall like a coin."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
