"""The fused head of a CPU answers the same when it skips what has no label."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from pipelines.training.labelled import score_labelled_only
from tests.steps import with_drawn_adapter

FIELDS = ("log_probs", "entropy", "is_top1", "label_mask")


@pytest.fixture
def model(tiny: Path) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    return with_drawn_adapter(base)


def _asked(labelled: int) -> dict[str, Any]:
    """Two rows of twelve tokens, the first padded on the left, with labels at their ends."""
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    labels = ids.masked_fill(torch.arange(12) < 12 - labelled, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("labelled", [0, 1, 5, 11])
def test_it_answers_what_it_did_with_the_same_gradient(model: Any, labelled: int) -> None:
    found = []
    for _ in range(2):
        model.zero_grad()
        said = model(**_asked(labelled), fused_lm_head=True)
        (said.log_probs.exp().sum() + said.entropy.sum()).backward()
        gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
        found.append((said, [torch.zeros(1) if one is None else one.clone() for one in gradients]))
        score_labelled_only(model.get_base_model())
    (before, moved), (after, moved_after) = found
    for field in FIELDS:
        assert torch.allclose(after[field].float(), before[field].float(), atol=1e-5), field
    assert torch.allclose(after.loss, before.loss, atol=1e-5)
    for one, other in zip(moved, moved_after, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_head_works_on_labelled_positions_alone(model: Any) -> None:
    score_labelled_only(model.get_base_model())
    head = model.get_output_embeddings().weight.numel()
    with FlopCounterMode(display=False) as five, torch.no_grad():
        model(**_asked(5), fused_lm_head=True)
    with FlopCounterMode(display=False) as two, torch.no_grad():
        model(**_asked(2), fused_lm_head=True)
    rows = 2 * (5 - 2)
    assert five.get_total_flops() - two.get_total_flops() == 2 * rows * head


def test_without_labels_it_is_the_model_as_it_was(model: Any) -> None:
    asked = _asked(5)
    plain = model(input_ids=asked["input_ids"]).logits
    score_labelled_only(model.get_base_model())
    assert torch.equal(model(input_ids=asked["input_ids"]).logits, plain)
    generated = model.generate(input_ids=asked["input_ids"], max_new_tokens=3, do_sample=False)
    assert generated.shape == (2, 15)
