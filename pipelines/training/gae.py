"""Advantages from a critic: what each token was worth beyond what was expected.

Shapes are [answers, tokens]; `spoken` says which tokens the policy said, the rest is padding on the
right. Values and rewards are in the unit of the reward.
"""

import torch
from torch import Tensor

_SMALL = 1e-8


def token_rewards(scores: Tensor, divergence: Tensor, spoken: Tensor, kl: float) -> Tensor:
    """An answer's score at its last token, and the cost of leaving the reference at every one.

    r_t = -kl (log pi(t) - log pi_ref(t)), plus the score where t is the last: equation 2 of
    InstructGPT (arXiv 2203.02155), with the estimator k1 of the divergence.

    Args:
        scores: one for each answer, of shape [answers].
        divergence: log pi - log pi_ref of each token, in nats.
        kl: the coefficient.
    """
    rewards = -kl * divergence * spoken
    last = spoken.sum(1) - 1
    rewards[torch.arange(len(scores)), last.clamp(min=0)] += scores * (last >= 0)
    return rewards


def advantages(
    rewards: Tensor, values: Tensor, spoken: Tensor, discount: float, decay: float
) -> Tensor:
    """Generalized advantage estimation, equation 16 of arXiv 1506.02438; an answer's end is final.

    A_t = d_t + discount decay A_{t+1} with d_t = r_t + discount V_{t+1} - V_t.

    Args:
        values: V_t, the critic's expectation before token t is said.
        discount: the paper's gamma.
        decay: the paper's lambda.
    """
    found = torch.zeros_like(values)
    ahead = after = values.new_zeros(len(values))
    for at in reversed(range(values.size(1))):
        surprise = rewards[:, at] + discount * after - values[:, at]
        # Behind an answer's end there is nothing to expect.
        ahead = torch.where(spoken[:, at], surprise + discount * decay * ahead, 0.0)
        after = torch.where(spoken[:, at], values[:, at], 0.0)
        found[:, at] = ahead
    return found


def mean(values: Tensor, spoken: Tensor) -> Tensor:
    """Mean over the tokens that were said."""
    return (values * spoken).sum() / spoken.sum().clamp(min=1)


def variance(values: Tensor, spoken: Tensor) -> Tensor:
    """Mean square about that mean."""
    return mean((values - mean(values, spoken)).square(), spoken)


def whitened(values: Tensor, spoken: Tensor, *, centred: bool = True) -> Tensor:
    """Values with deviation 1 over the tokens that were said, and with mean 0 if `centred`."""
    middle = mean(values, spoken)
    unit = (values - middle) * torch.rsqrt(variance(values, spoken) + _SMALL)
    return (unit if centred else unit + middle) * spoken


def explained_variance(values: Tensor, returns: Tensor, spoken: Tensor) -> Tensor:
    """Share of the returns' variance that the critic foresees: 1 at best, 0 for a constant."""
    return 1 - variance(returns - values, spoken) / (variance(returns, spoken) + _SMALL)
