"""Prompts that are computed once give the same answers and the same gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from pipelines.training.shared_prompts import prompts_once
from tests.steps import with_drawn_adapter

PROMPT, ANSWER = 8, 5


@pytest.fixture
def model(tiny: Path) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    return with_drawn_adapter(base)


def _batch(groups: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Rows whose prompts are these, the first of them padded on the left; answers on the right."""
    random = torch.Generator().manual_seed(1)
    prompts = torch.randint(5, 60, (max(groups) + 1, PROMPT), generator=random)
    answers = torch.randint(5, 60, (len(groups), ANSWER), generator=random)
    ids = torch.cat([prompts[list(groups)], answers], dim=1)
    mask = torch.ones_like(ids)
    mask[[group == 0 for group in groups], :3] = 0
    mask[1, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _backbone(model: Any) -> Any:
    return model.get_base_model().base_model


@pytest.mark.parametrize("groups", [(0, 0, 0, 0), (1, 0, 1, 2, 0), (0, 1, 2)])
def test_it_answers_what_it_did_with_the_same_gradient(model: Any, groups: tuple[int, ...]) -> None:
    batch = _batch(groups)
    spoken = batch["attention_mask"].clone()
    spoken[:, : PROMPT - 1] = 0
    found = []
    for width in (0, PROMPT):
        model.zero_grad()
        if width:
            with prompts_once(_backbone(model), width):
                hidden = _backbone(model)(**batch).last_hidden_state
        else:
            hidden = _backbone(model)(**batch).last_hidden_state
        said = hidden * spoken[:, :, None]
        said.pow(3).sum().backward()
        gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
        found.append((said.detach(), gradients))
    (before, moved), (after, moved_after) = found
    assert torch.allclose(after, before, atol=1e-5)
    assert moved
    for one, other in zip(moved, moved_after, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_prompt_is_computed_once(model: Any) -> None:
    def flops(groups: tuple[int, ...], width: int) -> int:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad(), prompts_once(_backbone(model), width):
            _backbone(model)(**_batch(groups))
        return int(counter.get_total_flops())

    alone = flops((0, 1, 2, 3), PROMPT)
    together = flops((0, 0, 0, 0), PROMPT)
    assert together / alone == pytest.approx((PROMPT + 4 * ANSWER) / (4 * (PROMPT + ANSWER)), 0.1)


def test_afterwards_the_backbone_is_as_it_was(model: Any) -> None:
    backbone = _backbone(model)
    with prompts_once(backbone, PROMPT):
        assert "forward" in vars(backbone)
    assert "forward" not in vars(backbone)


def test_a_backbone_that_recomputes_its_layers_is_left_alone(model: Any) -> None:
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    with prompts_once(_backbone(model), PROMPT):
        assert "forward" not in vars(_backbone(model))
