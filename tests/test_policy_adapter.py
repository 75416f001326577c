"""The policy in training as an adapter: each version has a name of its own, arrives or is missed,
and goes.

The server is played at the network seam, by PEFT, which opens the folders that it is told of.
"""

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import ValidationError

from judges.rewards import OWN, RewardTerm
from pipelines.context import Context
from pipelines.home import Home
from pipelines.practice import beside
from pipelines.recipe import EngineSection, Generator, Recipe, Rollouts, Student, Supply, Train
from pipelines.training.job import PolicyJob, RunFolder
from teachers.client import Client, Endpoint
from teachers.engine import LORA_RANKS, Engine, EngineSettings
from teachers.errors import EngineError, SyncMismatch, TrainingError
from teachers.progress import Silent
from teachers.weights import Weights
from tests.runs import settings
from tests.scripted.running import COMMAND
from tests.steps import one_step

pytestmark = pytest.mark.usefixtures("one_thread")

# Learning rates: a step that noise hides, and one that it does not.
SMALL, LARGE = 4e-5, 3e-3

BASE = "base"

Answer = tuple[int, dict[str, Any]]


class Server(httpx.AsyncBaseTransport):
    """A server that takes adapters, as vLLM does: a name is answered from what it was loaded with.

    Args:
        base: folder of the model that the adapters are on.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self.known: dict[str, Any] = {}
        """What it serves, by name, besides the base."""
        self.names: list[str] = []
        """Every name that it was ever given."""
        self.stale = False
        """Whether it takes an adapter and serves the one before under its name."""
        self.noise = 0.0
        """By how much its arithmetic is not the trainer's, in nats a token."""
        self.off = 0.0
        """By how much it finds every token less likely than its adapter does."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, answer = self._answer(request.url.path, json.loads(await request.aread()))
        return httpx.Response(status, json=answer)

    def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        if path == "/v1/load_lora_adapter":
            return self._load(body["lora_name"], Path(body["lora_path"]))
        name = body.get("lora_name", body.get("model"))
        if name not in (BASE, *self.known):
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        if path == "/v1/unload_lora_adapter":
            del self.known[name]
            return 200, {}
        choice: dict[str, Any] = {"index": 0, "token_ids": [5], "finish_reason": "length"}
        choice["logprobs"] = {"token_logprobs": [-1.0]}
        if body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = self._said(name, body["prompt"])
        return 200, {"choices": [choice]}

    def _load(self, name: str, path: Path) -> Answer:
        from peft import PeftModel

        if name in self.names:
            return 400, {"error": {"message": "never a name twice"}}
        model = PeftModel.from_pretrained(self._opened(), str(path))
        self.known[name] = self.known[self.names[-1]] if self.stale else model
        self.names.append(name)
        return 200, {}

    def _opened(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self._base, dtype="bfloat16")

    def _said(self, name: str, tokens: list[int]) -> list[dict[str, Any] | None]:
        from pipelines.training.models import logprobs

        drawn = random.Random(1)
        said = [
            one - self.off + drawn.gauss(0, self.noise)
            for one in logprobs(self.known.get(name) or self._opened(), tokens)
        ]
        rows = zip(tokens[1:], said, strict=True)
        return [None, *({str(token): {"logprob": value}} for token, value in rows)]


class Place:
    """A policy on the tiny model, a server that takes adapters, and a folder between them."""

    def __init__(self, job: PolicyJob, folder: Path, **lora: Any) -> None:
        import torch
        from peft import get_peft_model

        from pipelines.training import models

        torch.manual_seed(1)
        config = models.adapter_config(job)
        for name, value in lora.items():
            setattr(config, name, value)
        self.model = get_peft_model(models.base_model(job), config, adapter_name=models.ADAPTER)
        self.base, self.folder, self.server = job.base, folder, Server(job.base)

    def use(self, what: Callable[["Place"], Awaitable[None]]) -> None:
        from pipelines.training.policy import ServedPolicy
        from pipelines.training.served_adapter import Adapters

        async def connected() -> None:
            endpoint = Endpoint(url="http://server", model=BASE)
            async with Client(endpoint, transport=self.server) as client:
                adapters = Adapters(self.model, self.folder, client)
                self.policy = ServedPolicy(self.model, self.base, client, adapters)
                await what(self)

        asyncio.run(connected())

    def step(self, learning_rate: float = LARGE) -> None:
        one_step(self.model, learning_rate)

    @property
    def written(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def job(tiny: Path) -> PolicyJob:
    return _job(tiny)


@pytest.fixture
def place(job: PolicyJob, tmp_path: Path) -> Place:
    return Place(job, tmp_path / "policy")


def _job(tiny: Path, **changes: Any) -> PolicyJob:
    usual = settings(tiny, tiny / "none", accumulation=1, objective="grpo")
    own = RewardTerm(name="right", verifier=OWN)
    return PolicyJob(**{**usual, "rollouts": Rollouts(), "rewards": (own,), **changes})


def _recipe(tiny: Path, **sections: Any) -> Recipe:
    return Recipe(
        name="practice",
        student=Student(weights=str(tiny)),
        supply=Supply(generators=(Generator(generator="chain_sum"),)),
        engine=EngineSection(command=COMMAND),
        **sections,
    )


def test_each_version_arrives_under_a_name_of_its_own(place: Place) -> None:
    async def steps(place: Place) -> None:
        for version in (0, 1, 2, 2):
            handed = await place.policy.hand_over(version)
            # The first is the base, and the last is what was there already.
            assert handed.proven == (len(place.server.names) in (2, 3))
            assert handed.name == f"policy-{version}"
            assert (handed.surviving_share, handed.noise) == (1.0, 0.0)
            assert list(place.server.known) == place.written == place.server.names[-1:]
            assert (await place.policy.sample([1, 2], 1, 1))[0].ids == (5,)
            await place.policy.still_there()
            if version < 2:
                place.step()
        place.policy.forget()
        assert not place.folder.exists()

    place.use(steps)
    assert len(set(place.server.names)) == 4


def test_the_adapter_before_under_a_new_name_is_caught(place: Place) -> None:
    async def steps(place: Place) -> None:
        for version in (0, 1):
            await place.policy.hand_over(version)
            place.step()
        place.server.stale = True
        with pytest.raises(SyncMismatch, match="changed nothing"):
            await place.policy.hand_over(2)

    place.use(steps)


def test_a_server_that_was_started_anew_is_given_the_policy_again(place: Place) -> None:
    async def steps(place: Place) -> None:
        await place.policy.hand_over(0)
        place.step()
        await place.policy.hand_over(1)
        place.server.known.clear()
        with pytest.raises(SyncMismatch, match=r"lost the policy.*does not exist"):
            await place.policy.sample([1, 2], 1, 1)
        with pytest.raises(SyncMismatch, match=r"lost the policy.*does not exist"):
            await place.policy.still_there()
        await place.policy.hand_over(1)
        await place.policy.still_there()
        assert list(place.server.known) == place.written

    place.use(steps)


def test_a_step_that_cannot_be_seen_is_handed_over_once_more(place: Place) -> None:
    async def steps(place: Place) -> None:
        place.server.noise = 0.08
        await place.policy.hand_over(0)
        place.step(SMALL)
        for _ in range(2):
            assert not (await place.policy.hand_over(1)).proven
        place.step()
        assert (await place.policy.hand_over(2)).proven
        place.server.stale = True
        place.step(SMALL)
        with pytest.raises(SyncMismatch, match="changed nothing"):
            await place.policy.hand_over(3)

    place.use(steps)


def test_the_same_policy_given_again_has_to_say_the_same(place: Place) -> None:
    async def steps(place: Place) -> None:
        await place.policy.hand_over(0)
        place.step()
        await place.policy.hand_over(1)
        # Near enough to be the policy, were it not for what was said before.
        place.server.off = 0.07
        with pytest.raises(SyncMismatch, match="says something else"):
            await place.policy.hand_over(1)

    place.use(steps)


def test_rank_stabilised_lora_is_served(job: PolicyJob, tmp_path: Path) -> None:
    async def steps(place: Place) -> None:
        place.step()
        assert (await place.policy.hand_over(1)).proven

    Place(job, tmp_path / "policy", use_rslora=True).use(steps)


@pytest.mark.parametrize("beyond", [{"use_dora": True}, {"bias": "lora_only"}])
def test_an_adapter_that_no_server_takes_is_refused(
    beyond: dict[str, Any], job: PolicyJob, tmp_path: Path
) -> None:
    async def nothing(_: Place) -> None: ...

    with pytest.raises(TrainingError, match=f"this adapter has {next(iter(beyond))}"):
        Place(job, tmp_path / "policy", **beyond).use(nothing)


@pytest.mark.parametrize(
    ("device", "said", "served_as"),
    [
        ("cpu", "auto", "merged"),
        ("gpu", "auto", "adapter"),
        ("cpu", "adapter", "adapter"),
        ("gpu", "merged", "merged"),
    ],
)
def test_the_device_decides_unless_the_recipe_does(
    device: str, said: Any, served_as: str, tiny: Path
) -> None:
    assert _job(tiny, device=device, rollouts=Rollouts(served_as=said)).served_as == served_as


@pytest.mark.parametrize(("said", "as_what"), [("auto", "adapter"), ("merged", "merged")])
def test_a_trainer_samples_from_the_policy_itself_unless_it_is_told(
    said: Any, as_what: str, tiny: Path
) -> None:
    job = _job(tiny, rollouts=Rollouts(sampler="transformers", served_as=said))
    assert job.served_as == as_what


@pytest.mark.parametrize(
    ("rollouts", "adapter", "told"),
    [
        ({"served_as": "merged", "sampler": "transformers"}, "qlora", "cannot be merged yet"),
        ({"served_as": "adapter"}, "qlora", "a 4-bit policy cannot be handed over"),
    ],
)
def test_what_no_server_can_be_given_is_refused(
    rollouts: dict[str, Any], adapter: Any, told: str, tiny: Path
) -> None:
    train = Train(objective="grpo", adapter=adapter)
    with pytest.raises(ValidationError, match=told):
        _recipe(tiny, train=train, rollouts=Rollouts(**rollouts))


def test_a_server_is_started_to_take_adapters_if_it_is_given_any(tmp_path: Path) -> None:
    plain, ready = (_started(tmp_path / str(rank), rank) for rank in (0, 9))
    assert not any("lora" in word for word in plain["flags"])
    assert plain["may"] == "0"
    assert ready["may"] == "1"
    assert "--enable-lora" in ready["flags"]
    assert ready["flags"][ready["flags"].index("--max-lora-rank") + 1] == "16"
    with pytest.raises(EngineError, match=f"of rank {LORA_RANKS[-1]} at most"):
        _started(tmp_path / "large", LORA_RANKS[-1] + 1)


def _started(folder: Path, rank: int) -> dict[str, Any]:
    """What a server is told at its start."""
    folder.mkdir()
    program = """if True:
        import json, os, sys
        may = os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]
        open(sys.argv[1], "w").write(json.dumps({"flags": sys.argv[2:], "may": may}))"""
    command = (sys.executable, "-c", program, str(folder / "told.json"))
    engine = Engine(
        Weights(folder, "base"), folder, settings=EngineSettings(command=command, lora_rank=rank)
    )

    async def start() -> None:
        async with engine:
            await engine.start()

    with pytest.raises(EngineError) as failed:
        asyncio.run(start())
    if "ended while starting" not in failed.value.message:
        raise failed.value
    return cast("dict[str, Any]", json.loads((folder / "told.json").read_text()))


@pytest.mark.parametrize("served_as", ["merged", "adapter"])
def test_a_round_starts_the_server_that_the_recipe_asks_for(
    served_as: Any, tiny: Path, tmp_path: Path
) -> None:
    from pipelines.training.sampling import Address

    recipe, run = _recipe(tiny), RunFolder(tmp_path / "run")
    job = _job(tiny, rollouts=Rollouts(served_as=served_as))

    async def look() -> Address:
        async with Context(recipe, Home(tmp_path), Silent()) as context:
            await context.serving(context.base)
            async with beside(context, job, "run", run):
                told = Address.read(run.engine)
                async with Client(Endpoint(url=told.url, model=told.model), key=told.key) as client:
                    await client.models()
                return told

    assert asyncio.run(look()).takes_adapters == (served_as == "adapter")
    assert not run.engine.exists()
    assert list((tmp_path / "engines").iterdir()) == []
