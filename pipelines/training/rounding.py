"""Merging a policy in training into bf16 without losing its update.

bf16 keeps 8 bits of a weight, and an update of a few steps is smaller than half the last of them:
rounded to the nearest, most of it is gone. Rounded up or down at random, with the chances that make
the expectation right, it survives in the sum over many weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_LOW_BITS = 0xFFFF


class Merged(NamedTuple):
    """Weights in bf16, and what became of the update in them."""

    weights: Tensor
    kept: float
    """Inner product of the update that is in the weights with the one that was meant,"""
    meant: float
    """and of that one with itself: kept / meant is the share that survives."""
    noise: float
    """Sum of squares of what rounding did besides."""


def merge(base: Tensor, update: Tensor, generator: torch.Generator) -> Merged:
    """base + update in bf16, rounded at random.

    Args:
        base: weights in bf16, of any shape.
        update: what to add, in float32, of the same shape.
        generator: decides which weights are rounded up.
    """
    exact = base.float() + update
    weights = stochastic(exact, generator)
    rounded = weights.float()
    kept = torch.sum((rounded - base.float()) * update)
    noise = torch.sum((rounded - exact) ** 2)
    return Merged(weights, kept.item(), torch.sum(update * update).item(), noise.item())


def stochastic(exact: Tensor, generator: torch.Generator) -> Tensor:
    """float32 as bf16, up or down with the odds of what lies between (unbiased).

    A bf16 is the upper half of a float32: adding a random lower half and cutting it off carries
    over into the upper half with just those odds.
    """
    bits = exact.contiguous().view(torch.int32)
    noise = torch.randint(
        0, _LOW_BITS + 1, bits.shape, generator=generator, dtype=torch.int32, device=bits.device
    )
    return (bits + noise).bitwise_and_(~_LOW_BITS).view(torch.float32).to(torch.bfloat16)
