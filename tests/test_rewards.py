"""Rewards: from findings to terms, from terms to a total, and what never becomes a number."""

from typing import Any

import pytest
from pydantic import ValidationError

from judges.records import Verification, VerificationState
from judges.rewards import (
    OWN,
    Finding,
    Reward,
    RewardTerm,
    TermValue,
    beats_the_usual,
    check_terms,
    efficiency,
    main_term,
    recombined,
    rewarded,
)
from teachers.errors import ConfigError

RIGHT = RewardTerm(name="right", verifier="math")
FORM = RewardTerm(name="form", verifier="format", weight=0.0, gate=True)
SHORT = RewardTerm(name="short", verifier="efficiency", weight=0.5)
VIRTUE = RewardTerm(name="virtue", verifier="judge", weight=2.0)


def said(state: VerificationState, score: float | None = None) -> Verification:
    return Verification(state=state, reason=state, score=score)


def one(text: str = "x", tokens: int = 1, **found: Verification | float | None) -> Finding:
    return Finding(text, tokens, found)


def total(terms: list[RewardTerm], **found: Verification | float | None) -> float | None:
    return rewarded(terms, [Finding("x", 1, found)])[0].total


def test_findings_become_numbers_and_totals_weighted_sums() -> None:
    graded = RewardTerm(name="near", verifier="similarity", weight=3.0)
    assert total([RIGHT], right=said("verified")) == 1.0
    assert total([RIGHT], right=said("refuted")) == 0.0
    assert total([graded], near=said("refuted", 0.25)) == 0.75
    assert total([RIGHT, graded], right=said("verified"), near=said("verified", 0.5)) == 2.5
    assert total([RIGHT, VIRTUE], right=said("refuted"), virtue=0.25) == 0.5


@pytest.mark.parametrize("state", ["unparsed", "timeout", "error"])
def test_what_is_undecided_drops_the_sample_and_never_scores(state: VerificationState) -> None:
    reward = rewarded([RIGHT, VIRTUE], [one(right=said(state, 0.9), virtue=1.0)])[0]
    assert reward.total is None
    assert reward.terms["right"] == TermValue(value=None, state=state, reason=state)
    assert reward.terms["virtue"].value == 1.0


def test_a_judge_without_a_score_drops_the_sample() -> None:
    assert total([RIGHT, VIRTUE], right=said("verified"), virtue=None) is None


def test_what_does_not_apply_is_left_out() -> None:
    assert total([RIGHT, VIRTUE], right=said("not_applicable"), virtue=0.5) == 1.0
    assert total([FORM, RIGHT], form=said("not_applicable"), right=said("verified")) == 1.0
    assert total([RIGHT], right=said("not_applicable")) is None


def test_nothing_counts_behind_a_missed_gate() -> None:
    terms = [FORM, RIGHT]
    assert total(terms, form=said("verified"), right=said("verified")) == 1.0
    assert total(terms, form=said("refuted"), right=said("verified")) == 0.0
    # Without the form there often is no answer to be read: that is a lesson, not an accident.
    assert total(terms, form=said("refuted"), right=said("unparsed")) == 0.0
    assert total(terms, form=said("timeout"), right=said("verified")) is None


def test_a_judges_gate_goes_by_its_bar() -> None:
    gate = RewardTerm(name="virtue", verifier="judge", gate=True, entry={"at_least": 0.75})
    assert total([gate, RIGHT], virtue=0.75, right=said("verified")) == 1.75
    assert total([gate, RIGHT], virtue=0.74, right=said("verified")) == 0.0


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        total([VIRTUE], virtue=score)


# --- Efficiency ---------------------------------------------------------------------------------


def lines(count: int, state: VerificationState) -> Finding:
    # Empty lines are no steps.
    return one("\n\n".join("step" for _ in range(count)), right=said(state))


def test_a_shorter_right_answer_earns_more_and_a_wrong_one_never_by_brevity() -> None:
    group = [lines(2, "verified"), lines(4, "verified"), lines(6, "verified"), lines(1, "refuted")]
    short, middle, long, wrong = rewarded([RIGHT, SHORT], group)
    assert middle.total == pytest.approx(1.25)
    assert short.total is not None
    assert long.total is not None
    assert 1.0 < long.total < 1.25 < short.total < 1.5
    assert wrong.total == 0.0
    without = rewarded([RIGHT, SHORT], group[:3])
    assert [each.total for each in without] == [short.total, middle.total, long.total]


def test_a_wrong_answer_earns_the_same_however_short() -> None:
    for length in (0, 1, 50):
        group = [lines(5, "verified"), lines(7, "verified"), lines(length, "refuted")]
        assert rewarded([RIGHT, SHORT], group)[2].total == 0.0


def test_efficiency_of_equals_of_one_of_none_and_of_the_unknown() -> None:
    assert rewarded([RIGHT, SHORT], [lines(3, "verified")])[0].total == 1.25
    twins = rewarded([RIGHT, SHORT], [lines(3, "verified")] * 2)
    assert [each.total for each in twins] == [1.25, 1.25]
    assert [r.total for r in rewarded([RIGHT, SHORT], [lines(3, "refuted")] * 2)] == [0.0, 0.0]
    unknown = rewarded([RIGHT, SHORT], [lines(1, "unparsed"), lines(3, "verified")])
    assert unknown[0].terms["short"].value is None
    assert unknown[1].terms["short"].value == 0.5
    assert rewarded([RIGHT], []) == []


