"""A reward model at work on a policy's base: right scores, and nothing of the policy disturbed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.training.reward_notes import Norm, Origin
from teachers.errors import TrainingError
from tests.runs import reward_model
from tests.tiny import tiny_model

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from pipelines.training.scoring import Scorer

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [([5, 6, 7], [8, 9, 2]), ([5], [7, 7, 7, 7, 7, 11, 12, 2]), ([9, 8, 7, 6, 5, 4], [3])]


@pytest.fixture(scope="module")
def reward(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reward model whose every weight says something."""
    return reward_model(tiny, tmp_path_factory.mktemp("reward"))


@pytest.fixture
def policy(tiny: Path) -> "PeftModel":
    """A policy in float32 in training, beside a value that is frozen."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.5)
    model: PeftModel = get_peft_model(base, config, adapter_name="policy")
    model.add_adapter("value", config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.train()
    return model


def _mounted(policy: "PeftModel", reward: Path) -> "Scorer":
    from pipelines.training.scoring import Scorer

    return Scorer.on(policy, reward)


def _theirs(
    base: Path, reward: Path, rows: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[float]:
    """What transformers and PEFT make of it by themselves, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, dtype=torch.float32, pad_token_id=0
    )
    model = PeftModel.from_pretrained(loaded, reward).eval()
    with torch.no_grad():
        return [model(torch.tensor([[*one, *two]])).logits.item() for one, two in rows]


def test_it_equals_transformers_own(tiny: Path, policy: "PeftModel", reward: Path) -> None:
    theirs = _theirs(tiny, reward, ROWS)
    assert max(theirs) - min(theirs) > 0.1
    assert _mounted(policy, reward).scores(ROWS) == pytest.approx(theirs, abs=1e-5)


def test_padding_does_not_count(
    policy: "PeftModel", reward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.training import scoring

    scorer = _mounted(policy, reward)
    alone = [scorer.scores([row])[0] for row in ROWS]
    assert scorer.scores(ROWS) == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 14)
    assert scorer.scores(ROWS) == pytest.approx(alone, abs=1e-5)
    assert scorer.scores([]) == []


def test_the_policy_is_as_it_was(policy: "PeftModel", reward: Path) -> None:
    import torch

    def state() -> tuple[object, ...]:
        learning = {name for name, one in policy.named_parameters() if one.requires_grad}
        training = {name for name, one in policy.named_modules() if one.training}
        return policy.active_adapter, policy.active_adapters, learning, training

    # One layer of it is not in training, as when dropout was switched off by hand.
    policy.get_submodule("base_model.model.lm_head").eval()
    ids = torch.tensor([[5, 6, 7]])
    before, said = state(), _said(policy, ids)
    scorer = _mounted(policy, reward)
    mounted = state()
    assert mounted[:3] == before[:3]
    assert "reward" not in str(mounted[2])
    scorer.scores(ROWS)
    assert state() == mounted
    assert torch.equal(_said(policy, ids), said)
    policy(input_ids=ids, labels=ids).loss.backward()
    grown = {name for name, one in policy.named_parameters() if one.grad is not None}
    assert grown
    assert all(".policy." in name for name in grown)


def _said(policy: "PeftModel", ids: "Tensor") -> "Tensor":
    import torch

    training = [one for one in policy.modules() if one.training]
    policy.eval()
    with torch.no_grad():
        logits: Tensor = policy(input_ids=ids).logits
    for one in training:
        one.training = True
    return logits


def test_alone_it_scores_as_it_was_trained(tiny: Path, reward: Path) -> None:
    from pipelines.training.scoring import Scorer

    scores = Scorer.alone(tiny, reward, "cpu").scores(ROWS)
    # On a base in bf16, so with its three digits.
    assert scores == pytest.approx(_theirs(tiny, reward, ROWS), abs=0.1)


def test_scores_are_normalised_once_that_was_measured(
    policy: "PeftModel", reward: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "reward"
    shutil.copytree(reward, folder)
    Norm(mean=0.5, deviation=2.0, samples=9).save(folder)
    scorer = _mounted(policy, folder)
    raw = scorer.raw(ROWS)
    assert scorer.scores(ROWS) == pytest.approx([(one - 0.5) / 2 for one in raw])


def test_another_base_is_refused(reward: Path, tmp_path: Path) -> None:
    from pipelines.training.scoring import Scorer

    other = tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match="trained on another base"):
        Scorer.alone(other, reward, "cpu")


def test_other_precision_is_refused(policy: "PeftModel", reward: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "reward"
    shutil.copytree(reward, folder)
    Origin(base=Origin.read(reward).base, adapter="qlora").save(folder)
    with pytest.raises(TrainingError, match="trained as qlora"):
        _mounted(policy, folder)


def test_what_is_no_reward_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    from pipelines.training.scoring import Scorer

    (tmp_path / "origin.json").write_text(json.dumps({"base": "x"}))
    with pytest.raises(TrainingError, match="no reward model of ours"):
        Scorer.alone(tiny, tmp_path, "cpu")
