"""Log-probabilities of labels, some tokens at a time and the whole vocabulary at once.

TRL's kernel goes through the vocabulary in tiles and adds gradients up in float32 products, which a
CPU has no fast way for. Over the whole vocabulary there is nothing to add up: one product in bf16
adds in float32 by itself, and rounds once.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.trainer import utils

PRODUCT, TOKENS = 256, 64
"""Tokens at a time, of a product and of what follows: a product takes many rows to be fast, and
what lies in float32 is to stay near the cores."""
_KERNEL = "_ChunkedLogProbFunction"


@contextmanager
def quick_head() -> Iterator[None]:
    """Meanwhile TRL's fused head scores labels this way, where it is asked for what is known here.

    That is log-probabilities and entropies of plain logits.
    """
    theirs = getattr(utils, _KERNEL)
    setattr(utils, _KERNEL, _Either(theirs))
    try:
        yield
    finally:
        setattr(utils, _KERNEL, theirs)


class _Either:
    """Looks like TRL's autograd function."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def apply(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        temperature: float,
        chunk: int,
        softcap: float | None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> Any:
        plain = bias is None and temperature == 1 and not softcap and scale == 1
        if not plain or weight.requires_grad or not {*outputs} <= {"log_probs", "entropy"}:
            how = (temperature, chunk, softcap, scale, outputs)
            return self._theirs.apply(hidden, weight, bias, labels, *how)
        return (*scored(hidden, weight, labels, entropies="entropy" in outputs), None, None, None)


def scored(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, entropies: bool
) -> tuple[Tensor, Tensor | None]:
    """log p(label) of softmax(H W') in nats, and its entropy if asked for; [tokens], float32.

    Args:
        hidden: [tokens, width].
        weight: [vocabulary, width], frozen.
        labels: [tokens].
    """
    function: Any = _LabelScores
    found: tuple[Tensor, Tensor | None] = function.apply(hidden, weight, labels, entropies)
    return found


class _LabelScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, entropies: bool
    ) -> tuple[Tensor, Tensor | None]:
        # An entropy that is only looked at has no gradient: not one of zeros.
        ctx.set_materialize_grads(False)
        said = hidden.new_empty(len(hidden), dtype=torch.float32)
        spread = torch.empty_like(said) if entropies else None
        for some, logits in _logits(hidden, weight):
            logs = logits.float().log_softmax(-1)
            said[some] = logs.gather(1, labels[some, None])[:, 0]
            if spread is not None:
                spread[some] = -torch.linalg.vecdot(logs.exp(), logs)
        ctx.save_for_backward(hidden, weight, labels, said, spread)
        return said, spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        hidden, weight, labels, said, spread = ctx.saved_tensors
        of_said, of_spread = gradients
        found = torch.zeros_like(hidden)
        for some, logits in _logits(hidden, weight):
            if of_said is not None:
                # d log p(label) / d logits = [label] - p; at the label that is 1 - p, exactly.
                missed = logits.softmax(-1)
                near = said[some, None].expm1().to(missed.dtype)
                missed.scatter_(1, labels[some, None], near)
                found[some] -= (missed @ weight) * of_said[some, None]
            if of_spread is not None:
                logs = logits.float().log_softmax(-1)
                bent = logs.exp() * (logs + spread[some, None]) * of_spread[some, None]
                found[some] -= bent.to(weight.dtype) @ weight
        return found, None, None, None


def _logits(hidden: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for at in range(0, len(hidden), PRODUCT):
        product = hidden[at : at + PRODUCT] @ weight.T
        for part in range(0, len(product), TOKENS):
            some = product[part : part + TOKENS]
            yield slice(at + part, at + part + len(some)), some