def test_efficiency_stays_between_0_and_1_for_any_lengths() -> None:
    right = TermValue(value=1.0, state="verified", reason="")
    values = efficiency([right] * 64, [1e9] + [1.0] * 63)
    assert all(one.value is not None and 0.0 < one.value < 1.0 for one in values)


def test_efficiency_counts_tokens_if_told_to() -> None:
    tokens = SHORT.model_copy(update={"entry": {"unit": "tokens"}})
    group = [one("a\nb\nc", 5, right=said("verified")), one("a", 9, right=said("verified"))]
    by_tokens, by_lines = rewarded([RIGHT, tokens], group), rewarded([RIGHT, SHORT], group)
    assert (by_tokens[0].total or 0) > (by_tokens[1].total or 0)
    assert (by_lines[0].total or 0) < (by_lines[1].total or 0)


def test_efficiency_goes_by_the_term_that_it_names() -> None:
    other = RewardTerm(name="other", verifier="exact", weight=0.0)
    named = SHORT.model_copy(update={"entry": {"of": "other"}})
    group = [one(right=said("verified"), other=said("refuted"))]
    assert rewarded([RIGHT, other, named], group)[0].terms["short"].value == 0.0
    assert rewarded([RIGHT, other, SHORT], group)[0].terms["short"].value == 0.5


def test_the_main_term_is_the_first_verifiers_that_is_no_mere_gate() -> None:
    own = RewardTerm(name="own", verifier=OWN, gate=True)
    assert main_term([SHORT, VIRTUE, FORM, own, RIGHT]) == "own"
    assert main_term([VIRTUE, SHORT]) == "virtue"
    assert rewarded([VIRTUE, SHORT], [one(virtue=0.9)])[0].terms["short"].value == 0.5
    assert rewarded([VIRTUE, SHORT], [one(virtue=0.1)])[0].terms["short"].value == 0.0


def test_the_jail_of_code_is_told_with_its_term() -> None:
    ran = Verification(state="verified", reason="", jail="bubblewrap")
    (reward,) = rewarded([RIGHT], [Finding("", 1, {"right": ran})])
    assert reward.terms["right"].jail == "bubblewrap"


# --- Other weights ------------------------------------------------------------------------------


def test_stored_values_make_totals_under_other_weights_without_verifying_again() -> None:
    group = [lines(2, "verified"), lines(4, "verified"), lines(1, "refuted"), lines(3, "error")]
    stored = [
        Reward.model_validate_json(reward.model_dump_json())
        for reward in rewarded([RIGHT, SHORT], group)
    ]
    heavier = [RIGHT.model_copy(update={"weight": 4.0}), SHORT]
    assert recombined(heavier, stored) == rewarded(heavier, group)
    alone = recombined([RIGHT], stored)
    assert [reward.total for reward in alone] == [1.0, 1.0, 0.0, None]
    assert alone[0].terms == stored[0].terms
    gated = [RIGHT.model_copy(update={"gate": True}), SHORT]
    assert recombined(gated, stored)[2].total == 0.0
    with pytest.raises(ConfigError, match="No value of 'virtue'"):
        recombined([RIGHT, VIRTUE], stored)


@pytest.mark.parametrize(
    ("terms", "wanted"),
    [
        ([], "at least one term"),
        ([RIGHT, RIGHT], "same name"),
        ([SHORT], "says which answers are right"),
        ([RIGHT, SHORT.model_copy(update={"entry": {"of": "short"}})], "says which answers"),
        ([RIGHT, SHORT.model_copy(update={"entry": {"unit": "pages"}})], "not 'pages'"),
    ],
)
def test_terms_that_make_no_reward_are_refused(terms: list[RewardTerm], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        check_terms(terms)


@pytest.mark.parametrize(
    "wrong", [{"weight": -1}, {"weight": float("inf")}, {"wight": 1}, {"parser": "loose"}]
)
def test_a_term_is_checked_as_it_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RewardTerm.model_validate({"name": "a", "verifier": "math", **wrong})


def test_a_terms_parameters_go_over_the_prompts_own() -> None:
    term = RewardTerm(name="a", verifier="length", entry={"at_most": 5})
    assert term.entry_over({"at_most": 9, "unit": "words"}) == {"at_most": 5, "unit": "words"}


def test_a_reward_models_score_is_bounded_whatever_it_is() -> None:
    assert beats_the_usual(0.0) == 0.5
    assert beats_the_usual(2.0) == pytest.approx(0.880797, abs=1e-6)
    assert beats_the_usual(-2.0) == pytest.approx(1 - 0.880797, abs=1e-6)
    assert [beats_the_usual(score) for score in (-1e4, 1e4)] == [0.0, 1.0]


def test_a_reward_models_score_is_a_terms_value() -> None:
    term = RewardTerm(name="taste", verifier="reward_model")
    assert not term.verified
    found = rewarded([term], [Finding("a", 1, {"taste": 0.8}), Finding("b", 1, {"taste": 0.3})])
    assert [one.total for one in found] == [0.8, 0.3]
    assert [one.terms["taste"].state for one in found] == ["verified", "refuted"]
