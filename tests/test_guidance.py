"""Answers made better or worse on purpose: what is asked, and by which principle."""

from collections import Counter

from judges.constitution import Construction, Principle
from judges.guidance import guided, guiding
from teachers.records import Message

BRIEF = Principle(
    id="brief",
    text="The answer is brief.",
    opposite="The answer is long.",
    construction=Construction(better="Answer in one sentence.", worse="Answer at length."),
)
CALM = Principle(id="calm", text="The answer is calm.", opposite="The answer is agitated.")
SILENT = Principle(id="silent", text="The answer says nothing more.")


def test_an_order_stands_after_the_request() -> None:
    before = Message(role="system", content="You help.")
    asked = Message(role="user", content="Why is the sky blue?")
    found = guided([before, asked], "Answer at length.")
    assert found == (
        before,
        Message(role="user", content="Why is the sky blue? Answer at length."),
    )
    assert asked.content == "Why is the sky blue?"


def test_a_principle_is_asked_for_in_its_own_words_unless_it_says_how() -> None:
    assert BRIEF.orders == BRIEF.construction
    assert CALM.orders == Construction(better=CALM.text, worse=CALM.opposite)
    assert SILENT.orders is None


def test_only_what_can_be_asked_for_and_counts_is_guiding() -> None:
    weightless = CALM.model_copy(update={"weight": 0.0})
    assert guiding([], "x") is None
    assert guiding([SILENT, weightless], "x") is None
    assert {guiding([SILENT, weightless, BRIEF], str(n)) for n in range(50)} == {BRIEF}


def test_the_same_name_draws_the_same_principle_and_names_draw_by_weight() -> None:
    heavy = BRIEF.model_copy(update={"weight": 3.0})
    draws = [guiding([heavy, CALM], f"prompt {n}") for n in range(2000)]
    assert draws == [guiding([heavy, CALM], f"prompt {n}") for n in range(2000)]
    counts = Counter(one.id for one in draws if one)
    # 1500 are expected; the standard deviation is sqrt(2000 * 0.75 * 0.25) = 19.
    assert 1420 < counts["brief"] < 1580
    assert sum(counts.values()) == 2000
