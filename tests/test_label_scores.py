"""Log-probabilities of labels over the whole vocabulary at once."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from trl.trainer import utils
from trl.trainer.utils import add_fused_lm_head

from pipelines.training.on_cpu import label_scores
from pipelines.training.on_cpu.label_scores import scored
from tests.counted import counted

KERNEL = "_ChunkedLogProbFunction"
TOKENS, WIDTH, VOCABULARY = 11, 16, 60


def _asked(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype)
    return hidden, weight, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


def _plain(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logs = (hidden @ weight.T).double().log_softmax(-1)
    return logs.gather(1, labels[:, None])[:, 0], -(logs.exp() * logs).sum(-1)


@pytest.mark.parametrize(("of_said", "of_spread"), [*product([0.0, 1.0], repeat=2)])
@pytest.mark.parametrize(("most", "some"), [(256, 64), (4, 4), (8, 3)])
def test_values_and_gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, most: int, some: int, of_said: float, of_spread: float
) -> None:
    monkeypatch.setattr(label_scores, "PRODUCT", most)
    monkeypatch.setattr(label_scores, "TOKENS", some)
    hidden, weight, labels = _asked()
    weights = torch.linspace(-1, 2, TOKENS)
    found = []
    for said, spread in (
        scored(hidden, weight, labels, entropies=True),
        _plain(hidden, weight, labels),
    ):
        assert spread is not None
        loss = (weights * (of_said * said + of_spread * spread)).sum()
        found.append((said, spread, *torch.autograd.grad(loss, hidden)))
    for mine, wanted in zip(*found, strict=True):
        assert torch.allclose(mine.double(), wanted.double(), atol=1e-5)
    assert bool(found[1][2].any()) == bool(of_said or of_spread)


def test_a_sure_token_moves_little_and_not_by_rounding() -> None:
    """bf16 has no number between 1 - 0.002 and 1, and 1 - p is not to be told from p there."""
    weight = torch.eye(4, dtype=torch.bfloat16)
    hidden = torch.tensor([[9.0, 0, 0, 0]], dtype=torch.bfloat16, requires_grad=True)
    said, _ = scored(hidden, weight, torch.tensor([0]), entropies=False)
    [gradient] = torch.autograd.grad(said.sum(), hidden)
    missing = -torch.expm1(said).item()
    assert 3e-4 < missing < 4e-4
    assert gradient[0, 0].item() == pytest.approx(missing, rel=0.01)
    assert gradient[0, 1].item() == pytest.approx(-missing / 3, rel=0.01)


def test_trls_head_goes_this_way(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, label_scores, "scored")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model.lm_head.requires_grad_(False)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    theirs = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert not calls
    with label_scores.quick_head():
        ours = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert calls == ["scored"]
    for field in ("log_probs", "entropy", "loss"):
        assert torch.allclose(ours[field], theirs[field], atol=1e-5), field


def test_trl_is_left_as_it_was() -> None:
    theirs = getattr(utils, KERNEL)
    with label_scores.quick_head():
        assert getattr(utils, KERNEL) is not theirs
    assert getattr(utils, KERNEL) is theirs
