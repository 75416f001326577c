"""Answers drawn from a model token by token, at temperature 1 and from all of its vocabulary.

Whoever has come to an end leaves the batch: the longest answer is not waited for by all of them.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK = 256
"""Tokens of the vocabulary whose chances are added up at once."""


class Drawn(NamedTuple):
    """An answer."""

    tokens: list[int]
    """With its end token, if it came to one."""
    logprobs: list[float]
    """Of each, in nats."""


@torch.no_grad()
def draw(
    model: Any, prompts: Sequence[Sequence[int]], most: int, ends: Collection[int], seed: int
) -> list[Drawn]:
    """An answer to each prompt.

    Args:
        model: a causal language model of transformers.
        prompts: as tokens.
        most: an answer is cut after so many.
        ends: tokens that end an answer.
        seed: of its random numbers; torch's own stay what they are.
    """
    drawn = [Drawn([], []) for _ in prompts]
    generator = torch.Generator(model.device).manual_seed(seed)
    feed, mask = _padded(prompts, model.device)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    stop = torch.tensor([*ends], device=model.device)
    rows, cache = torch.arange(len(prompts), device=model.device), None
    for _ in range(most):
        said = model(
            input_ids=feed,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = said.past_key_values
        tokens, logprobs = _one(said.logits[:, -1], generator)
        for row, token, logprob in zip(
            rows.tolist(), tokens.tolist(), logprobs.tolist(), strict=True
        ):
            drawn[row].tokens.append(token)
            drawn[row].logprobs.append(logprob)
        going = ~torch.isin(tokens, stop)
        if not going.all():
            if not going.any():
                break
            cache.reorder_cache(going.nonzero()[:, 0])
        rows, mask = rows[going], mask[going]
        feed = tokens[going, None]
        mask = torch.cat([mask, torch.ones_like(feed)], dim=1)
        places = mask.sum(1, keepdim=True) - 1
    return drawn


def _one(logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A token for each row of logits, and its log-probability.

    By the inverse of the distribution function: one random number a row, where torch's multinomial
    takes one for every token of the vocabulary. First the block is found, then the token in it:
    adding up the whole vocabulary token by token takes longer than all else here.
    """
    blocks = pad(logits, (0, -logits.size(1) % _BLOCK), value=-torch.inf)
    chances = blocks.softmax(-1, dtype=torch.float32).view(len(logits), -1, _BLOCK)
    weights = chances.sum(-1)
    ends = weights.cumsum(-1)
    at = torch.rand(len(logits), 1, generator=generator, device=logits.device) * ends[:, -1:]
    block = _first_above(ends, at)
    within = chances[torch.arange(len(logits), device=logits.device), block[:, 0]]
    place = _first_above(within.cumsum(-1), at - (ends - weights).gather(1, block))
    tokens = (block * _BLOCK + place).clamp(max=logits.size(1) - 1)
    return tokens[:, 0], within.gather(1, place).log()[:, 0]


def _first_above(ends: Tensor, at: Tensor) -> Tensor:
    """Where each row's running sum passes `at`: never where it does not grow, whatever was rounded.

    Args:
        ends: running sums, [rows, n].
        at: [rows, 1].
    """
    last = torch.nextafter(ends[:, -1:], torch.zeros_like(at))
    found = torch.searchsorted(ends, torch.minimum(at.clamp(min=0), last), right=True)
    return found.clamp(max=ends.size(1) - 1)  # of what is no number, any place will do


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts that end in one column, and where they are."""
    width = max(map(len, prompts))
    ids = [[*[0] * (width - len(one)), *one] for one in prompts]
    mask = [[0] * (width - len(one)) + [1] * len(one) for one in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
