"""Grades: the expectation over the words, and a comparison of two of them."""

import math

import pytest

from judges.judge import Judge, following, scoring
from judges.records import Answer, Reading, ReadingState
from judges.score import logit, read, score_call, score_id, settle
from tests.judged import PRINCIPLE, asked, reading, reply

GRADES, YES = scoring("w"), following("w")


def tokens(*shares: float) -> dict[str, float]:
    return {str(grade): share for grade, share in enumerate(shares, start=1) if share}


def test_the_expected_grade_goes_from_0_to_1() -> None:
    assert read(GRADES, reply("5", **tokens(0, 0, 0, 0, 1.0))).value == 1.0
    assert read(GRADES, reply("1", **tokens(1.0))).value == 0.0
    # 0.1 of grade 1, 0.2 of 3, 0.7 of 5: (0.1 * 0 + 0.2 * 2 + 0.7 * 4) / 4 = 0.8
    assert read(GRADES, reply("5", **tokens(0.1, 0, 0.2, 0, 0.7))).value == pytest.approx(0.8)
    found = read(GRADES, reply("5", **tokens(0, 0, 0, 0, 0.6), x=0.4))
    assert found.value == 1.0
    assert found.outside == pytest.approx(0.4)


def test_a_grade_without_probabilities_is_a_whole_one() -> None:
    assert read(GRADES, reply("4")).value == 0.75
    assert read(YES, reply("yes")).value == 1.0
    assert read(GRADES, reply("fine")) == Reading(state="unparsed")


def test_two_grades_make_a_comparison() -> None:
    # logit(0.8) - logit(0.5) = ln 4, and sigmoid(ln 4) = 0.8
    better, worse = settle(reading(0.8), reading(0.5)), settle(reading(0.2), reading(0.5))
    assert (better.state, worse.state) == ("win", "loss")
    assert better.p == pytest.approx(0.8)
    assert worse.p == pytest.approx(0.2)


def test_two_words_are_bradley_terry() -> None:
    """p = e^a / (e^a + e^b) of the differences a and b of the two words' logits."""
    a, b = 1.7, -0.4
    shares = [1 / (1 + math.exp(-strength)) for strength in (a, b)]
    one, other = (read(YES, reply("yes", yes=share, no=1 - share)) for share in shares)
    expected = math.exp(a) / (math.exp(a) + math.exp(b))
    assert settle(one, other).p == pytest.approx(expected)


@pytest.mark.parametrize(("one", "other"), [(0.5, 0.5), (1.0, 1.0), (1 - 1e-9, 1 - 1e-10)])
def test_grades_that_cannot_be_told_apart_are_a_tie(one: float, other: float) -> None:
    assert settle(reading(one), reading(other)).state == "tie"
    assert settle(reading(other), reading(one)).state == "tie"


def test_the_ends_stay_finite() -> None:
    found = settle(reading(1.0), reading(0.0))
    assert found.state == "win"
    assert found.p is not None
    assert 0.999 < found.p <= 1.0
    assert logit(1.0) == pytest.approx(-logit(0.0))


@pytest.mark.parametrize("state", ["error", "refused", "unparsed"])
def test_a_grade_that_is_none_decides_nothing(state: ReadingState) -> None:
    assert settle(reading(0.9), Reading(state=state)).state == state
    assert settle(reading(0.9, 0.5), reading(0.1, 0.0)).state == "abstain"


def test_a_grade_belongs_to_the_answer_and_not_to_a_pair() -> None:
    answer = Answer(conversation=asked("Why?"), text="Because.")
    same = Answer(conversation=asked("Why?"), text="Because.")
    assert score_id(GRADES, answer, PRINCIPLE) == score_id(GRADES, same, PRINCIPLE)
    assert score_id(GRADES, answer, PRINCIPLE) != score_id(YES, answer, PRINCIPLE)
    text = score_call(YES, answer, PRINCIPLE).messages[0].content
    assert "<answer>\nBecause.\n</answer>" in text
    assert PRINCIPLE.text in text


@pytest.mark.parametrize(("judge", "characters"), [(YES, 500), (GRADES, 8000)])
def test_a_judge_of_our_own_sees_the_beginning_of_an_answer(judge: Judge, characters: int) -> None:
    """Its lessons show no more either."""
    answer = Answer(conversation=asked("Why?"), text="~" * 10_000)
    text = score_call(judge, answer, PRINCIPLE).messages[0].content
    assert text.count("~") == characters
