"""The policy in training as a server is given it: merged, handed over, and proven to have arrived.

Everything here imports torch and belongs in a child process.
"""

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor

from pipelines.training.models import probe_tokens
from pipelines.training.rounding import merge
from teachers.client import Client
from teachers.engine import reload
from teachers.errors import SyncMismatch
from teachers.sync import agree, mean_difference

# A server that is asked the same of the same weights says the same, batching aside.
MAX_WANDERING = 0.02
# Files beside the weights that a server wants to find.
_BESIDE = ("config.json", "generation_config.json")


class Handed(NamedTuple):
    """What came of giving a server the policy."""

    name: str
    """Of this version of the policy."""
    seconds: float
    surviving_share: float = 1.0
    """Share of the update since the base that survives the rounding to bf16; 1 if there is none."""
    noise: float = 0.0
    """What rounding did besides, by the size of the update (root of the sum of squares of each)."""
    proven: bool = True
    """Whether these tokens could tell the policy from the one before."""


class ServedPolicy:
    """Gives a server the policy, version by version, and knows which one it has.

    Args:
        model: the policy in training, its adapter on.
        base: folder of the model that the adapter is on.
        folder: the merged policy is written here, over the one before.
        client: the server.
    """

    def __init__(self, model: PeftModel, base: Path, folder: Path, client: Client) -> None:
        self._model, self._base, self._folder, self._client = model, base, folder, client
        self._tokens = probe_tokens(base)
        self._served: list[float] | None = None
        """What the server says of the probe, by the policy that it has; None if it may have any."""
        with model.disable_adapter():
            self._proven = self._said()
        """What the trainer says of it, by the last policy that was seen to arrive."""

    async def hand_over(self, version: int) -> Handed:
        """Make the server answer from the policy as it is now.

        Raises:
            SyncMismatch: it does not.
        """
        began = time.monotonic()
        wanted, before = self._said(), self._served
        self._served = None
        surviving_share, noise = self._write(version)
        await reload(self._client, self._folder)
        after = await self._client.logprobs(self._tokens)
        name = f"policy-{version}"
        proven = agree(name, wanted, self._proven, before, after)
        if proven:
            self._proven = wanted
        self._served = after
        return Handed(name, time.monotonic() - began, surviving_share, noise, proven)

    async def still_there(self) -> None:
        """The server still has what it was given: it may have died and come back with the base.

        Raises:
            SyncMismatch: it has something else.
        """
        served, self._served = self._served, None
        said = await self._client.logprobs(self._tokens)
        assert served is not None, "nothing was handed over"
        if (off := mean_difference(said, served)) > MAX_WANDERING:
            raise SyncMismatch(
                f"The server's weights changed while it was sampled from ({off:.3f} nats a token)."
            )
        self._served = served

    def forget(self) -> None:
        """Remove what was written for the server."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _said(self) -> list[float]:
        was_training = self._model.training
        self._model.eval()
        ids = torch.tensor([self._tokens], device=self._model.device)
        with torch.no_grad():
            logits = self._model(input_ids=ids[:, :-1], use_cache=False).logits[0].float()
        self._model.train(was_training)
        chosen = logits.gather(1, ids[0, 1:, None])[:, 0]
        return cast("list[float]", (chosen - logits.logsumexp(1)).tolist())

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
