"""What a token counts that was sampled by another arithmetic than the one that learns from it.

Its gradient is weighted with min(p_trainer / p_engine, most): truncated importance sampling
(Ionides 2008; for rollouts Yao et al. 2025, "Your efficient RL framework secretly brings you
off-policy RL training"). Shapes are [answers, tokens].

Everything here imports torch and belongs in a child process.
"""

import torch
from torch import Tensor

from pipelines.training.callbacks import Live
from pipelines.training.gae import mean


def weights(old: Tensor, sampled: Tensor, spoken: Tensor, most: float, live: Live) -> Tensor:
    """Each token's weight, 1 where nothing was said; tells how far apart the two are.

    Args:
        old: log-probabilities by the trainer's arithmetic, in nats.
        sampled: by the engine's, of the same policy.
        spoken: which tokens are learned from.
        most: the largest weight.
        live: is told `engine_gap`, the mean distance in nats a token.
    """
    live.note(engine_gap=mean((old - sampled).abs(), spoken))
    return torch.exp((old - sampled) * spoken).clamp(max=most)
