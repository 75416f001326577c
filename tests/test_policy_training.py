"""A policy learns from the rewards of its own answers: real child processes on the tiny model."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.guards import Guards
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.kept import NewBatches
from pipelines.training.rollout import Rollout
from pipelines.training.run import train
from teachers.errors import GuardTripped
from teachers.progress import Silent
from tests.runs import Run, exercises, killed_in_training, settings

pytestmark = pytest.mark.usefixtures("one_thread")

EARLY = RewardTerm(name="early", verifier="tests.rules:early_letters")
LONG = RewardTerm(name="long", verifier="tests.rules:long")
BATCHES, PROMPTS, GROUP = 16, 4, 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercises(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "straight")


def _job(base: Path, dataset: Path, **changes: Any) -> PolicyJob:
    rollouts = {"batches": BATCHES, "prompts": PROMPTS, "group": GROUP, "max_tokens": 12}
    usual = settings(base, dataset, accumulation=1, batch_size=16)
    usual |= {"objective": "grpo", "rewards": (EARLY,), "learning_rate": 0.03}
    how = Rollouts(sampler="transformers", **{**rollouts, **changes.pop("rollouts", {})})
    return PolicyJob(**{**usual, **changes}, rollouts=how)


def _rollouts(run: RunFolder) -> list[list[Rollout]]:
    return NewBatches(run.rollouts).read()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_reward_rises(straight: Run) -> None:
    rewards = straight.values("reward")
    assert len(rewards) == BATCHES
    assert _mean(rewards[-4:]) > 1.3 * _mean(rewards[:4])
    assert straight.values("kl")[-1] > 0.05 > straight.values("kl")[0]


def test_every_rollout_is_kept_with_what_it_earned(straight: Run) -> None:
    batches = _rollouts(straight.files)
    assert [batch[0].batch for batch in batches] == list(range(BATCHES))
    for batch in batches:
        used = batch[: PROMPTS * GROUP]
        assert {one.policy for one in batch} == {f"policy-{batch[0].batch}"}
        for group in (used[at : at + GROUP] for at in range(0, len(used), GROUP)):
            assert len({one.prompt_id for one in group}) == 1
            assert _mean([one.advantage or 0.0 for one in group]) == pytest.approx(0.0, abs=1e-6)
            best = max(group, key=lambda one: one.reward or 0.0)
            assert best.advantage == max(one.advantage or 0.0 for one in group)


def test_a_killed_run_ends_with_the_same_adapter(
    straight: Run, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    result = killed_in_training(_job(tiny, dataset), tmp_path / "killed")
    assert result.adapter_sha256 == straight.result.adapter_sha256
    assert _rollouts(RunFolder(tmp_path / "killed"))[-1] == _rollouts(straight.files)[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "rloo"},
        {"loss": ("gspo",), "kl": 0.1, "rollouts": {"updates": 2}},
        {"loss": ("dr_grpo",), "scale": "none", "leave_out_cut": True},
    ],
    ids=["rloo", "gspo", "dr_grpo"],
)
def test_other_ways_to_learn(
    changes: dict[str, Any], tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    rollouts = {"batches": 2, **changes.pop("rollouts", {})}
    run = Run(_job(tiny, dataset, **changes, rollouts=rollouts), tmp_path / "run")
    assert run.result.steps == 2 * rollouts.get("updates", 1)
    assert len(run.values("reward")) == 2


def test_a_hack_by_length_alone_pauses_the_run(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    long = {"batches": 40, "max_tokens": 24}
    watching = Guards(kl=None, entropy=None)
    job = _job(
        tiny,
        dataset,
        rewards=(LONG,),
        watched=(EARLY,),
        rollouts=long,
        learning_rate=0.05,
        guards=watching,
    )
    with pytest.raises(GuardTripped, match="watched score") as paused:
        Run(job, tmp_path / "run")
    assert "preceptor rollouts" in paused.value.hint
    reached = len(_rollouts(RunFolder(tmp_path / "run")))
    assert reached < 40
    # Switched off by somebody who has looked, the same run goes on.
    off = watching.model_copy(update={"length": None, "watch": None, "repetition": None})
    calm = job.model_copy(update={"guards": off})
    assert asyncio.run(train(calm, tmp_path / "run", _deaf, Silent())).steps == 40


async def _deaf(_: list[Metric]) -> None:
    return
