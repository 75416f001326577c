"""Rounding to bf16 at random: right on average, and neighbours only."""

import pytest
import torch

from pipelines.training.rounding import merge, stochastic


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_bf16_holds_stays_as_it_is() -> None:
    exact = torch.randn(1000, generator=_generator()).bfloat16()
    assert torch.equal(stochastic(exact.float(), _generator(1)), exact)


def test_it_is_right_on_average_and_never_beyond_the_neighbours() -> None:
    exact = torch.tensor([1.001, -0.3333, 1e-5, 123.456]).repeat(20_000, 1)
    found = stochastic(exact, _generator()).float()
    # 1 / 256 of the value lies between neighbours; the mean of so many strays by far less.
    assert torch.allclose(found.mean(0), exact[0], rtol=1e-4)
    assert all(len(column.unique()) == 2 for column in found.T)
    nearest = exact[0].bfloat16().float()
    assert (nearest[:, None] == found.T).any(1).all()


@pytest.mark.parametrize("size", [1e-5, 1e-4])
def test_an_update_too_small_for_bf16_survives(size: float) -> None:
    base = (0.05 * torch.randn(500, 500, generator=_generator())).bfloat16()
    update = size * torch.randn(500, 500, generator=_generator(1)).sign()
    found = merge(base, update, _generator(2))
    assert found.kept / found.meant == pytest.approx(1.0, abs=0.1)
    nearest = (base.float() + update).bfloat16().float() - base.float()
    assert torch.sum(nearest * update).item() / found.meant < 0.6


def test_the_same_seed_rounds_the_same() -> None:
    base, update = torch.ones(100).bfloat16(), torch.full((100,), 1e-3)
    one, other, third = (merge(base, update, _generator(seed)).weights for seed in (5, 5, 6))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
