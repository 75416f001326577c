"""The policy as a server is given it on a CPU: merged into the base, in place of what it had.

Everything here imports torch and belongs in a child process.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor

from pipelines.training.policy import Given
from pipelines.training.rounding import merge
from teachers.client import Client
from teachers.engine import reload

# Files beside the weights that a server wants to find.
_BESIDE = ("config.json", "generation_config.json")


class Merged:
    """A `Delivery` of base and adapter as one model in bf16, under the name of the base.

    Args:
        model: the policy in training, its adapter on.
        base: folder of the model that the adapter is on.
        folder: the merged policy is written here, over the one before.
        client: the server.
    """

    def __init__(self, model: PeftModel, base: Path, folder: Path, client: Client) -> None:
        self._model, self._base, self._folder, self._client = model, base, folder, client

    async def take_back(self) -> str:
        await reload(self._client, self._base)
        return self._client.endpoint.model

    async def give(self, version: int) -> Given:
        surviving_share, noise = self._write(version)
        await reload(self._client, self._folder)
        return Given(self._client.endpoint.model, surviving_share, noise)

    async def settle(self) -> None:
        """It took the place of the one before."""

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, version: int) -> tuple[float, float]:
        """Write the merged policy; returns the share of its update that is in it, and the noise."""
        generator = torch.Generator().manual_seed(version)
        kept = meant = noise = 0.0
        weights: dict[str, Tensor] = {}
        for name, tensor, update in _parts(self._model):
            if update is None:
                weights[name] = tensor.detach().contiguous()
                continue
            merged = merge(tensor.cpu(), update.cpu(), generator)
            weights[name] = merged.weights
            kept, meant = kept + merged.kept, meant + merged.meant
            noise += merged.noise
        partial = self._folder.with_name(self._folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        for beside in _BESIDE:
            if (self._base / beside).is_file():
                shutil.copy(self._base / beside, partial)
        shutil.rmtree(self._folder, ignore_errors=True)
        partial.rename(self._folder)
        return (kept / meant, math.sqrt(noise / meant)) if meant else (1.0, 0.0)


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
