"""How far two who named the same things agree, and how far beyond chance."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from judges.share import Share, share

Named = tuple[str, str]
"""What the one and what the other said of the same thing."""


class Agreement(NamedTuple):
    """Two raters on the same things."""

    share: Share
    """How often they said the same."""
    kappa: float


def agreement(named: Sequence[Named]) -> Agreement:
    """How far two raters agree.

    Raises:
        ValueError: there is nothing that both have named.
    """
    return Agreement(share([one == other for one, other in named]), cohen_kappa(named))


def cohen_kappa(named: Sequence[Named]) -> float:
    """Agreement beyond chance: (observed - expected) / (1 - expected) (Cohen 1960).

    Expected is how often two with the same habits would say the same by accident; where that is
    always, nothing is beyond chance, and kappa is 0.
    """
    n = len(named)
    observed = sum(one == other for one, other in named) / n
    ones, others = Counter(one for one, _ in named), Counter(other for _, other in named)
    expected = sum(ones[name] * others[name] for name in ones) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0
