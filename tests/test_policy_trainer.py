"""The policy's loss: tokens that another engine sampled count by the ratio of the probabilities."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PolicyJob
from tests.runs import settings

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # What TRL and torch say while they are imported and made is not about us.
    pytest.mark.filterwarnings("ignore"),
]

TRUNCATE, CAP, ANSWERS = 2.0, 10, 4


@pytest.fixture(scope="module")
def trainer(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset

    from pipelines.training import models, policy_trainer
    from pipelines.training.callbacks import Live
    from pipelines.training.journal import Journal

    place = tmp_path_factory.mktemp("trainer")
    usual = settings(tiny, place / "none", accumulation=1, batch_size=ANSWERS)
    job = PolicyJob(
        **usual | {"objective": "grpo", "loss": ("dr_grpo",)},
        rewards=(RewardTerm(name="right", verifier="exact"),),
        rollouts=Rollouts(prompts=1, group=ANSWERS, max_tokens=CAP, truncate=TRUNCATE),
    )
    made = policy_trainer.PolicyTrainer(
        job,
        Live(Journal(place / "journal.jsonl")),
        args=policy_trainer.settings(job, place),
        train_dataset=Dataset.from_dict({"prompt": [""]}),
        processing_class=models.tokenizer_of(tiny),
        model=models.base_model(job),
        peft_config=models.adapter_config(job),
        reward_funcs=[lambda prompts, **_: [0.0] * len(prompts)],
        rollout_func=lambda prompts, trainer: {},
    )
    made.current_gradient_accumulation_steps = 1
    return made


def _batch(trainer: Any, gap: float) -> dict[str, Any]:
    """Answers that the sampling engine found less likely by a factor of exp(gap)."""
    torch.manual_seed(0)
    ids = torch.randint(3, 200, (ANSWERS, 6 + CAP))
    mask = torch.ones(ANSWERS, CAP, dtype=torch.long)
    mask[0, 4:] = 0
    batch = {
        "prompt_ids": ids[:, :6],
        "prompt_mask": torch.ones(ANSWERS, 6, dtype=torch.long),
        "completion_ids": ids[:, 6:],
        "completion_mask": mask,
        "advantages": torch.ones(ANSWERS),
        "num_items_in_batch": mask.sum(),
    }
    with torch.no_grad():
        labels = ids.clone()
        labels[:, :6] = -100
        said = trainer.model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs
    return {**batch, "sampling_per_token_logps": said[:, -CAP:] - gap}


@pytest.mark.parametrize(
    ("gap", "ratio"), [(0.0, 1.0), (-0.5, 0.6065), (0.5, 1.6487), (3.0, TRUNCATE)]
)
def test_a_token_counts_by_its_ratio_and_never_more_than_the_limit(
    trainer: Any, gap: float, ratio: float
) -> None:
    batch = _batch(trainer, gap)
    loss = trainer.compute_loss(trainer.model, batch)
    # dr_grpo, before the policy moves: minus the sum of advantages times ratios, by a constant.
    tokens = batch["completion_mask"].sum().item()
    assert loss.item() == pytest.approx(-ratio * tokens / (ANSWERS * CAP), rel=0.02)
    loss.backward()
    grown = [one.grad.abs().sum().item() for one in trainer.model.parameters() if one.requires_grad]
    assert sum(grown) > 0


def test_once_the_policy_has_moved_its_old_probabilities_count(trainer: Any) -> None:
    # TRL hands them over where a batch makes several updates.
    batch = _batch(trainer, 0.0)
    sampled = batch["sampling_per_token_logps"]
    batch["old_per_token_logps"] = sampled + 0.4
    tokens = batch["completion_mask"].sum().item()
    # The trainer's ratio is exp(-0.4), the engine's exp(0.4).
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(-tokens / (ANSWERS * CAP), rel=0.02)


def test_exact_answers_need_no_correction(trainer: Any) -> None:
    batch = _batch(trainer, 0.0)
    del batch["sampling_per_token_logps"]
    tokens = batch["completion_mask"].sum().item()
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(-tokens / (ANSWERS * CAP), rel=1e-4)


def test_the_batch_is_left_as_it_was(trainer: Any) -> None:
    batch = _batch(trainer, 0.5)
    trainer.compute_loss(trainer.model, batch)
    assert torch.equal(batch["advantages"], torch.ones(ANSWERS))
    assert "sampling_per_token_logps" in batch


def test_padding_that_all_rows_have_changes_nothing(trainer: Any) -> None:
    batch = _batch(trainer, 0.5)
    widths = {"prompt_ids": (3, 0), "prompt_mask": (3, 0)}
    widths |= dict.fromkeys(
        ("completion_ids", "completion_mask", "sampling_per_token_logps"), (0, 5)
    )
    wider = {
        name: torch.nn.functional.pad(values, widths[name]) if name in widths else values
        for name, values in batch.items()
    }
    seen: list[int] = []
    backbone = trainer.model.get_base_model().model
    handle = backbone.register_forward_hook(
        lambda _module, _inputs, said: seen.append(said.last_hidden_state.numel())
    )
    losses = [trainer.compute_loss(trainer.model, one).item() for one in (batch, wider)]
    handle.remove()
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert len(set(seen)) == 1, "the padding was computed with"
