"""The policy as a server is given it on a CPU: merged into the base, in place of what it had.

Everything here imports torch and belongs in a child process.
"""

import shutil
from pathlib import Path

from peft import PeftModel
from safetensors.torch import save_file

from pipelines.training.merged_policy import merged
from pipelines.training.policy import Given
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
        found = merged(self._model, version)
        partial = self._folder.with_name(self._folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(found.weights, partial / "model.safetensors", metadata={"format": "pt"})
        for beside in _BESIDE:
            if (self._base / beside).is_file():
                shutil.copy(self._base / beside, partial)
        shutil.rmtree(self._folder, ignore_errors=True)
        partial.rename(self._folder)
        return found.surviving_share, found.noise
