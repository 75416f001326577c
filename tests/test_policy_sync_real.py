"""The policy in training on the real vLLM, merged and as an adapter: handed over, proven after one
ordinary step, and caught where the server was left behind.

All of it happens to one engine for each way, because a start takes up to a minute on two cores.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from judges.rewards import OWN, RewardTerm
from pipelines.recipe import Rollouts
from pipelines.recipe_file import load
from pipelines.training.job import PolicyJob
from teachers.client import Client, Endpoint
from teachers.engine import Engine, EngineSettings
from teachers.errors import SyncMismatch
from teachers.weights import Weights
from tests.scripted.running import ROOT
from tests.steps import one_step

LEARNING_RATE = load(ROOT / "recipes" / "grpo.yaml").train.learning_rate
RANK = 16

pytestmark = [pytest.mark.engine, pytest.mark.fault]


class Hearing(Client):
    """The way to a server; while it is deaf, it takes whatever it is given for what it had."""

    deaf = False
    _had = ""

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        if self.deaf and path == "/collective_rpc":
            return b""
        if path == "/v1/load_lora_adapter":
            self._had = self._had if self.deaf else body["lora_path"]
            body = {**body, "lora_path": self._had}
        return await super().post(path, body)


def _policy(base: Weights) -> Any:
    """The packaged model with a new adapter."""
    import torch

    from pipelines.training import models

    job = PolicyJob(
        base=base.path,
        base_weights=base.fingerprint,
        dataset=base.path / "none",
        objective="grpo",
        rank=RANK,
        rollouts=Rollouts(),
        rewards=(RewardTerm(name="right", verifier=OWN),),
    )
    torch.manual_seed(1)
    return models.with_adapter(models.base_model(job), job)


@asynccontextmanager
async def _served(base: Weights, home: Path, lora_rank: int = 0) -> AsyncIterator[Hearing]:
    settings = EngineSettings(
        max_model_len=700, max_num_seqs=8, kv_cache_gib=1, lora_rank=lora_rank
    )
    async with Engine(base, home, settings=settings) as engine:
        await engine.start()
        endpoint = Endpoint(url=engine.client.endpoint.base, model=engine.name)
        client = Hearing(endpoint, key=engine.key)
        async with client:
            yield client


def test_merged_a_step_is_seen_to_arrive_and_to_be_left_out(
    packaged: Weights, tmp_path: Path
) -> None:
    asyncio.run(_merged(packaged, tmp_path))


async def _merged(base: Weights, folder: Path) -> None:
    from pipelines.training.policy import ServedPolicy
    from pipelines.training.served_merged import Merged

    model = _policy(base)
    async with _served(base, folder) as client:
        merged = Merged(model, base.path, folder / "policy", client)
        policy = ServedPolicy(model, base.path, client, merged)
        assert (await policy.hand_over(0)).surviving_share == 1.0
        for version in (1, 2):
            one_step(model, LEARNING_RATE)
            assert 0.8 < (await policy.hand_over(version)).surviving_share < 1.2
            await policy.still_there()
        client.deaf = True
        one_step(model, LEARNING_RATE)
        with pytest.raises(SyncMismatch, match="changed nothing"):
            await policy.hand_over(3)


def test_as_an_adapter_a_step_is_seen_to_arrive_and_to_be_left_out(
    packaged: Weights, tmp_path: Path
) -> None:
    asyncio.run(_adapter(packaged, tmp_path))


async def _adapter(base: Weights, folder: Path) -> None:
    from pipelines.training.policy import ServedPolicy
    from pipelines.training.served_adapter import Adapters

    model = _policy(base)
    async with _served(base, folder, RANK) as client:
        adapters = Adapters(model, folder / "policy", client)
        policy = ServedPolicy(model, base.path, client, adapters)
        assert not (await policy.hand_over(0)).proven
        for version in (1, 2):
            one_step(model, LEARNING_RATE)
            handed = await policy.hand_over(version)
            print(handed)
            assert (handed.surviving_share, handed.noise) == (1.0, 0.0)
            (answer,) = await policy.sample([1, 2, 3], 1, 4)
            assert len(answer.ids) == len(answer.logprobs) > 0
            await policy.still_there()
        known = [one.id for one in (await client.models()).data]
        (name,) = (one for one in known if one.startswith("policy-2"))
        assert known == [client.endpoint.model, name]
        await client.post("/v1/unload_lora_adapter", {"lora_name": name})
        with pytest.raises(SyncMismatch, match="lost the policy"):
            await policy.sample([1, 2, 3], 1, 4)
        await policy.hand_over(2)
        for _ in range(8):
            one_step(model, LEARNING_RATE)
        assert (await policy.hand_over(3)).proven
        client.deaf = True
        one_step(model, LEARNING_RATE)
        with pytest.raises(SyncMismatch, match="changed nothing"):
            await policy.hand_over(4)
