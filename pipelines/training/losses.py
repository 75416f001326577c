"""Losses of our own over pairs of a better and a worse answer: tensors in, tensors out.

Each returns one loss a pair, in nats. Shapes are [pairs]; `flipped` may be one number for all.
Symbols: w the chosen answer, l the rejected one, s(z) = 1 / (1 + exp(-z)).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# exp of it is 1 in float32: a likelihood of exactly 1 would have infinite odds.
_NEAR_ONE = -1e-7


def logistic(lead: Tensor, flipped: Tensor | float = 0.0) -> Tensor:
    """How surprising it is that the label says w, if its score leads l's by so much.

    -(1 - f) log s(lead) - f log s(-lead): the DPO paper's equation 7 (arXiv 2305.18290) for f = 0,
    and conservative DPO (a note by Eric Mitchell, 2023) for a label that is the wrong way round
    with probability f. It is least where s(lead) = 1 - f.

    Args:
        lead: how far the score of w is ahead.
        flipped: f, from 0 to 0.5.
    """
    return -(1 - flipped) * logsigmoid(lead) - flipped * logsigmoid(-lead)


def dpo(chosen: Tensor, rejected: Tensor, beta: float, flipped: Tensor | float = 0.0) -> Tensor:
    """Direct preference optimization, equation 7 of arXiv 2305.18290, with soft labels.

    Args:
        chosen: log pi(w) - log pi_ref(w), summed over the answer's tokens.
        rejected: the same of l.
        beta: cost of leaving the reference.
    """
    return logistic(beta * (chosen - rejected), flipped)


def simpo(
    chosen: Tensor,
    rejected: Tensor,
    beta: float,
    margin: float,
    flipped: Tensor | float = 0.0,
) -> Tensor:
    """Simple preference optimization, equation 6 of arXiv 2405.14734: no reference.

    Args:
        chosen: log pi(w), the mean over the answer's tokens.
        rejected: the same of l.
        beta: scale of that reward; the paper's best runs use 2 to 10.
        margin: gamma, by which w's reward is to lead.
    """
    return logistic(beta * (chosen - rejected) - margin, flipped)


def orpo(chosen: Tensor, rejected: Tensor, beta: float, flipped: Tensor | float = 0.0) -> Tensor:
    """Odds ratio preference optimization, equations 4, 6 and 7 of arXiv 2403.07691: no reference.

    -log P(w) - beta log s(log(odds(w) / odds(l))) with odds(y) = P(y) / (1 - P(y)), where P is the
    geometric mean of the likelihoods of an answer's tokens.

    Args:
        chosen: log P(w), the mean over the answer's tokens.
        rejected: the same of l.
        beta: the paper's lambda, the weight of the odds ratio beside learning w by heart.
    """
    return -chosen + beta * logistic(_log_odds(chosen) - _log_odds(rejected), flipped)


def _log_odds(log_p: Tensor) -> Tensor:
    log_p = log_p.clamp(max=_NEAR_ONE)
    return log_p - torch.log(-torch.expm1(log_p))


def bradley_terry(
    better: Tensor,
    worse: Tensor,
    weight: Tensor,
    center: float,
    margin: Tensor | float = 0.0,
) -> Tensor:
    """Scores of a better and a worse answer, a judge's or a reward model's.

    -log s(better - worse) is equation 1 of InstructGPT (arXiv 2203.02155); it says nothing of
    where the scores lie. center (better + worse)^2 holds a pair around 0 (arXiv 2312.09244,
    equation 2), so that a single score can be read as a verdict.

    Args:
        better: of the better answer; a judge's is the log odds of "yes" against "no".
        worse: the same of the worse one.
        weight: how much each pair counts.
        center: that coefficient; the paper uses 0.01.
        margin: by how much the better one is to lead (arXiv 2307.09288, equation 2).
    """
    return weight * (logistic(better - worse - margin) + center * (better + worse) ** 2)
