"""The policy in training as a model without an adapter: base and update as one, in bf16.

Everything here imports torch and belongs in a child process.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from pipelines.training.rounding import merge


class MergedPolicy(NamedTuple):
    """One version of it."""

    weights: dict[str, Tensor]
    """Under the base's own names; what the adapter does not touch is the base's own memory."""
    surviving_share: float
    """Share of the update that is in them; 1 if there is none."""
    noise: float
    """What rounding did besides, by the size of the update."""


def merged(model: PeftModel, version: int) -> MergedPolicy:
    """Merge the adapter that acts.

    Args:
        model: the policy.
        version: decides which weights are rounded up.
    """
    generator = torch.Generator().manual_seed(version)
    kept = meant = noise = 0.0
    weights: dict[str, Tensor] = {}
    for name, tensor, update in _parts(model):
        if update is None:
            weights[name] = tensor.detach().contiguous()
            continue
        found = merge(tensor.cpu(), update.cpu(), generator)
        weights[name] = found.weights
        kept, meant, noise = kept + found.kept, meant + found.meant, noise + found.noise
    if not meant:
        return MergedPolicy(weights, 1.0, 0.0)
    return MergedPolicy(weights, kept / meant, math.sqrt(noise / meant))


def _parts(model: PeftModel) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Each weight of the base under its own name, with the adapter's update where there is one."""
    base, adapter = cast("Any", model.get_base_model()), model.active_adapter
    tied = bool(getattr(base.config, "tie_word_embeddings", False))
    adapted = {name: layer for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    for name, tensor in base.state_dict().items():
        if "lora_" in name or (tied and name == "lm_head.weight"):
            continue
        owner, _, leaf = name.rpartition(".base_layer.")
        update = None
        if owner in adapted and leaf == "weight":
            with torch.no_grad():
                update = cast("Any", adapted[owner]).get_delta_weight(adapter).float()
        yield name.replace(".base_layer.", "."), tensor, update
