"""Where a text's answer is found, by the strict parser and by the kind one."""

import time

import pytest

from judges.answer import readings
from judges.verifiers import verify

STRICT = [
    ("4 + 7 = 11\nAnswer: 11", "11"),
    ("Answer: Peter\n\n  \n", "Peter"),
    ("Answer:19", "19"),
    ("first\n   Answer: \t 1, 2, 3  ", "1, 2, 3"),
    (r"Answer: \frac{1}{2}", r"\frac{1}{2}"),
    ("Answer: 3\nAnswer: 4", "4"),
]

NOT_STRICT = [
    "",
    " \n ",
    "Answer:",
    "Answer: 19\nI am sure.",
    "The answer is 19",
    "**Answer: 19**",
    "answer: 19",
    "so Answer: 19",
    "#### 19",
]

# A text, and the one reading of it that has to be among the lenient parser's.
LENIENT = [
    ("The answer is 19.", "19"),
    ("The answer is 19. I checked it twice.", "19"),
    ("**Answer: 19**", "19"),
    ("**Answer:** 19.", "19"),
    ("## Final Answer\n\nThe final answer is: **-19**", "-19"),
    ("answer = 19", "19"),
    ("The answer is:\n\n19", "19"),
    ("Answer:\nPeter", "Peter"),
    ("The answer is Peter. He hates running.", "Peter"),
    ('The answer is "Peter".', "Peter"),
    ("So the answer is therefore 16", "16"),
    ("The answer is the sum of 4, 7 and 5, which is 16.", "16"),
    ("The final answer is 12 + 7 = 19", "19"),
    ("The answer is x = 19 apples", "19"),
    ("4 + 7 + 8 = 19\n#### 19", "19"),
    ("He has 72 clips.\n####72", "72"),
    ("#### 1,234", "1234"),
    (r"so \boxed{19}.", "19"),
    (r"so $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
    (r"so \boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{\text{Peter}}", "Peter"),
    (r"The answer is \(19\).", "19"),
    (r"The answer is $\frac{1}{2}$.", r"\frac{1}{2}"),
    ("12 + 7 = 19", "19"),
    ("12 + 7 = 19. That is the result of 2 steps.", "19"),
    ("12 + 7 = **19**", "19"),
    ("12 - 31 = -19", "-19"),
    ("12 - 31 = \N{MINUS SIGN}19", "-19"),
    ("1/4 + 1/4 = 1/2", "1/2"),
    ("1,000 + 234 = 1,234.50", "1234.50"),
    ("x = 12 + 7\nso it is 19", "19"),
    ("It costs $1,234 in all.", "1234"),
    ("There are 3 cats and 5 dogs, so 8 animals.", "8"),
    ("19", "19"),
    ("Answer: 19 apples", "19"),
    ("Answer: 19, because 12 + 7 = 19", "19"),
    ("Answer: -$5", "-5"),
    ("Answer: 50%", "50%"),
    ("Answer: 3:45", "3:45"),
    ("The answer is as follows.\n3 + 4 = 7", "7"),
    # Several marks: the last one wins.
    ("The answer is 5. Wait, the answer is 6.", "6"),
    (r"\boxed{5} was wrong. The answer is 6.", "6"),
    (r"The answer is 5. No: \boxed{6}", "6"),
    ("#### 5\nAnswer: 6", "6"),
    ("Answer: 5\n#### 6", "6"),
    # Mathematics at the very end.
    (r"So it is $\frac{1}{2}$.", r"\frac{1}{2}"),
    (r"We get \(x^2 + 1\)", "x^2 + 1"),
    ("It costs $5 and then $6.", "6"),
]


@pytest.mark.parametrize(("text", "answer"), STRICT)
def test_strict_reads_the_agreed_form(text: str, answer: str) -> None:
    assert readings(text, "strict") == [answer]


@pytest.mark.parametrize("text", NOT_STRICT)
def test_strict_reads_nothing_else(text: str) -> None:
    assert readings(text, "strict") == []


@pytest.mark.parametrize(("text", "answer"), LENIENT)
def test_lenient_finds_it_where_a_person_would(text: str, answer: str) -> None:
    assert answer in readings(text, "lenient")


@pytest.mark.parametrize(("text", "answer"), STRICT)
def test_lenient_is_never_harsher_than_strict(text: str, answer: str) -> None:
    assert readings(text, "lenient")[0] == answer


@pytest.mark.parametrize(
    ("text", "reference", "verifier"),
    [
        ("Answer: 3 apples", "3 apples", "exact"),
        ("Answer: 1, 2, 3", "1, 2, 3", "exact"),
        ("Answer: x = 5", "x = 5", "exact"),
        ("Answer: 1,234.0", "1234", "number"),
    ],
)
def test_what_strict_verifies_lenient_verifies(text: str, reference: str, verifier: str) -> None:
    assert verify(text, verifier, "strict", reference, {}).state == "verified"
    assert verify(text, verifier, "lenient", reference, {}).state == "verified"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("The answer is 5. Wait, the answer is 6.", "5"),
        ("Answer: 19, not 20", "20"),
        ("12 + 7 = 19", "12"),
        ("The answer is 12 + 7 = 19", "12"),
    ],
)
def test_lenient_is_kind_but_does_not_guess(text: str, wrong: str) -> None:
    assert wrong not in readings(text, "lenient")


@pytest.mark.parametrize("text", ["", "  \n", "I do not know.", "Answer:", "Answer: ..."])
def test_lenient_finds_nothing_where_nothing_is(text: str) -> None:
    assert not any(
        character.isalnum() for found in readings(text, "lenient") for character in found
    )


HOSTILE = {
    "spaces": "Answer: a" + " " * 200_000 + "b",
    "blank lines": "answer:" + "\n" * 200_000,
    "digits": "=" + "1" * 200_000 + "..1",
    "thousands": "1" + ",111" * 50_000 + "1",
    "points": "=" + "1." * 100_000,
    "marks": "answer is " * 20_000,
    "almost marks": "answer " * 30_000,
    "boxes": r"\boxed{" * 30_000,
    "box in box": r"\boxed{{}" * 30_000,
    "braces": r"\boxed{" + "{}" * 100_000,
    "hashes": "#" * 200_000,
    "hashes apart": "#### " * 40_000,
    "equals": "= " * 100_000,
    "minus": "=" + "-" * 200_000,
    "sums": "=1+" * 60_000,
    "stars": "answer:" + "*" * 200_000,
    "wrapped": "answer: " + r"\text{" * 30_000,
    "ends": "Answer: " + ". " * 100_000,
    "alternatives": "Answer: " + "1 or " * 50_000,
    "units": "Answer: 1 " + "a " * 100_000 + "or 2",
    "lists": "Answer: " + "1, " * 70_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_read_quickly(name: str) -> None:
    began = time.process_time()
    for parser in ("strict", "lenient"):
        readings(HOSTILE[name], parser)
    assert time.process_time() - began < 1.0
