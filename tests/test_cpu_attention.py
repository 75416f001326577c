"""Attention with a way back of its own: torch's answers, and its gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from pipelines.training.decoding import draw
from pipelines.training.on_cpu import attention
from tests.counted import counted

BATCH, HEADS, GROUPS, LENGTH, WIDTH = 2, 6, 2, 7, 8


def _mask() -> Tensor:
    """Causal; the first row is padded in front, where nothing may be seen at all."""
    seen = torch.ones(BATCH, 1, LENGTH, LENGTH).tril().bool()
    seen[0, :, :, :2] = False
    return seen


def _drawn() -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values, and the gradient of what comes of them."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(BATCH, heads, LENGTH, WIDTH) for heads in (HEADS, GROUPS, GROUPS, HEADS)]
    *asked, gradient = (torch.randn(*shape, generator=generator) for shape in shapes)
    return [one.requires_grad_() for one in asked], gradient


def _torchs_own() -> tuple[Tensor, list[Tensor]]:
    (q, k, v), gradient = _drawn()
    keys, values = (one.repeat_interleave(HEADS // GROUPS, 1) for one in (k, v))
    said = torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=_mask())
    return said, list(torch.autograd.grad(said, (q, k, v), gradient))


def _ours() -> tuple[Tensor, list[Tensor]]:
    asked, gradient = _drawn()
    q, k, v = asked
    said = attention.attended(q, k, v, _mask(), WIDTH**-0.5)
    return said, list(torch.autograd.grad(said, asked, gradient))


@pytest.mark.parametrize("most", [2**24, 3 * LENGTH * LENGTH, 1], ids=["all", "a group", "least"])
def test_the_gradients_are_torchs(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(attention, "_MOST_SCORES", most)
    (said, gradients), (wanted, theirs) = _ours(), _torchs_own()
    assert torch.equal(said, wanted)
    for mine, other in zip(gradients, theirs, strict=True):
        assert other.abs().max() > 0.1
        assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("padded", [True, False])
def test_one_query_sees_what_the_last_of_many_sees(padded: bool) -> None:
    (q, k, v), _ = _drawn()
    mask = _mask() if padded else None
    keys, values = (one.repeat_interleave(HEADS // GROUPS, 1) for one in (k, v))
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, keys, values, attn_mask=mask, is_causal=not padded
    )
    last = None if mask is None else mask[:, :, -1:]
    found = attention.of_next(q[:, :, -1:], k, v, last, WIDTH**-0.5)
    assert torch.allclose(found, wanted[:, :, -1:], atol=1e-6)


def test_answers_are_written_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, attention, "of_next")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    prompts = [[5, 6, 7, 8], [9, 10]]
    wanted = draw(model, prompts, 8, (), seed=1)
    assert not calls
    attention.quicken(model)
    found = draw(model, prompts, 8, (), seed=1)
    assert len(calls) == 7 * model.config.num_hidden_layers
    assert [one.tokens for one in found] == [one.tokens for one in wanted]


def _learned(base: Path, *, quick: bool) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if quick:
        attention.quicken(model)
        assert model.config._attn_implementation == attention.NAME
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    model(
        input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)
    ).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def test_a_model_learns_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, attention, "_back")
    wanted = _learned(tiny, quick=False)
    assert not calls
    found = _learned(tiny, quick=True)
    assert len(calls) == AutoConfig.from_pretrained(tiny).num_hidden_layers
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def test_elsewhere_a_model_stays_as_it_was(tiny: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, attn_implementation="eager")
    attention.quicken(model)
    assert model.config._attn_implementation == "eager"


def test_what_a_model_says_is_bit_by_bit_what_it_said(tiny: Path) -> None:
    """Whether it learns or not: the first ratio of a batch is exactly 1."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    wanted = model(input_ids=ids, attention_mask=mask).logits
    attention.quicken(model)
    learning = model(input_ids=ids, attention_mask=mask).logits
    with torch.no_grad():
        looking = model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(learning, wanted)
    assert torch.equal(looking, wanted)
