"""How much better than its group an answer is: what GRPO and RLOO have instead of a critic."""

import statistics
from collections.abc import Sequence
from typing import Literal

Rewards = Sequence[float | None]
"""Of one prompt's answers; None where a rule could not decide."""
Scale = Literal["group", "batch", "none"]

# Keeps a division finite where rewards are nearly equal; TRL's value.
_SMALL = 1e-4


def spread(rewards: Rewards) -> bool:
    """Whether a group teaches anything: two of its rewards differ."""
    known = [reward for reward in rewards if reward is not None]
    return len(known) > 1 and max(known) - min(known) > 1e-9


def grpo(groups: Sequence[Rewards], scale: Scale) -> list[list[float | None]]:
    """Rewards minus their group's mean, in standard deviations.

    (r_i - mean(r)) / (std(r) + 1e-4), equation 1 of DeepSeekMath (arXiv 2402.03300, 4.1.2), with
    the unbiased deviation of the group or of the whole batch, or without it (Dr. GRPO, arXiv
    2503.20783). An undecided answer has no advantage and is no part of the mean.
    """
    every = [reward for rewards in groups for reward in rewards if reward is not None]
    whole = _deviation(every)
    found: list[list[float | None]] = []
    for rewards in groups:
        known = [reward for reward in rewards if reward is not None]
        if len(known) < 2:
            found.append([None] * len(rewards))
            continue
        mean = statistics.fmean(known)
        unit = {"group": _deviation(known) + _SMALL, "batch": whole + _SMALL, "none": 1.0}[scale]
        found.append([None if reward is None else (reward - mean) / unit for reward in rewards])
    return found


def rloo(groups: Sequence[Rewards]) -> list[list[float | None]]:
    """Rewards minus the mean of the other answers' rewards (arXiv 2402.14740, section 2)."""
    return [_left_out(rewards) for rewards in groups]


def _left_out(rewards: Rewards) -> list[float | None]:
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None] * len(rewards)
    total, others = sum(known), len(known) - 1
    return [None if one is None else one - (total - one) / others for one in rewards]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
