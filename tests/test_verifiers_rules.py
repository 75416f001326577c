"""Each rule's verdicts at its sharp edges, and each state it can end in."""

import json
from pathlib import Path
from typing import Any

import pytest

from judges.records import Parser, Verification
from judges.verifiers import (
    MAX_TEXT_CHARACTERS,
    VERIFIERS,
    constraints,
    find,
    math,
    verify,
    versioned,
)
from judges.verifiers.repetition import repeated
from judges.verifiers.similarity import common, rouge_l
from teachers.errors import VerifierError


def found(
    verifier: str, text: str, reference: str | None = None, parser: Parser = "strict", **entry: Any
) -> Verification:
    return verify(text, verifier, parser, reference, entry)


def answered(verifier: str, answer: str, reference: str | None, **entry: Any) -> str:
    return found(verifier, f"Answer: {answer}", reference, **entry).state


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("x^2+2x+1", "(x+1)^2", "verified"),
        ("x+5", "y+5", "refuted"),
        (r"\{1,2\}", "{2, 1}", "verified"),
        (r"\{1,2\}", r"\{1,3\}", "refuted"),
        ("(1,2)", "[1,2)", "refuted"),
        (r"\frac{3}{4}", "0.75", "verified"),
        (r"3\frac{1}{2}", "3.5", "verified"),
        (r"\sqrt{2}", "sqrt(2)", "verified"),
        (r"\pi", "3.14", "refuted"),
        ("x^2", r"\[ x^2 \]", "verified"),
        ("5", r"\(5\)", "verified"),
        ("5", "**5**", "verified"),
        ("5", "$5$.", "verified"),
        ("8", "2**3", "verified"),
        ("2", "2**3", "refuted"),
        ("8", "2^(3)", "verified"),
        ("16", "2^(2^(1+1))", "verified"),
        ("x^{n+1}", "x^(n+1)", "verified"),
        ("3.5", "3 1/2", "verified"),
        ("2", "3 1/2", "refuted"),
        ("-3.5", "-3 1/2", "verified"),
        ("1000", "1e3", "verified"),
        ("0.5", "5E-1", "verified"),
        ("x=3", "3", "verified"),
        ("x<3", "3>x", "verified"),
        ("1,234", "$1234$", "verified"),
        ("5 cm", "5", "verified"),
        ("5 m", "500 cm", "verified"),
        ("5 m", "5 cm", "refuted"),
        ("5 m", "5 metres", "unparsed"),
        ("5 m", "5 meters", "verified"),
        ("5 m", "5 s", "refuted"),
        (r"5\text{ km}", "5000 m", "verified"),
        ("5 apples", "5 apple", "verified"),
        ("5 apples", "5 pears", "unparsed"),
        ("19", "Peter", "unparsed"),
        ("Peter", "19", "not_applicable"),
        ("x", "x", "verified"),
        ("x", "y", "refuted"),
    ],
)
def test_mathematics_is_compared_by_what_it_means(reference: str, answer: str, wanted: str) -> None:
    assert answered("math", answer, reference) == wanted


@pytest.mark.parametrize("text", ["0", "7", "-12", "$19$", "$-3$", "123456789012345678"])
def test_integers_are_read_as_math_verify_reads_them(text: str) -> None:
    from math_verify import parse

    assert math.parsed(text) == parse(text, parsing_timeout=None)


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("the Eiffel Tower", "Eiffel tower.", "verified"),
        ("The Eiffel Tower", "a tower", "refuted"),
        ("1.5", "15", "refuted"),
        ("-5", "5", "refuted"),
        ("1.5", "1.5.", "verified"),
        ("well-known", "well known", "verified"),
        ("theatre", "atre", "refuted"),
        ("The.", "", "unparsed"),
        ("The.", "anything", "not_applicable"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "E\N{COMBINING ACUTE ACCENT}", "verified"),
    ],
)
def test_text_forgives_form_and_no_content(reference: str, answer: str, wanted: str) -> None:
    assert answered("text", answer, reference) == wanted


