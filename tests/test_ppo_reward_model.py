"""PPO that is paid by a reward model: one more adapter on the base of policy and critic."""

from pathlib import Path
from typing import Any

import pytest

from judges.rewards import REWARD_MODEL, RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PpoJob, RunFolder
from pipelines.training.kept import NewBatches
from pipelines.training.reward_notes import Norm
from pipelines.training.rollout import Rollout
from pipelines.training.score_job import ScoreJob
from teachers.errors import TrainingError
from teachers.records import Message, Prompt
from tests.runs import Run, exercises, killed_in_training, reward_model, settings
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

TASTE = RewardTerm(name="taste", verifier=REWARD_MODEL, weight=2.0)
BATCHES, EPOCHS = 6, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercises(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reward(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoreJob:
    folder = reward_model(tiny, tmp_path_factory.mktemp("reward"))
    Norm(mean=0.1, deviation=0.5, samples=100).save(folder)
    return ScoreJob(base=tiny, adapter=folder, device="cpu")


@pytest.fixture(scope="module")
def straight(
    tiny: Path, dataset: Path, reward: ScoreJob, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset, reward), tmp_path_factory.mktemp("runs") / "straight")


def _job(base: Path, dataset: Path, reward: ScoreJob, **changes: Any) -> PpoJob:
    usual = settings(base, dataset, accumulation=1, batch_size=8, save_steps=2 * EPOCHS)
    usual |= {"objective": "ppo", "ppo_epochs": EPOCHS, "reward_model": reward, "rewards": (TASTE,)}
    how = Rollouts(sampler="transformers", batches=BATCHES, prompts=4, group=2, max_tokens=12)
    return PpoJob(**{**usual, **changes}, rollouts=how)


def test_it_pays_what_it_says_on_a_base_of_its_own(straight: Run, reward: ScoreJob) -> None:
    from pipelines.training.rater import Rater, Told

    rater, asked = Rater.alone(reward), _questions()
    rollouts = [one for batch in NewBatches(straight.files.rollouts).read() for one in batch]
    assert len({one.reward for one in rollouts}) > len(rollouts) / 2
    for one in rollouts[::5]:
        value = one.terms["taste"].value
        told = Told(asked[one.prompt_id], one.text, one.finish_reason)
        # The base is in bf16, and rows that are read together are padded otherwise.
        assert rater.rate([told]) == pytest.approx([value], abs=2e-2)
        assert one.reward == 2 * (value or 0.0)


def _questions() -> dict[str, list[Message]]:
    """What `exercises` asks, by the prompt's id."""
    texts = [f"Say {n}." for n in range(16)]
    return {
        Prompt(task="say", question=text, verifier="none", entry={}).id: [
            Message(role="user", content=text)
        ]
        for text in texts
    }


def test_a_checkpoint_holds_what_is_learned_and_not_the_reward_model(straight: Run) -> None:
    checkpoints = [*straight.files.checkpoints.iterdir()]
    assert checkpoints
    for checkpoint in checkpoints:
        held = {one.name for one in checkpoint.iterdir() if one.is_dir()}
        assert held == {"policy", "value"}


def test_a_killed_run_ends_with_the_same_adapter(
    straight: Run, tiny: Path, dataset: Path, reward: ScoreJob, tmp_path: Path
) -> None:
    result = killed_in_training(_job(tiny, dataset, reward), tmp_path / "killed")
    assert result.adapter_sha256 == straight.result.adapter_sha256
    last = NewBatches(RunFolder(tmp_path / "killed").rollouts).read()[-1]
    assert last == NewBatches(straight.files.rollouts).read()[-1]


def test_the_critic_begins_as_the_reward_model(tiny: Path, dataset: Path, reward: ScoreJob) -> None:
    """At the tangent of what its score is paid: 1 / (1 + exp(-score)), twice as the term counts."""
    import torch

    from pipelines.training.experience import Asked

    actors, scorer = _mounted(_job(tiny, dataset, reward))
    actors.foresee(scorer, TASTE.weight)
    prompt, tokens = (5, 6, 7), (8, 9, 10, 11)
    asked = Asked.of([_answer(prompt, tokens)], torch.device("cpu"))
    with actors.roles.acting("value"):
        values = actors.values(asked)[0].tolist()
    said = [(prompt, tokens[:at]) for at in range(len(tokens))]
    assert max(values) - min(values) > 0.05
    wanted = [2 * (0.5 + score / 4) for score in scorer.scores(said)]
    assert values == pytest.approx(wanted, abs=2e-2)


def test_a_reward_model_of_another_shape_is_no_critic(
    tiny: Path, dataset: Path, reward: ScoreJob
) -> None:
    for change in ({"rank": 2}, {"alpha": 16}, {"target_modules": ("q_proj", "v_proj")}):
        actors, scorer = _mounted(_job(tiny, dataset, reward, **change))
        with pytest.raises(TrainingError, match="another rank, alpha"):
            actors.foresee(scorer, 1.0)


def test_one_of_another_base_pays_from_there_and_is_no_critic(
    tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    other = tiny_model(tmp_path / "other", seed=7)
    folder = reward_model(other, tmp_path / "reward")
    job = ScoreJob(base=other, adapter=folder, device="cpu")
    run = Run(_job(tiny, dataset, job, save_steps=EPOCHS), tmp_path / "run")
    assert run.result.steps == BATCHES * EPOCHS
    with pytest.raises(TrainingError, match="was trained on another base than the policy's"):
        Run(_job(tiny, dataset, job, value_from="reward_model"), tmp_path / "refused")


def _mounted(job: PpoJob) -> tuple[Any, Any]:
    """Policy and critic, and the reward model beside them."""
    from pipelines.training.actor_critic import ActorCritic
    from pipelines.training.scoring import Scorer

    assert job.reward_model is not None
    actors = ActorCritic(job)
    return actors, Scorer.on(actors.model, job.reward_model.adapter)


def _answer(prompt: tuple[int, ...], tokens: tuple[int, ...]) -> Rollout:
    return Rollout(
        batch=0,
        draw=0,
        prompt_id="any",
        position=0,
        policy="any",
        prompt_tokens=prompt,
        tokens=tokens,
        logprobs=(),
        text="",
        finish_reason="stop",
        reward=0.0,
    )
