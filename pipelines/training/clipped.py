"""PPO's losses (arXiv 1707.06347): one for each token, of the shape of what they are given."""

from typing import NamedTuple

import torch
from torch import Tensor


class Clipped(NamedTuple):
    """A loss, and where its clip was what counted."""

    loss: Tensor
    clipped: Tensor
    """Whether the token's gradient was cut off."""


def policy(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> Clipped:
    """The clipped surrogate, equation 7, with a bound of its own on each side.

    Args:
        new: log-probabilities by the policy as it is, in nats.
        old: by the policy that answered.
        advantages: of each token.
        low: how far below 1 the ratio of the two counts.
        high: how far above.
    """
    ratio = torch.exp(new - old)
    free, bound = -advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high)
    return Clipped(torch.maximum(free, bound), bound > free)


def value(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Clipped:
    """Half the squared error of the critic, held near what it said before, as in OpenAI's code.

    The larger of the errors with and without that bound, so nothing is gained by leaving it.

    Args:
        new: the critic's values as it is.
        old: what it said when the answers were new.
        returns: what came of it.
        clip: how far it moves at most, in the unit of the reward.
    """
    near = old + (new - old).clamp(-clip, clip)
    free, bound = (new - returns).square(), (near - returns).square()
    return Clipped(0.5 * torch.maximum(free, bound), bound > free)