CITIES = ["Rome", "Paris", "Berlin"]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("B", "verified"),
        ("(b)", "verified"),
        ("B.", "verified"),
        ("Paris", "verified"),
        ("B) paris", "verified"),
        ("A", "refuted"),
        ("Rome", "refuted"),
        ("B) Berlin", "unparsed"),
        ("D", "unparsed"),
        ("Paris or Rome", "unparsed"),
        ("B or C", "unparsed"),
        ("Brussels", "unparsed"),
    ],
)
def test_a_choice_is_a_letter_or_its_text_and_never_two(answer: str, wanted: str) -> None:
    for reference in ("B", "Paris"):
        assert answered("choice", answer, reference, options=CITIES) == wanted


def test_choices_without_texts_twins_and_options_by_letter() -> None:
    assert answered("choice", "e", "E") == "verified"
    assert answered("choice", "F", "E") == "unparsed"
    assert answered("choice", "B", "F") == "not_applicable"
    assert answered("choice", "Rome", "A", options=["Rome", "Rome"]) == "unparsed"
    assert answered("choice", "x", "Y", options={"x": "Rome", "y": "Bonn"}) == "refuted"
    assert answered("choice", "A", "A", options=5) == "error"


@pytest.mark.parametrize(
    ("verifier", "entry", "reason"),
    [
        ("length", {"at_most": "few"}, "at_most has to be a whole number, and is 'few'"),
        ("choice", {"options": 5}, "options.list[str] has to be a list, and is 5 (and 1 more)"),
        ("format", {"sections": [1]}, "sections.0 has to be text, and is 1"),
        ("repetition", {"n": 0}, "n has to be 1 or more, and is 0"),
        ("code", {"cases": [{}]}, "cases.0.stdout is missing"),
    ],
)
def test_a_parameter_of_the_wrong_kind_is_told_in_one_line(
    verifier: str, entry: dict[str, Any], reason: str
) -> None:
    said = found(verifier, "Answer: x", "x", **entry)
    assert (said.state, said.reason) == ("error", f"in the entry, {reason}")


def test_a_pattern_is_searched_and_a_broken_one_is_our_fault() -> None:
    assert found("regex", "abc 42", pattern=r"\d+\Z").state == "verified"
    assert found("regex", "abc 42 ", r"\d+\Z").state == "refuted"
    assert found("regex", "abc").state == "not_applicable"
    assert found("regex", "abc", pattern="(").state == "error"


SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a": 1}', "verified"),
        ('  {"a": 1}\n', "verified"),
        ('```json\n{"a": 1}\n```', "verified"),
        ('Here: {"a": 1}', "refuted"),
        ('```json\n{"a": 1}\n```\nDone.', "refuted"),
        ('{"a": 1.5}', "refuted"),
        ("{}", "refuted"),
        ('{"a": NaN}', "refuted"),
        ("", "refuted"),
        ("[" * 100_000, "refuted"),
    ],
)
def test_json_is_the_whole_text_and_valid(text: str, wanted: str) -> None:
    assert found("json_schema", text, schema=SCHEMA).state == wanted


def test_a_schema_that_is_none_or_lies_elsewhere_is_no_verdict() -> None:
    assert found("json_schema", "1").state == "not_applicable"
    assert found("json_schema", "1", schema={"type": "intger"}).state == "error"
    elsewhere = found("json_schema", "1", schema={"$ref": "http://127.0.0.1:9/schema.json"})
    assert elsewhere.state == "error"
    assert "Unresolvable" in elsewhere.reason


@pytest.mark.parametrize(
    ("text", "entry", "wanted"),
    [
        ("<think>a</think>b", {"thinking": True}, "verified"),
        ("<think>a</think> ", {"thinking": True}, "refuted"),
        ("<think>a", {"thinking": True}, "refuted"),
        ("b <think>a</think> c", {"thinking": True}, "refuted"),
        ("<think>a</thinking>b", {"thinking": True}, "refuted"),
        ("<think>a</think><think>b</think>c", {"thinking": True}, "refuted"),
        ("# One\nx\n# Two\ny", {"sections": ["# One", "# Two"]}, "verified"),
        ("# Two\nx\n# One\ny", {"sections": ["# One", "# Two"]}, "refuted"),
        ("see # One", {"sections": ["# One"]}, "refuted"),
        ("x\nAnswer: 3\n\n", {"answer_line": "Answer:"}, "verified"),
        ("Answer: 3\nAnswer: 4", {"answer_line": "Answer:"}, "refuted"),
        ("Answer: 3\nor 4", {"answer_line": "Answer:"}, "refuted"),
        ("Answer:", {"answer_line": "Answer:"}, "refuted"),
        ("x", {}, "not_applicable"),
    ],
)
def test_form_is_what_the_entry_asks_for(text: str, entry: dict[str, Any], wanted: str) -> None:
    assert found("format", text, **entry).state == wanted


