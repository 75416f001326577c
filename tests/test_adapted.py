"""A layer and its adapter in one go: what PEFT says, and the same gradients."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.counted import counted

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]]


def _model(base: Path, dtype: "torch.dtype", dropout: float = 0.0) -> "PeftModel":
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=12, target_modules="all-linear", lora_dropout=dropout
    )
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model: PeftModel = get_peft_model(plain, config, adapter_name="policy")
    model.add_adapter("value", config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.nn.init.normal_(weight.data.float(), std=0.1)
    return model.train()


def _learned(model: "PeftModel") -> "tuple[Tensor, dict[str, Tensor]]":
    """What it says, and the gradients of a loss."""
    import torch

    ids = torch.tensor(IDS)
    said = model(input_ids=ids, labels=ids)
    said.loss.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return said.logits.detach(), found


def test_in_float32_it_is_pefts_own(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pipelines.training.on_cpu import adapted

    calls = counted(monkeypatch, cast("Any", adapted)._Adapted, "apply")
    theirs, ours = _model(tiny, torch.float32), _model(tiny, torch.float32)
    adapted.quicken(ours)
    wanted, gradients = _learned(theirs)
    assert not calls
    said, found = _learned(ours)
    assert len(calls) == 2 * 7
    assert torch.allclose(said, wanted, atol=1e-5)
    assert found.keys() == gradients.keys()
    assert len(found) == 2 * 7 * 2
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 1e-5, name
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def test_over_bf16_the_adapter_learns_in_float32(tiny: Path) -> None:
    """As near to the truth as PEFT is, which is what bf16 allows."""
    import torch

    from pipelines.training.on_cpu.adapted import quicken

    truth = _learned(_model(tiny, torch.float32))[1]
    theirs, ours = _model(tiny, torch.bfloat16), _model(tiny, torch.bfloat16)
    quicken(ours)
    wanted, found = _learned(theirs)[1], _learned(ours)[1]
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32, name

    def apart(some: "dict[str, Tensor]") -> float:
        return float(sum((some[name] - one).norm() / one.norm() for name, one in truth.items()))

    assert 0 < apart(found) < 1.3 * apart(wanted)


def test_it_goes_with_whatever_adapter_is_active(tiny: Path) -> None:
    import torch

    from pipelines.training.on_cpu.adapted import quicken

    theirs, ours = _model(tiny, torch.float32), _model(tiny, torch.float32)
    quicken(ours)
    ids = torch.tensor(IDS)
    said = []
    for name in ("policy", "value"):
        for model in (theirs, ours):
            model.set_adapter(name)
        said.append(ours(input_ids=ids).logits)
        assert torch.allclose(said[-1], theirs(input_ids=ids).logits, atol=1e-5)
    policy, value = said
    assert not torch.allclose(policy, value, atol=1e-2)
    with theirs.disable_adapter(), ours.disable_adapter():
        alone = ours(input_ids=ids).logits
        assert torch.equal(alone, theirs(input_ids=ids).logits)
    assert not torch.allclose(alone, policy, atol=1e-2)


def test_with_dropout_it_leaves_the_way_to_peft(tiny: Path) -> None:
    import torch

    from pipelines.training.on_cpu.adapted import quicken

    theirs, ours = (_model(tiny, torch.float32, dropout=0.5) for _ in range(2))
    quicken(ours)
    ids = torch.tensor(IDS)
    for model in (theirs, ours):
        torch.manual_seed(2)
        model.said = model(input_ids=ids).logits
    assert torch.equal(ours.said, theirs.said)
