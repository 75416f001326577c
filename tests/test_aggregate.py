"""From verdicts by principle to one preference, against figures by hand."""

import math
from typing import Any

import pytest

from judges.aggregate import MOST_SURE, Preference, prefer
from judges.constitution import Principle
from judges.records import ComparisonState, Judgement

UNDECIDED = Preference(state="undecided")
UNSPOKEN: tuple[ComparisonState, ...] = ("abstain", "unparsed", "refused", "error")


def principle(id: str, weight: float = 1.0, *, veto: bool = False) -> Principle:
    return Principle(id=id, text=f"It is {id}.", weight=weight, veto=veto)


def said(p: float | None, state: ComparisonState | None = None) -> Judgement:
    """A judgement with this probability, decided by it unless another state is given."""
    return Judgement(state=state or ("win" if p and p > 0.5 else "loss"), p=p)


def preferred(*spoken: tuple[Principle, Judgement | None], **how: Any) -> Preference:
    judgements = {one.id: judgement for one, judgement in spoken if judgement is not None}
    return prefer([one for one, _ in spoken], judgements, **how)


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


A, B, C = principle("a"), principle("b", 3.0), principle("c", 0.0)


def test_the_log_odds_are_averaged_by_weight() -> None:
    found = preferred((A, said(0.9)), (B, said(0.4)))
    # (1 ln 9 + 3 ln 2/3) / 4
    pulls = math.log(9) / 4, 3 * math.log(2 / 3) / 4
    assert found.p == pytest.approx(1 / (1 + math.exp(-sum(pulls))))
    assert found.state == "first"
    assert [one.principle for one in found.decisions] == ["a", "b"]
    assert [one.pull for one in found.decisions] == pytest.approx(pulls)
    assert [one.p for one in found.decisions] == [0.9, 0.4]
    assert found.margin == pytest.approx(abs(1 / (1 + math.exp(-sum(pulls))) - 0.5))
    assert found.vetoed_by is None


def test_one_principle_decides_as_it_speaks() -> None:
    assert preferred((A, said(0.8))).p == pytest.approx(0.8)
    assert preferred((A, said(0.2))).state == "second"


def test_the_other_way_round_is_the_other_way_round() -> None:
    there = preferred((A, said(0.9)), (B, said(0.4)))
    back = preferred((A, said(0.1)), (B, said(0.6)))
    assert there.p is not None
    assert back.p == pytest.approx(1 - there.p)
    assert (there.state, back.state) == ("first", "second")


def test_a_tie_and_a_flip_pull_nowhere_but_count() -> None:
    for state in ("tie", "flip"):
        # A flip's p says how unsure the judge is of its own orders, not which answer is better.
        found = preferred((A, said(0.9)), (B, Judgement(state=state, p=0.7)))
        assert found.p == pytest.approx(1 / (1 + math.exp(-math.log(9) / 4)))
        assert [one.pull for one in found.decisions][1] == 0.0
    alone = preferred((A, Judgement(state="flip", p=0.6)))
    assert (alone.state, alone.p) == ("tie", 0.5)


@pytest.mark.parametrize("state", UNSPOKEN)
def test_what_says_nothing_does_not_count(state: ComparisonState) -> None:
    assert preferred((B, said(0.9)), (A, said(None, state))) == preferred((B, said(0.9)))
    assert preferred((A, said(None, state))) == UNDECIDED


@pytest.mark.parametrize("nothing", [None, *(Judgement(state=state) for state in UNSPOKEN)])
def test_with_more_than_half_of_the_weight_unread_nothing_is_decided(
    nothing: Judgement | None,
) -> None:
    # B weighs three times as much as A: what is left may not speak for all.
    assert preferred((A, said(0.9)), (B, nothing)) == UNDECIDED
    # Half is enough.
    other = principle("d")
    assert preferred((A, said(0.9)), (other, nothing)) == preferred((A, said(0.9)))
    # What has no weight is not missed.
    assert preferred((A, said(0.9)), (C, nothing)) == preferred((A, said(0.9)))


