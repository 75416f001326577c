"""Answers drawn token by token."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipelines.training.decoding import _first_above, draw

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
MOST = 12


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


def _ends(model: Any) -> set[int]:
    """Tokens that come up now and then."""
    drawn = draw(model, PROMPTS, MOST, (), seed=1)
    return {drawn[0].tokens[2], drawn[2].tokens[7]}


def test_what_it_says_of_a_token_is_what_the_model_says(model: Any) -> None:
    """Padding, and answers that have left, change nothing."""
    drawn = draw(model, PROMPTS, MOST, _ends(model), seed=1)
    assert len({len(one.tokens) for one in drawn}) > 1
    for prompt, one in zip(PROMPTS, drawn, strict=True):
        ids = torch.tensor([[*prompt, *one.tokens]])
        logs = model(input_ids=ids).logits[0].log_softmax(-1)
        said = [logs[at - 1, ids[0, at]].item() for at in range(len(prompt), ids.size(1))]
        assert one.logprobs == pytest.approx(said, abs=1e-4)


def test_an_answer_ends_at_its_end_or_is_cut(model: Any) -> None:
    ends = _ends(model)
    for one in draw(model, PROMPTS, MOST, ends, seed=1):
        assert not ends.intersection(one.tokens[:-1])
        assert one.tokens[-1] in ends or len(one.tokens) == MOST
        assert len(one.logprobs) == len(one.tokens)


def test_a_seed_draws_the_same_and_touches_no_other(model: Any) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    first = draw(model, PROMPTS, MOST, (), seed=1)
    assert torch.equal(torch.rand(3), wanted)
    assert draw(model, PROMPTS, MOST, (), seed=1) == first
    assert draw(model, PROMPTS, MOST, (), seed=2) != first


def test_tokens_come_as_often_as_the_model_says(model: Any) -> None:
    n = 4000
    drawn = draw(model, [PROMPTS[0]] * n, 1, (), seed=3)
    chances = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    found = torch.bincount(torch.tensor([one.tokens[0] for one in drawn]), minlength=len(chances))
    # Pearson's: about as large as there are tokens, 99.99 % below that plus four deviations.
    tokens = len(chances) - 1
    chi = ((found - n * chances) ** 2 / (n * chances)).sum().item()
    assert abs(chi - tokens) < 4 * (2 * tokens) ** 0.5


@pytest.mark.parametrize(
    ("at", "place"), [(-1e-9, 1), (0.0, 1), (0.2, 1), (0.25, 3), (0.99, 3), (1.0, 3), (1.1, 3)]
)
def test_nothing_is_drawn_that_has_no_chance(at: float, place: int) -> None:
    """Where a block begins and ends is rounded."""
    ends = torch.tensor([0.0, 0.25, 0.25, 1.0, 1.0])[None]
    assert _first_above(ends, torch.tensor([[at]])).item() == place


def test_a_model_that_says_no_number_is_heard_out(model: Any) -> None:
    """The trainer says then what is wrong."""
    broken = copy.deepcopy(model)
    broken.lm_head.weight.data.fill_(torch.nan)
    [one] = draw(broken, [PROMPTS[0]], 2, (), seed=1)
    assert all(math.isnan(said) for said in one.logprobs)
    assert all(0 <= token < model.config.vocab_size for token in one.tokens)
