"""Pairwise verdicts: both orders, averaged; every state."""

import pytest

from judges.compare import compare_call, judgement_id, rationale_call, read, settle
from judges.judge import comparing
from judges.records import ComparisonState, Judgement, Reading, ReadingState
from tests.judged import PRINCIPLE, comparison, reading, reply

JUDGE = comparing("w")


def test_each_order_shows_the_other_answer_as_a() -> None:
    pair = comparison("first text", "second text")
    forward, backward = (
        compare_call(JUDGE, pair, PRINCIPLE, order).messages[0].content
        for order in ("forward", "backward")
    )
    assert "<answer_a>\nfirst text\n</answer_a>" in forward
    assert "<answer_a>\nsecond text\n</answer_a>" in backward
    assert compare_call(JUDGE, pair.swap(), PRINCIPLE, "forward").messages[0].content == backward


def test_a_comparison_and_its_swap_have_one_name() -> None:
    pair = comparison("first text", "second text")
    assert pair.id != pair.swap().id
    assert pair.unordered == pair.swap().unordered
    assert pair.unordered != comparison("first text", "another text").unordered


@pytest.mark.parametrize(
    ("said", "swapped"),
    [
        (Judgement(state="win", p=0.75), Judgement(state="loss", p=0.25)),
        (Judgement(state="tie", p=0.5), Judgement(state="tie", p=0.5)),
        (Judgement(state="error"), Judgement(state="error")),
    ],
)
def test_a_judgement_can_be_turned(said: Judgement, swapped: Judgement) -> None:
    assert said.turned == swapped
    assert swapped.turned == said


def test_a_verdict_is_one_greedy_token_held_to_the_letters() -> None:
    call = compare_call(JUDGE, comparison(), PRINCIPLE, "forward")
    assert (call.sampling.temperature, call.sampling.max_tokens) == (0.0, 1)
    assert call.output is not None
    assert (call.output.choices, call.output.top_logprobs) == (("A", "B"), 20)


def test_a_rationale_comes_before_the_verdict() -> None:
    judge = comparing("w", rationale=True)
    asked = rationale_call(judge, comparison(), PRINCIPLE, "forward")
    call = compare_call(judge, comparison(), PRINCIPLE, "forward", "A keeps the rule.")
    assert asked.output is None
    assert asked.sampling.max_tokens == judge.rationale_tokens == 256
    assert call.messages[0] == asked.messages[0]
    assert [turn.role for turn in call.messages] == ["user", "assistant", "user"]
    assert call.messages[1].content == "A keeps the rule."


def test_the_id_says_everything_that_makes_a_verdict_another() -> None:
    pair = comparison()
    reworded = PRINCIPLE.model_copy(update={"text": "The answer is brief."})
    reweighted = PRINCIPLE.model_copy(update={"weight": 3.0, "veto": True})
    usual = judgement_id(JUDGE, pair, PRINCIPLE, "forward")
    assert usual == judgement_id(JUDGE, pair, reweighted, "forward")
    others = {
        judgement_id(JUDGE, pair, PRINCIPLE, "backward"),
        judgement_id(JUDGE, pair.swap(), PRINCIPLE, "forward"),
        judgement_id(JUDGE, pair, reworded, "forward"),
        judgement_id(comparing("other"), pair, PRINCIPLE, "forward"),
        judgement_id(JUDGE.model_copy(update={"prompt": "?"}), pair, PRINCIPLE, "forward"),
        judgement_id(JUDGE.model_copy(update={"rung": "text"}), pair, PRINCIPLE, "forward"),
    }
    assert len(others | {usual}) == 7


def test_a_reading_is_the_share_of_a_among_the_letters() -> None:
    found = read(JUDGE, reply("A", A=0.6, B=0.2, The=0.2))
    assert found.value == pytest.approx(0.6 / 0.8)
    assert found.outside == pytest.approx(0.2)
    assert read(JUDGE, reply("hm")) == Reading(state="unparsed")


# p = (forward + (1 - backward)) / 2, by hand.
@pytest.mark.parametrize(
    ("forward", "backward", "state", "p"),
    [
        (0.9, 0.3, "win", 0.8),
        (0.2, 0.6, "loss", 0.3),
        (0.9, 0.8, "flip", 0.55),
        (1.0, 1.0, "flip", 0.5),
        (0.1, 0.4, "flip", 0.35),
        (0.5, 0.5, "tie", 0.5),
        (0.5, 0.1, "tie", 0.7),
        (0.1, 0.5, "tie", 0.3),
    ],
)
def test_two_orders_make_one_judgement(
    forward: float, backward: float, state: ComparisonState, p: float
) -> None:
    found = settle(reading(forward), reading(backward))
    assert found.state == state
    assert found.p == pytest.approx(p)
    assert found.labels == (state in ("win", "loss"))
    # Which answer is called first decides nothing.
    mirrored: dict[str, str] = {"win": "loss", "loss": "win"}
    swapped = settle(reading(backward), reading(forward))
    assert swapped.state == mirrored.get(state, state)
    assert swapped.p == pytest.approx(1 - p)


def test_mass_elsewhere_is_an_abstention() -> None:
    assert settle(reading(0.9, 0.2), reading(0.1, 0.2)).state == "win"
    assert settle(reading(0.9, 0.0), reading(0.1, 0.21)).state == "abstain"
    assert settle(reading(0.9, 0.3), reading(0.1), most_outside=0.5).state == "win"


@pytest.mark.parametrize("state", ["error", "refused", "unparsed"])
def test_one_order_that_says_nothing_leaves_nothing(state: ReadingState) -> None:
    nothing = Reading(state=state)
    for both in ((nothing, reading(0.9)), (reading(0.9), nothing), (nothing, nothing)):
        found = settle(*both)
        assert (found.state, found.p, found.labels) == (state, None, False)
    assert settle(Reading(state="error"), Reading(state="refused")).state == "error"


def test_the_same_words_are_identical() -> None:
    assert comparison("one  two\n", " one two").identical
    assert not comparison("one two", "one, two").identical
