"""Advantages: what a group's rewards come to, with answers that nobody could decide about."""

import math
import statistics

import pytest

from pipelines.training.advantages import grpo, rloo, spread


def test_a_group_is_centred_and_scaled() -> None:
    (found,) = grpo([[1.0, 0.0, 0.0, 1.0]], "group")
    unit = statistics.stdev([1, 0, 0, 1]) + 1e-4
    assert found == pytest.approx([0.5 / unit, -0.5 / unit, -0.5 / unit, 0.5 / unit])


def test_without_scaling_hard_and_easy_groups_count_by_their_spread() -> None:
    easy, hard = grpo([[1.0, 1.0, 1.0, 0.0], [0.6, 0.5, 0.5, 0.4]], "none")
    assert easy == pytest.approx([0.25, 0.25, 0.25, -0.75])
    assert hard == pytest.approx([0.1, 0.0, 0.0, -0.1])


def test_the_batch_scales_all_groups_alike() -> None:
    groups = [[1.0, 0.0], [0.3, 0.1]]
    first, second = grpo(groups, "batch")
    unit = statistics.stdev([1.0, 0.0, 0.3, 0.1]) + 1e-4
    assert first + second == pytest.approx([0.5 / unit, -0.5 / unit, 0.1 / unit, -0.1 / unit])


def test_an_undecided_answer_is_left_out_and_is_no_zero() -> None:
    (found,) = grpo([[1.0, None, 0.0]], "none")
    assert found == [0.5, None, -0.5]
    assert rloo([[1.0, None, 0.0]]) == [[1.0, None, -1.0]]


@pytest.mark.parametrize("rewards", [[None, None], [1.0, None]])
def test_a_group_of_one_has_no_advantages(rewards: list[float | None]) -> None:
    assert grpo([rewards], "group") == [[None, None]]
    assert rloo([rewards]) == [[None, None]]
    assert not spread(rewards)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    (found,) = rloo([[3.0, 1.0, 2.0, 6.0]])
    assert found == pytest.approx([0.0, 1 - 11 / 3, 2 - 10 / 3, 4.0])


def test_spread_is_a_difference() -> None:
    assert spread([0.0, 0.0, 1e-3])
    assert not spread([0.5, 0.5, None])
    assert not spread([])


def test_a_flat_group_earns_nothing() -> None:
    (found,) = grpo([[0.7, 0.7, 0.7]], "group")
    assert all(math.isclose(one or 0.0, 0.0, abs_tol=1e-9) for one in found)