def test_length_counts_words_or_characters_limits_included() -> None:
    assert found("length", "one two", at_most=2).state == "verified"
    assert found("length", "one two three", at_most=2).state == "refuted"
    assert found("length", "one", at_least=2).state == "refuted"
    assert found("length", " abc ", unit="characters", at_least=3, at_most=3).state == "verified"
    assert found("length", "one").state == "not_applicable"
    assert found("length", "one", unit="pages", at_most=1).state == "error"


def test_repetition_is_the_share_of_n_grams_seen_before() -> None:
    assert repeated(list("abcabc"), 3) == pytest.approx(1 / 4)
    assert repeated(["a"], 4) == 0.0
    loop = found("repetition", "go on and on and on and on and on and on and on and on and on")
    assert loop.state == "refuted"
    assert loop.score is not None
    assert loop.score < 0.5
    assert found("repetition", "a" * 5000).state == "refuted"
    prose = found("repetition", (Path(__file__).parents[1] / "README.md").read_text()[:3000])
    assert prose.state == "verified"
    assert prose.score is not None
    assert prose.score > 0.9


GERMAN = "Der Hund lief am Abend durch den Wald und kam erst in der Nacht wieder nach Hause."


def test_a_language_is_told_or_left_open() -> None:
    assert found("language", GERMAN, language="de").state == "verified"
    assert found("language", GERMAN, language="en").state == "refuted"
    assert found("language", "\u4eca\u5929\u5929\u6c14\u5f88\u597d" * 9, language="zh").state == (
        "verified"
    )
    assert found("language", "Hund", language="de").state == "unparsed"
    assert found("language", GERMAN, language="xx").state == "not_applicable"
    assert found("language", GERMAN).state == "not_applicable"
    mixed = "The dog ran through the forest. Der Hund lief durch den Wald nach Hause."
    assert len({found("language", mixed, language="de").reason for _ in range(5)}) == 1


def test_similarity_is_rouge_l() -> None:
    # Worked in section 3.1 of Lin 2004, with beta = 1: LCS of 3 and of 2 in sentences of 4.
    reference = "police killed the gunman"
    assert found("similarity", "police kill the gunman", reference).score == pytest.approx(3 / 4)
    assert found("similarity", "the gunman kill police", reference).score == pytest.approx(2 / 4)
    assert common("abcbdab", "bdcaba") == 4
    assert rouge_l([], ["a"]) == 0.0
    assert found("similarity", "The police", reference, at_least=0.2).state == "verified"
    assert found("similarity", "The police", reference, at_least=0.9).state == "refuted"
    assert found("similarity", reference * 50, reference).state == "refuted"
    assert found("similarity", "x").state == "not_applicable"
    assert found("similarity", "x", "...").state == "not_applicable"


Instruction = tuple[str, dict[str, Any]]


def instructions(text: str, *asked: Instruction, **more: Any) -> Verification:
    ids, kwargs = zip(*asked, strict=True)
    return found("constraints", text, instruction_id_list=[*ids], kwargs=[*kwargs], **more)


def test_instructions_are_followed_in_part_or_whole() -> None:
    no_comma: Instruction = ("punctuation:no_comma", {})
    short = ("length_constraints:number_words", {"num_words": 5, "relation": "less than"})
    ifbench = ("count:numbers", {"N": 2, "keyword": None})
    assert instructions("a 1 and 2", no_comma, short, ifbench).state == "verified"
    part = instructions("a, 1 and 2", no_comma, short)
    assert (part.state, part.score) == ("refuted", 0.5)
    assert part.reason == "not followed: punctuation:no_comma"
    empty = instructions("<think>a b</think>", no_comma)
    assert (empty.state, empty.score) == ("refuted", 0.0)
    starred: Instruction = ("startend:quotation", {})
    assert instructions('*"said"*', starred).state == "refuted"
    assert instructions('*"said"*', starred, loose=True).state == "verified"


