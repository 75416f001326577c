"""PPO as a child process on the tiny model: it learns, is kept, and goes on where it was killed."""

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import mannwhitneyu

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PpoJob, RunFolder, read_job
from pipelines.training.kept import NewBatches
from tests.runs import Run, exercises, killed_in_training, settings

pytestmark = pytest.mark.usefixtures("one_thread")

EARLY = RewardTerm(name="early", verifier="tests.rules:early_letters")
BATCHES, PROMPTS, GROUP, EPOCHS = 16, 4, 8, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercises(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "straight")


def _job(base: Path, dataset: Path, **changes: Any) -> PpoJob:
    rollouts = {"batches": BATCHES, "prompts": PROMPTS, "group": GROUP, "max_tokens": 12}
    usual = settings(base, dataset, accumulation=1, batch_size=16, save_steps=2 * EPOCHS)
    usual |= {"objective": "ppo", "ppo_epochs": EPOCHS, "learning_rate": 0.02}
    usual |= {"missing_end_penalty": 0.0, "kl_coefficient": 0.002}
    how = Rollouts(sampler="transformers", **{**rollouts, **changes.pop("rollouts", {})})
    return PpoJob(**{**usual, **changes}, rewards=(EARLY,), rollouts=how)


def _learned(run: Run) -> bool:
    """Whether the answers of the last batches earned more than those of the first."""
    batches = NewBatches(run.files.rollouts).read()
    first, last = (
        [one.reward for batch in some for one in batch] for some in (batches[:4], batches[-4:])
    )
    return bool(mannwhitneyu(last, first, alternative="greater").pvalue < 0.01)


def test_the_score_rises(straight: Run) -> None:
    scores = straight.values("score")
    assert len(scores) == BATCHES
    assert straight.result.steps == BATCHES * EPOCHS
    assert _learned(straight)
    assert straight.values("kl")[0] == 0.0
    assert straight.values("ratio")[::EPOCHS] == [1.0] * BATCHES


def test_every_answer_is_kept_and_none_is_compared_with_its_group(straight: Run) -> None:
    batches = NewBatches(straight.files.rollouts).read()
    assert [len(batch) for batch in batches] == [PROMPTS * GROUP] * BATCHES
    assert {one.fate for batch in batches for one in batch} == {"used"}
    assert {one.advantage for batch in batches for one in batch} == {None}


def test_a_killed_run_ends_with_the_same_adapter(
    straight: Run, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    result = killed_in_training(_job(tiny, dataset), tmp_path / "killed")
    assert result.adapter_sha256 == straight.result.adapter_sha256
    last = NewBatches(RunFolder(tmp_path / "killed").rollouts).read()[-1]
    assert last == NewBatches(straight.files.rollouts).read()[-1]


def test_from_a_merged_copy_it_learns_as_well(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    """And exactly so after a kill: rounding draws its numbers by the batch."""
    how = {"served_as": "merged"}
    job = _job(tiny, dataset, rollouts=how)
    merged = Run(job, tmp_path / "straight")
    assert _learned(merged)
    assert merged.values("ratio")[::EPOCHS] == [1.0] * BATCHES
    # The copy is another arithmetic than the policy, if not by much, and each token says so.
    gaps = merged.values("engine_gap")
    assert all(0 < gap < 0.1 for gap in gaps)
    batches = NewBatches(merged.files.rollouts).read()
    assert all(len(one.logprobs) == len(one.tokens) for batch in batches for one in batch)
    result = killed_in_training(job, tmp_path / "killed")
    assert result.adapter_sha256 == merged.result.adapter_sha256


def test_the_student_is_the_policy_alone(straight: Run, tiny: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    student = PeftModel.from_pretrained(base, str(straight.files.adapter))
    assert [*student.peft_config] == ["default"]
    assert not [path for path in straight.files.adapter.iterdir() if path.is_dir()]
    moved = [one for name, one in student.named_parameters() if "lora_B" in name]
    assert any(one.abs().sum() > 0 for one in moved)


def test_a_job_is_read_as_what_it_was_written(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    job = _job(tiny, dataset)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    read = read_job(tmp_path / "job.json")
    assert type(read) is PpoJob
    assert read.same_as(job)


def test_one_answer_a_prompt_will_do(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    small = {"batches": 2, "prompts": 16, "group": 1}
    run = Run(_job(tiny, dataset, rollouts=small), tmp_path / "run")
    assert run.result.steps == 2 * EPOCHS
