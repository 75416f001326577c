"""What a policy said and what came of it, as tensors.

Shapes are [answers, columns]. Prompts are padded on the left and answers on the right, so that all
answers begin in one column. What counts is said by masks: no token is told from padding by its id,
and an answer's end token is one that it said.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pipelines.training.rollout import Rollout


class Asked(NamedTuple):
    """Prompts and their answers."""

    prompts: Tensor
    there: Tensor
    """Where a prompt is, and not padding."""
    answers: Tensor
    spoken: Tensor
    """Which tokens the policy said and learns from; none of an answer without a reward."""
    answered: Tensor
    """Where an answer is, learned from or not."""

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], device: torch.device) -> Self:
        prompts = [one.prompt_tokens for one in rollouts]
        answers = [one.tokens for one in rollouts]
        counts = torch.tensor([one.reward is not None for one in rollouts])[:, None]
        answered = _padded([[1] * len(one) for one in answers]).bool()
        return cls(
            _padded(prompts, left=True).to(device),
            _padded([[1] * len(one) for one in prompts], left=True).bool().to(device),
            _padded(answers).to(device),
            (answered & counts).to(device),
            answered.to(device),
        )

    def rows(self, which: Tensor) -> Self:
        """Some of the answers, without the columns that are padding in all of them."""
        some = type(self)(*(one[which] for one in self))
        begin = int(some.there.any(0).int().argmax())
        end = width_of(some.answered)
        return type(self)(
            *(one[:, begin:] for one in some[:2]), *(one[:, :end] for one in some[2:])
        )

    @property
    def ids(self) -> Tensor:
        return torch.cat([self.prompts, self.answers], dim=1)

    @property
    def mask(self) -> Tensor:
        return torch.cat([self.there, self.answered], dim=1).long()

    @property
    def positions(self) -> Tensor:
        """Each token's place among those that are there: padding moves nothing."""
        return (self.mask.cumsum(1) - 1).clamp(min=0)

    @property
    def labels(self) -> Tensor:
        """The answers' tokens, and -100 elsewhere."""
        nothing = torch.full_like(self.prompts, -100)
        return torch.cat([nothing, self.answers.masked_fill(~self.answered, -100)], dim=1)


class Experience(NamedTuple):
    """A batch of answers with everything that an update needs; in nats and in the reward's unit."""

    asked: Asked
    old: Tensor
    """Log-probabilities of the answers' tokens by the policy that is to be updated."""
    values: Tensor
    """The critic's, before each token."""
    advantages: Tensor
    """Whitened."""
    returns: Tensor
    correction: Tensor
    """How much a token counts: it was sampled by another arithmetic than the trainer's."""

    def rows(self, which: Tensor) -> Self:
        asked = self.asked.rows(which)
        width = asked.answers.size(1)
        return type(self)(asked, *(one[which, :width] for one in self[1:]))


def width_of(answered: Tensor) -> int:
    """Columns up to the end of the longest answer; one at the least."""
    return max(1, int(answered.sum(1).max()))


def joined(parts: Sequence[Tensor], width: int) -> Tensor:
    """Rows of several widths as one tensor, padded on the right with 0."""
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.size(1))) for part in parts])


def log_probabilities(rollouts: Sequence[Rollout], like: Tensor) -> Tensor | None:
    """What the engine that sampled them said of their tokens; None if the trainer itself did."""
    if not any(one.logprobs for one in rollouts):
        return None
    found = torch.zeros_like(like)
    for row, one in enumerate(rollouts):
        found[row, : len(one.logprobs)] = torch.tensor(one.logprobs, dtype=like.dtype)
    return found


def _padded(rows: Sequence[Sequence[int]], *, left: bool = False) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor(
        [
            [*[0] * (width - len(row)), *row] if left else [*row, *[0] * (width - len(row))]
            for row in rows
        ]
    )