@pytest.mark.parametrize("nothing", [None, *(Judgement(state=state) for state in UNSPOKEN)])
def test_without_a_word_on_a_veto_nothing_is_decided(nothing: Judgement | None) -> None:
    for weight in (0.0, 0.1):
        veto = principle("v", weight, veto=True)
        assert preferred((B, said(0.9)), (veto, nothing)) == UNDECIDED


def test_without_a_judgement_there_is_no_preference() -> None:
    assert preferred((A, None)) == UNDECIDED
    assert preferred() == UNDECIDED
    assert preferred().margin == 0.0
    # Nor does one count that is not in scope.
    assert prefer([A], {"a": said(0.9), "b": said(0.1)}) == preferred((A, said(0.9)))


def test_no_weight_decides_nothing() -> None:
    assert preferred((C, said(0.9))) == UNDECIDED
    assert preferred((A, said(0.4)), (C, said(0.9))) == preferred((A, said(0.4)))


def test_a_margin_makes_ties() -> None:
    assert preferred((A, said(0.58)), least_margin=0.1).state == "tie"
    assert preferred((A, said(0.58)), least_margin=0.05).state == "first"
    assert preferred((A, said(0.9)), (principle("d"), said(0.1))).state == "tie"


def test_nobody_is_surer_than_sure() -> None:
    for p in (1.0, 0.0):
        found = preferred((A, said(p, "win" if p else "loss")))
        assert found.p == pytest.approx(MOST_SURE if p else 1 - MOST_SURE)
    # However often it says so, one principle of weight 1 does not outweigh three others.
    three = [(principle(name), said(0.05)) for name in "xyz"]
    assert preferred((A, said(1.0)), *three).state == "second"


@pytest.mark.parametrize(("p", "state"), [(0.1, "second"), (0.03, "second"), (0.9, "first")])
def test_a_clear_veto_decides_alone(p: float, state: str) -> None:
    for other in (said(0.99), said(0.01)):
        found = preferred((A, other), (principle("v", 0.1, veto=True), said(p)))
        assert (found.state, found.vetoed_by) == (state, "v")
        assert found.p == pytest.approx(p)
        assert [one.principle for one in found.decisions] == ["v"]


@pytest.mark.parametrize("p", [0.11, 0.3, 0.6, 0.89])
def test_a_veto_that_is_not_clear_counts_by_its_weight(p: float) -> None:
    """Where a veto principle is not touched, a judge names an answer all the same."""
    found = preferred((B, said(0.8)), (principle("v", veto=True), said(p)))
    assert (found.state, found.vetoed_by) == ("first", None)
    pull = (3 * log_odds(0.8) + log_odds(p)) / 4
    assert found.p == pytest.approx(1 / (1 + math.exp(-pull)))


def test_a_veto_that_sees_no_difference_leaves_it_to_the_others() -> None:
    for state in ("tie", "flip"):
        veto = (principle("v", veto=True), Judgement(state=state, p=0.5))
        found = preferred((A, said(0.9)), veto)
        assert (found.state, found.vetoed_by) == ("first", None)
        assert found.p == pytest.approx(1 / (1 + math.exp(-log_odds(0.9) / 2)))


def test_vetoes_that_agree_are_averaged_and_those_that_do_not_decide_nothing() -> None:
    one, other = principle("v", 0.0, veto=True), principle("w", 0.0, veto=True)
    # Without any weight they count alike.
    both = preferred((one, said(0.9)), (other, said(0.96)), (A, said(0.1)))
    assert both.p == pytest.approx(1 / (1 + math.exp(-(log_odds(0.9) + log_odds(0.96)) / 2)))
    assert (both.state, both.vetoed_by) == ("first", "v")
    against = preferred((one, said(0.9)), (other, said(0.1)), (A, said(0.9)))
    assert against == UNDECIDED
    # One that is not clear contradicts nobody.
    assert preferred((one, said(0.9)), (other, said(0.4))).vetoed_by == "v"
