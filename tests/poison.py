"""Texts and parameters that are made to hang, crash or fill whoever checks them."""

from typing import Any, NamedTuple

from judges.verifiers import MAX_ANSWER_CHARACTERS, MAX_TEXT_CHARACTERS

MEGABYTE = 1024 * 1024


class Poison(NamedTuple):
    """A job that nobody means well with."""

    verifier: str
    text: str
    reference: str | None = "19"
    entry: dict[str, Any] | None = None


def _answers() -> list[Poison]:
    """For mathematics: each a final answer."""
    most = MAX_ANSWER_CHARACTERS
    answers = [
        "5^(5^(5^(5^5)))",
        "10000000!",
        "9**9**9**9",
        r"\frac{10000000!}{9999999!}",
        "{" + ",".join(map(str, range(400))) + "}",
        r"\{" + ",".join(f"x^{n}" for n in range(300)) + r"\}",
        r"\frac{" * 150 + "1" + "}{2}" * 150,
        r"\sqrt{" * 250 + "2" + "}" * 250,
        "{" * (most - 10),
        "(" * 900 + "1" + ")" * 900,
        "-" * (most - 10) + "1",
        "1" * (most - 10),
        "9" * 400 + "^" + "9" * 400,
        "\\" * (most - 10),
        "+".join(f"x_{n}" for n in range(250)) + "=1",
        r"\int_0^{10^{10}} e^{-x^{100}} dx",
        r"\sum_{n=1}^{10^{12}} \frac{1}{n^7}",
        r"\begin{pmatrix}" + r"1&2\\" * 200 + r"\end{pmatrix}",
        "1\0" * 500,
        "\N{FULLWIDTH DIGIT ONE}" * 1000,
        "\u202e\u0301" * 900,
        r"1e999999999",
        "x^{1000000} - 1",
    ]
    return [
        *(Poison("math", f"Answer: {answer}") for answer in answers),
        Poison("math", "Answer: 2", reference="5^(5^(5^(5^5)))"),
        *(Poison("number", f"Answer: {answer}") for answer in answers[:3]),
    ]


def _texts() -> list[Poison]:
    """For whoever reads all of a text."""
    most = MAX_TEXT_CHARACTERS
    stars = "(a+)+$"
    return [
        Poison("math", "x" * MEGABYTE),
        Poison("number", "=" * MEGABYTE + "\nAnswer: 1"),
        Poison("math", "Answer: \ud800"),
        Poison("regex", "a" * 5000 + "!", stars),
        Poison("regex", "x" * 40 + "y", "(x+x+)+z"),
        Poison("regex", "a", "(" * 5000),
        Poison("json_schema", "[" * most, entry={"schema": {}}),
        Poison("json_schema", '{"a":' * 500, entry={"schema": {}}),
        Poison("json_schema", f'"{"a" * 40}!"', entry={"schema": {"pattern": f"^{stars}"}}),
        Poison("json_schema", "1" * most, entry={"schema": {"multipleOf": 0.1}}),
        Poison("json_schema", "[1]", entry={"schema": {"$ref": "#"}}),
        Poison("format", "<think>" * (most // 7), entry={"thinking": True}),
        Poison("repetition", "a" * most),
        Poison("repetition", "a b " * (most // 4), entry={"n": 10**9}),
        Poison("similarity", "a b " * (most // 4), "b a " * (most // 4)),
        Poison("language", "\u4e00" * most, entry={"language": "zh"}),
        Poison(
            "constraints",
            "a. " * (most // 3),
            entry={"instruction_id_list": ["ratio:sentence_balance"]},
        ),
        Poison("length", " " * most, entry={"at_most": 1}),
        Poison("choice", "Answer: (" + "A" * 1900, "A", {"options": ["a"] * 26}),
        Poison("text", "Answer: " + "-" * 1900, "a"),
    ]


POISONS = [*_answers(), *_texts()]
