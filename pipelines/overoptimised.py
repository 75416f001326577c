"""What choosing by a reward model comes to by somebody else's account, the more it chooses from.

Its own score rises by definition. Where the other one turns down, the reward model is being
exploited (arXiv 2210.10760).
"""

from collections.abc import Iterable, Iterator, Sequence
from math import comb
from statistics import fmean
from typing import NamedTuple


class Rated(NamedTuple):
    """One answer by two accounts."""

    proxy: float
    """The reward model's score."""
    gold: float
    """The judge's or the verifier's, 0 to 1."""


class Point(NamedTuple):
    """The best of n answers by the proxy, on average over prompts and over all choices of n."""

    n: int
    proxy: float
    gold: float


def curve(prompts: Iterable[Sequence[Rated]]) -> list[Point]:
    """Best of 1, 2, 4 and so on, over the prompts with the most answers: they are the same at
    every point. Empty if no prompt has two.
    """
    groups = [group for group in prompts if len(group) > 1]
    most = max(map(len, groups), default=0)
    full = [group for group in groups if len(group) == most]
    return [
        Point(
            n,
            fmean(mean_best_of([one.proxy for one in group], _proxies(group), n) for group in full),
            fmean(mean_best_of([one.gold for one in group], _proxies(group), n) for group in full),
        )
        for n in _doubling(most)
    ]


def mean_best_of(scores: Sequence[float], proxy: Sequence[float], n: int) -> float:
    """The mean score of the answer that is best by the proxy, over all choices of n answers.

    Unbiased where a single best of n is noise: with the answers in the proxy's order, the k-th of N
    (from 1) is the best in C(k - 1, n - 1) of the C(N, n) choices (arXiv 2112.09332, appendix I).

    Args:
        scores: what is averaged; the proxy's own, or somebody else's of the same answers.
        proxy: what the choice is made by.

    Raises:
        ValueError: there are fewer than n answers.
    """
    if len(proxy) < n:
        raise ValueError(f"{len(proxy)} answers are fewer than {n}")
    ordered = sorted(range(len(proxy)), key=lambda at: proxy[at])
    weights = [comb(place, n - 1) for place in range(len(proxy))]
    total = sum(weight * scores[at] for weight, at in zip(weights, ordered, strict=True))
    return total / comb(len(proxy), n)


def _proxies(group: Sequence[Rated]) -> list[float]:
    return [one.proxy for one in group]


def _doubling(most: int) -> Iterator[int]:
    n = 1
    while n <= most:
        yield n
        n *= 2
