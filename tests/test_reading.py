"""From a reply to a verdict: log-probabilities first, tolerant of how people and models write."""

import pytest

from judges.judge import Judge, Rung, comparing, following, scoring
from judges.reading import weigh
from judges.records import ReadingState
from teachers.records import Sample
from tests.judged import reply

LETTERS = comparing("w", rung="text")


def read(judge: Judge, text: str) -> tuple[float, ...]:
    return weigh(judge, reply(text))[1]


@pytest.mark.parametrize(
    "text",
    ["A", " a. ", "**A**", "(A)", "Answer: A", "The better answer is **A**.", "Verdict: A"]
    + ["A, because it is short", "A: it is short", "A\nbecause", "answer A", '{"verdict": "A"}'],
)
def test_a_letter_is_found_where_people_put_it(text: str) -> None:
    assert read(LETTERS, text) == (1.0, 0.0)


@pytest.mark.parametrize(
    "text",
    ["", "a better one would be shorter", "The better answer: a short one", "Both", "C", "A or B"]
    + ["Answer A and answer B are equal", "AB", "An apple", "Answer: Beside the point", "x" * 9999],
)
def test_what_names_no_one_letter_is_unparsed(text: str) -> None:
    found, masses = weigh(LETTERS, reply(text))
    assert (found.state, masses) == ("unparsed", ())


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, I can't compare these.", "I\N{RIGHT SINGLE QUOTATION MARK}m sorry", "I cannot"]
    + ["As an AI, I have no opinion", "We are unable to say"],
)
def test_a_refusal_is_told_from_what_cannot_be_read(text: str) -> None:
    assert weigh(LETTERS, reply(text))[0].state == "refused"


@pytest.mark.parametrize(
    ("text", "grade"),
    [("4", 3), ("4.", 3), ("Score: 2/5", 1), ("**5**", 4), ("3\n\nIt is fair.", 2), ("1, as", 0)],
)
def test_grades(text: str, grade: int) -> None:
    assert read(scoring("w", rung="text"), text).index(1.0) == grade


@pytest.mark.parametrize("text", ["10", "1. First of all, the answer", "Score: 45", "about 4 or 5"])
def test_other_numbers_are_no_grades(text: str) -> None:
    assert read(scoring("w", rung="text"), text) == ()


@pytest.mark.parametrize(
    ("text", "masses"),
    [("Yes, it does.", (0.0, 1.0)), ("No. It rambles", (1.0, 0.0)), ("Answer: Yes", (0.0, 1.0))]
    + [("Not at all", ()), ("yesterday", ())],
)
def test_yes_and_no(text: str, masses: tuple[float, ...]) -> None:
    assert read(following("w", rung="text"), text) == masses


@pytest.mark.parametrize(
    ("text", "masses"),
    [('{"verdict": "B"}', (0.0, 1.0)), ('{"verdict": "b"}', (0.0, 1.0)), ('{"verdict": "C"}', ())]
    + [("B", ()), ('{"verdict": ', ()), ("[1]", ()), ("null", ()), ('{"verdict": null}', ())]
    + [("[" * 4000, ()), ('{"verdict": ' + "9" * 5000, ())],
)
def test_json_is_read_as_json(text: str, masses: tuple[float, ...]) -> None:
    assert read(comparing("w", rung="json_schema"), text) == masses


def test_probabilities_of_the_words_in_any_spelling_are_added() -> None:
    said = Sample(
        call_id="c",
        position=0,
        text="B",
        finish_reason="stop",
        # exp of these: 0.5, 0.25, 0.125, and 0.125 for something else
        first_token=((" A", -0.693147), ("B", -1.386294), ("b", -2.079442), ("The", -2.079442)),
    )
    found, (first, second) = weigh(comparing("w"), said)
    assert found.state == "read"
    assert found.outside == pytest.approx(0.125, abs=1e-5)
    assert (first, second) == pytest.approx((0.5 / 0.875, 0.375 / 0.875), abs=1e-5)


def test_no_word_among_the_likeliest_is_unparsed() -> None:
    found, masses = weigh(comparing("w"), reply("A", The=0.9, It=0.05))
    assert (found.state, found.outside, masses) == ("unparsed", 1.0, ())


def test_nonsense_probabilities_do_no_harm() -> None:
    said = reply("A").model_copy(update={"first_token": (("A", 1e9), ("B", -9999.0))})
    found, masses = weigh(comparing("w"), said)
    assert (found.outside, masses) == (0.0, (1.0, 0.0))


@pytest.mark.parametrize(("rung", "state"), [("logprobs", "read"), ("choice", "read")])
def test_without_probabilities_the_text_counts(rung: Rung, state: ReadingState) -> None:
    found, masses = weigh(comparing("w", rung=rung), reply("B"))
    assert (found.state, found.outside, masses) == (state, None, (0.0, 1.0))
