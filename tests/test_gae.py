"""Advantages of tokens, against tables that were worked out by hand."""

import pytest
import torch

from pipelines.training import clipped, gae
from pipelines.training.kl_control import KlControl

# Two answers: one of three tokens, one of two and a column of padding.
SPOKEN = torch.tensor([[True, True, True], [True, True, False]])
VALUES = torch.tensor([[0.5, 0.6, 0.7], [0.2, 0.4, 9.0]])
REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 9.0]])
# d = r + 0.9 V' - V, A = d + 0.45 A':
# 0.3; 0.9 x 0.7 - 0.6 = 0.03; 0.9 x 0.6 - 0.5 = 0.04, and 0.03 + 0.45 x 0.3; 0.04 + 0.45 x 0.165
# -0.4; 0.1 + 0.9 x 0.4 - 0.2 = 0.26, and 0.26 - 0.45 x 0.4
TABLE = torch.tensor([[0.11425, 0.165, 0.3], [0.08, -0.4, 0.0]])


def test_advantages_are_those_of_the_table() -> None:
    found = gae.advantages(REWARDS, VALUES, SPOKEN, discount=0.9, decay=0.5)
    assert torch.allclose(found, TABLE, atol=1e-6)


def test_decay_0_trusts_the_critic_and_decay_1_the_rewards() -> None:
    surprises = gae.advantages(REWARDS, VALUES, SPOKEN, discount=1.0, decay=0.0)
    assert surprises[0].tolist() == pytest.approx([0.1, 0.1, 0.3])
    whole = gae.advantages(REWARDS, VALUES, SPOKEN, discount=1.0, decay=1.0)
    assert (whole + VALUES)[0].tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert (whole + VALUES)[1, :2].tolist() == pytest.approx([0.1, 0.0], abs=1e-6)


def test_padding_changes_nothing() -> None:
    other = VALUES.clone(), REWARDS.clone()
    for one in other:
        one[~SPOKEN] = -77.0
    found = [gae.advantages(r, v, SPOKEN, 0.9, 0.5) for v, r in ((VALUES, REWARDS), other)]
    assert torch.equal(*found)


def test_the_score_is_earned_at_the_last_token_and_the_divergence_is_paid_at_each() -> None:
    divergence = torch.tensor([[0.1, 0.2, -0.1], [1.0, 0.5, 5.0]])
    rewards = gae.token_rewards(torch.tensor([1.0, 2.0]), divergence, SPOKEN, kl=0.5)
    wanted = torch.tensor([[-0.05, -0.1, 1.05], [-0.5, 1.75, 0.0]])
    assert torch.allclose(rewards, wanted)


def test_an_answer_that_is_not_learned_from_earns_nothing() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    rewards = gae.token_rewards(torch.tensor([5.0]), torch.ones(1, 3), nothing, kl=0.5)
    assert not rewards.any()


def test_whitening_sees_only_what_was_said() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 1000.0]])
    said = gae.whitened(values, SPOKEN)[SPOKEN]
    assert said.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert said.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    kept = gae.whitened(values, SPOKEN, centred=False)
    assert kept[SPOKEN].mean().item() == pytest.approx(3.0)
    assert kept[~SPOKEN].tolist() == [0.0]


def test_explained_variance() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, -50.0]])
    constant = torch.full_like(returns, 2.0)
    half = returns - 0.5 * (returns - 3.0)
    for values, wanted in ((returns, 1.0), (constant, 0.0), (half, 0.75)):
        found = gae.explained_variance(values, returns, SPOKEN)
        assert found.item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "cut"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.4, True),
        (0.5, 2.0, -1.0, False),
        (0.5, -2.0, 1.6, True),
        (1.5, -2.0, 3.0, False),
    ],
)
def test_a_ratio_counts_within_its_bounds(
    ratio: float, advantage: float, loss: float, cut: bool
) -> None:
    new = torch.tensor([ratio]).log().requires_grad_()
    found = clipped.policy(new, torch.zeros(1), torch.tensor([advantage]), 0.2, 0.2)
    assert found.loss.item() == pytest.approx(loss)
    assert found.clipped.item() == cut
    torch.autograd.backward(found.loss.sum())
    assert new.grad is not None
    assert bool(new.grad.item()) != cut


def test_each_side_has_a_bound_of_its_own() -> None:
    new, old = torch.tensor([1.5, 0.5]).log(), torch.zeros(2)
    found = clipped.policy(new, old, torch.tensor([1.0, -1.0]), 0.1, 0.3)
    assert found.loss.tolist() == pytest.approx([-1.3, 0.9])


def test_the_critic_is_held_near_what_it_said() -> None:
    new, old, returns = torch.tensor([0.9, 0.9, 0.1]), torch.zeros(3), torch.tensor([1.0, 0.0, 1.0])
    found = clipped.value(new, old, returns, clip=0.2)
    # Nearer than it may come, gone the wrong way, and within the bound.
    assert found.loss.tolist() == pytest.approx([0.5 * 0.8**2, 0.5 * 0.9**2, 0.5 * 0.9**2])
    assert found.clipped.tolist() == [True, False, False]


def test_a_coefficient_follows_its_target() -> None:
    control = KlControl(coefficient=0.1, target=2.0)
    control.saw(2.2)
    assert control.coefficient == pytest.approx(0.1 * 1.01)
    control.saw(200.0)
    assert control.coefficient == pytest.approx(0.1 * 1.01 * 1.02)
    control.saw(-200.0)
    assert control.coefficient == pytest.approx(0.1 * 1.01 * 1.02 * 0.98)
    fixed = KlControl(coefficient=0.1)
    fixed.saw(200.0)
    assert fixed.coefficient == 0.1