def test_instructions_that_cannot_be_checked_are_never_scored() -> None:
    for asked in (
        ("punctuation:no_dots", {}),
        ("length_constraints:number_words", {"num_words": 5}),  # would be drawn at random
        ("length_constraints:number_words", {"num_words": 5, "relation": None}),
    ):
        unfit = instructions("a b", asked)
        assert (unfit.state, unfit.score) == ("not_applicable", None)
    assert found("constraints", "a").state == "not_applicable"
    # The checker takes a text without a language for one in the right language.
    assert instructions("123 456", ("language:response_language", {"language": "en"})).state == (
        "unparsed"
    )


def test_without_nltks_data_its_checkers_say_so(tmp_path: Path) -> None:
    import nltk

    before, nltk.data.path[:] = [*nltk.data.path], [str(tmp_path)]
    try:
        # A kind of text that gets each checker as far as the data.
        text = "The cat sat on a mat and then it ran far away from there. It was gone."
        given: dict[str, dict[str, Any]] = {
            "length_constraints:number_sentences": {"num_sentences": 2, "relation": "at least"},
            "change_case:capital_word_frequency": {
                "capital_frequency": 1,
                "capital_relation": "at least",
            },
            "ratio:stop_words": {"percentage": 10},
            "words:words_position": {"keyword": "cat"},
            "words:keywords_specific_position": {"keyword": "cat", "n": 1, "m": 2},
            "words:start_verb": {},
            "format:title_case": {},
        }
        assert set(given) == constraints.NEED_DATA
        for name, kwargs in given.items():
            lacking = instructions(text, (name, kwargs))
            assert (lacking.state, lacking.score) == ("not_applicable", None), (name, lacking)
            assert "NLTK" in lacking.reason
    finally:
        nltk.data.path[:] = before


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_no_rule_fails_on_text_that_is_odd(name: str) -> None:
    """No reference, no entry, and characters that break parsers: a state that is no error."""
    for text in ("", "\0", "Answer: \0", "Answer: {[(", "\u202e\ufeff", "Answer: \\", "-\n" * 50):
        said = found(name, text)
        assert said.state in ("not_applicable", "unparsed", "verified", "refuted"), (text, said)
        json.dumps(said.model_dump())
    half = found(name, "Answer: \ud800")
    assert half.state == "unparsed"
    if VERIFIERS[name].whole:
        assert found(name, "x" * (MAX_TEXT_CHARACTERS + 1)).state == "unparsed"


# --- Other people's -----------------------------------------------------------------------------

THEIRS = """
from judges.records import Verification

VERSION = "2b"
WHOLE = True
DEADLINE_S = 9

def polite(text, reference, entry):
    state = "verified" if "please" in text else "refuted"
    return Verification(state=state, reason=entry.get("why", "because"))

def broken(text, reference, entry):
    raise RuntimeError("their bug")

LIST = []
"""


def test_other_peoples_verifiers_are_named_by_module_and_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_rules.py").write_text(THEIRS)
    (tmp_path / "their_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert versioned("their_rules:polite") == "their_rules:polite/2b"
    assert find("their_rules:polite").deadline_s == 9
    assert found("their_rules:polite", "please", why="manners").reason == "manners"
    assert found("their_rules:polite", "now").state == "refuted"
    assert found("their_rules:broken", "now").state == "error"
    for name, said in {
        "their_rulez:polite": "cannot be imported: ModuleNotFoundError",
        "their_broken:polite": "cannot be imported: ZeroDivisionError",
        "their_rules:rude": "no callable 'rude'",
        "their_rules:LIST": "no callable 'LIST'",
        ":polite": "cannot be imported: ValueError",
    }.items():
        with pytest.raises(VerifierError, match=said):
            versioned(name)
