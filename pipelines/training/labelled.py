"""TRL's fused head, on no more positions than have a label.

On a GPU TRL scores those alone. On a CPU it projects every position on the vocabulary, prompts and
padding too, which is most of an update where answers are short.

Everything here imports torch and belongs in a child process.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipelines.training.on_cpu.label_scores import quick_head


def score_labelled_only(model: PreTrainedModel) -> None:
    """Let `model(..., labels=..., fused_lm_head=True)` skip positions without a label on the CPU.

    It answers what it did: fields of shape (batch, length - 1), 0 where there is no label.

    Args:
        model: one that TRL's `add_fused_lm_head` has been given.
    """
    fused: Any = model.forward

    # The signature stays: `generate` holds its arguments against it.
    @functools.wraps(fused)
    def forward(*inputs: Any, labels: Tensor | None = None, **how: Any) -> Any:
        if labels is None or not how.get("fused_lm_head") or model.device.type != "cpu":
            return fused(*inputs, labels=labels, **how)
        following = labels[:, 1:]
        wanted = following != -100
        with _only(model.base_model, wanted), quick_head():
            said = fused(*inputs, shift_labels=following[wanted], **how)
        for name, values in list(said.items()):
            if values.dim() == 1:
                # Connected to the model even where no label is.
                said[name] = values.new_zeros(wanted.shape).masked_scatter(wanted, values)
        return said

    model.forward = forward


@contextmanager
def _only(backbone: torch.nn.Module, wanted: Tensor) -> Iterator[None]:
    """The last hidden states, of shape (batch, length, width), become those that are wanted."""

    def picked(_module: object, _inputs: object, said: Any) -> Any:
        said.last_hidden_state = said.last_hidden_state[:, :-1][wanted]
        return said

    handle = backbone.register_forward_hook(picked)
    try:
        yield
    finally:
        handle.remove()
