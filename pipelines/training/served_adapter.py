"""The policy as a server is given it on a GPU: an adapter beside the base, a new one each time.

Everything here imports torch and belongs in a child process.
"""

import secrets
import shutil
from pathlib import Path
from typing import cast

from peft import LoraConfig, PeftModel

from pipelines.training.models import save_adapter
from pipelines.training.policy import Given
from teachers.client import Client
from teachers.engine import load_adapter, unload_adapter
from teachers.errors import TrainingError

# What PEFT's LoRA may have besides, and vLLM's does not; rsLoRA is only another scale.
_BEYOND = ("use_dora", "lora_bias", "modules_to_save", "layer_replication")


class Adapters:
    """A `Delivery` of the adapter alone, in a folder and under a name of its own each time.

    No name is used twice, also when a version is given again: requests and cached prefixes are told
    apart by it. The server rounds the two factors of an update to bf16, each by 0.2 % at most, and
    not their sum with the base: so all of the update survives.

    Args:
        model: the policy in training, its adapter on.
        folder: each adapter is a folder in here.
        client: a server that takes adapters.

    Raises:
        TrainingError: a server cannot be given this kind of adapter.
    """

    def __init__(self, model: PeftModel, folder: Path, client: Client) -> None:
        _check(cast("LoraConfig", model.peft_config[model.active_adapter]))
        self._model, self._folder, self._client = model, folder, client
        self._given: list[str] = []

    async def take_back(self) -> str:
        return self._client.endpoint.model  # it never stopped serving the base beside them

    async def give(self, version: int) -> Given:
        name = f"policy-{version}-{secrets.token_hex(4)}"
        save_adapter(self._model, self._folder / name)
        self._given.append(name)
        await load_adapter(self._client, name, self._folder / name)
        return Given(name)

    async def settle(self) -> None:
        while len(self._given) > 1:
            await unload_adapter(self._client, self._given[0])
            shutil.rmtree(self._folder / self._given.pop(0), ignore_errors=True)

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _check(config: LoraConfig) -> None:
    beyond = [name for name in _BEYOND if getattr(config, name)]
    if config.bias != "none":
        beyond.append("bias")
    if beyond:
        raise TrainingError(
            f"A server is given plain LoRA or rsLoRA, and this adapter has {beyond[0]}.",
            hint="rollouts.sampler transformers takes any adapter.",
        )
