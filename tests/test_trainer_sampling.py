"""The training process answers itself, from a merged copy of its policy."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.training import models
from pipelines.training.sampling import TrainerSampler
from teachers.client import Tokens
from tests.steps import with_drawn_adapter

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS, GROUP, MOST = [[5, 6, 7], [8, 9, 10, 11]], 2, 6


def _sampler(tiny: Path) -> tuple[Any, Any, TrainerSampler]:
    policy = with_drawn_adapter(models.loaded(tiny, "cpu"))
    copy = models.loaded(tiny, "cpu")
    return policy, copy, TrainerSampler(policy, models.tokenizer_of(tiny), MOST, copy)


def _answers(sampler: TrainerSampler, seed: int = 1) -> list[list[Tokens]]:
    async def ask() -> list[list[Tokens]]:
        return [answers async for _, answers in sampler.sample(PROMPTS, GROUP, seed)]

    return asyncio.run(ask())


def test_it_answers_from_the_policy_as_it_was_at_the_beginning(tiny: Path) -> None:
    policy, _, sampler = _sampler(tiny)
    handed = asyncio.run(sampler.begin(1))
    assert handed.name == "policy-1"
    assert 0.9 < handed.surviving_share < 1.1
    first = _answers(sampler)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_" in name:
                weight.mul_(-3)
    assert _answers(sampler) == first
    asyncio.run(sampler.begin(2))
    assert _answers(sampler) != first


def test_what_it_says_is_near_what_the_policy_says(tiny: Path) -> None:
    policy, _, sampler = _sampler(tiny)
    asyncio.run(sampler.begin(1))
    policy.eval()
    for prompt, group in zip(PROMPTS, _answers(sampler), strict=True):
        assert len(group) == GROUP
        for one in group:
            said = models.logprobs(policy, [*prompt, *one.ids])[len(prompt) - 1 :]
            assert one.logprobs == pytest.approx(said, abs=0.15)
            assert one.logprobs != pytest.approx(said, abs=1e-6)


def test_what_no_adapter_touches_is_in_memory_once(tiny: Path) -> None:
    policy, copy, sampler = _sampler(tiny)
    asyncio.run(sampler.begin(1))
    mine, its = (one.get_input_embeddings().weight for one in (policy, copy))
    assert its.data_ptr() == mine.data_ptr()
    assert copy.get_output_embeddings().weight.data_ptr() == mine.data_ptr()
