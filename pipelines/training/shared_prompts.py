"""A group's answers have one prompt, and it is computed once for all of them.

Where answers are shorter than what they answer, that is most of an update. The gradient is the
same: it flows back through the keys and values that the answers attend to.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


@contextmanager
def prompts_once(backbone: Any, width: int) -> Iterator[None]:
    """Meanwhile the backbone computes the first `width` columns of a batch once for equal rows.

    It answers what it did, last hidden states of shape (batch, length, hidden size). A backbone
    that keeps less than all keys and values, or recomputes layers for the gradient, stays as it is.
    """
    if not _can(backbone):
        yield
        return
    whole, own = backbone.forward, vars(backbone).get("forward")

    def forward(input_ids: Tensor, attention_mask: Tensor, **how: Any) -> Any:
        columns = torch.cat([input_ids[:, :width], attention_mask[:, :width]], dim=1)
        _, which = torch.unique(columns, dim=0, return_inverse=True)
        first = torch.stack([(which == one).int().argmax() for one in range(int(which.max()) + 1)])
        if len(first) == len(which):
            return whole(input_ids=input_ids, attention_mask=attention_mask, **how)
        how |= {"past_key_values": DynamicCache(config=backbone.config), "use_cache": True}
        places = how.pop("position_ids", None)
        early = late = None
        if places is not None:
            early, late = places[first, :width], places[:, width:]
        ids, mask = input_ids[first, :width], attention_mask[first, :width]
        before = whole(input_ids=ids, attention_mask=mask, position_ids=early, **how)
        how["past_key_values"].batch_select_indices(which)
        ids = input_ids[:, width:]
        said = whole(input_ids=ids, attention_mask=attention_mask, position_ids=late, **how)
        hidden = (before.last_hidden_state[which], said.last_hidden_state)
        said.last_hidden_state = torch.cat(hidden, dim=1)
        return said

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward
        if own is not None:
            backbone.forward = own


def _can(backbone: Any) -> bool:
    kinds = getattr(backbone.config, "layer_types", None) or ["full_attention"]
    recomputed = backbone.is_gradient_checkpointing and backbone.training
    return {*kinds} == {"full_attention"} and not recomputed
