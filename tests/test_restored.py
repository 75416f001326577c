"""A training that goes on from a checkpoint has the adapter that was saved, or does not go on."""

import re
from pathlib import Path
from typing import Any

import pytest

from teachers.errors import TrainingError
from tests.steps import one_step

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny: Path) -> Any:
    return _adapted(tiny, "policy")


def _adapted(tiny: Path, name: str) -> Any:
    """The tiny model with an adapter that says something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny)
    config = LoraConfig(r=4, target_modules="all-linear")
    adapted = get_peft_model(base, config, adapter_name=name)
    one_step(adapted, 0.01)
    return adapted


@pytest.mark.parametrize("name", ["policy", "default"])
def test_what_was_saved_is_there(name: str, tiny: Path, tmp_path: Path) -> None:
    from pipelines.training.restored import check_restored

    model = _adapted(tiny, name)
    model.save_pretrained(tmp_path)
    check_restored(model, tmp_path)


def test_an_adapter_that_began_anew_is_caught(model: Any, tmp_path: Path) -> None:
    import torch

    from pipelines.training.restored import check_restored

    model.save_pretrained(tmp_path)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    lost = r"adapter policy was lost on resume: its norm is [\d.]+, and that of .* is [\d.]+"
    with pytest.raises(TrainingError, match=lost):
        check_restored(model, tmp_path)


def test_an_adapter_under_another_name_is_missed(model: Any, tmp_path: Path) -> None:
    from pipelines.training.restored import check_restored

    model.save_pretrained(tmp_path)
    (tmp_path / "policy").rename(tmp_path / "value")
    with pytest.raises(TrainingError, match="adapter value was lost on resume: its norm is 0,"):
        check_restored(model, tmp_path)


def test_a_checkpoint_without_an_adapter_is_refused(model: Any, tmp_path: Path) -> None:
    from pipelines.training.restored import check_restored

    with pytest.raises(TrainingError, match=re.escape(f"no adapter in {tmp_path}")):
        check_restored(model, tmp_path)
