"""Constitutions as records: what names them, what they may say, what an edit of them means."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from judges.constitution import Case, Constitution, Principle, Scope, in_scope
from judges.constitution_diff import Change, diff
from judges.constitution_lint import lint
from teachers.errors import ConfigError
from teachers.records import Message

Edit = Callable[[Constitution], Constitution]
CASE = Case(prompt="Why is the sky blue?", better="It scatters blue light.", worse="It just is.")


def case(number: int, longer: bool, sealed: bool) -> Case:
    """A case whose better answer is the longer one, or not."""
    long, short = "It does so for a good reason.", "It does."
    better, worse = (long, short) if longer else (short, long)
    return Case(prompt=f"Question {number}?", better=better, worse=worse, sealed=sealed)


def principle(**fields: Any) -> Principle:
    balanced = tuple(case(n, longer=n % 4 < 2, sealed=bool(n % 2)) for n in range(20))
    return Principle(**{"id": "short", "text": "The answer is short.", "cases": balanced, **fields})


OTHER = principle(id="kind", text="The answer is kind.")
BEFORE = Constitution(name="mine", principles=(principle(), OTHER))


def edited(**fields: Any) -> Edit:
    """Changes the first principle."""
    return lambda old: old.model_copy(
        update={"principles": (principle(**fields), *old.principles[1:])}
    )


def refusal(of: Callable[[], object]) -> str:
    with pytest.raises(ValidationError) as refused:
        of()
    return str(refused.value)


def test_a_constitution_is_named_by_everything_that_it_says() -> None:
    assert BEFORE.id == Constitution.model_validate_json(BEFORE.model_dump_json()).id
    others = {BEFORE.model_copy(update={"name": "yours"}).id, edited(weight=2.0)(BEFORE).id}
    assert len({BEFORE.id, *others}) == 3


def test_a_verdict_belongs_to_the_text_and_not_to_how_it_is_wrapped() -> None:
    text = principle().text_id
    assert principle(text=" The answer\n  is short. ").text_id == text
    assert principle(id="other", weight=0.5, veto=True, cases=()).text_id == text
    assert principle(text="The answer is long.").text_id != text


def test_a_principle_is_found_by_its_id() -> None:
    assert BEFORE.principle("kind") is OTHER
    for id, hint in (("kinds", "Did you mean 'kind'"), ("xyz", "There are: short, kind")):
        with pytest.raises(ConfigError, match=hint):
            BEFORE.principle(id)


def test_a_case_is_a_prompt_or_a_conversation() -> None:
    assert CASE.messages == (Message(role="user", content="Why is the sky blue?"),)
    turns = (
        Message(role="user", content="Hi."),
        Message(role="assistant", content="Hello."),
        Message(role="user", content="Why?"),
    )
    assert Case(conversation=turns, better="So.", worse="No.").messages == turns
    for wrong, said in (
        ({"prompt": "", "conversation": ()}, "either a prompt or a conversation"),
        ({"prompt": "Hi.", "conversation": turns}, "either a prompt or a conversation"),
        ({"conversation": turns[:2]}, "ends with the user's turn"),
        ({"conversation": (Message(role="user", content=" "),)}, "is empty"),
        ({"prompt": "Hi.", "worse": " so.\n"}, "the two answers of a case are the same"),
        ({"prompt": "Hi.", "worse": "x" * 20_001}, "at most 20000 characters"),
    ):
        fields: dict[str, Any] = {"better": "so.", "worse": "no.", **wrong}
        assert said in refusal(lambda fields=fields: Case(**fields))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": " \n"}, "at least 1 character"),
        ({"text": "x" * 4001}, "at most 4000 characters"),
        ({"text": "half a pair: \ud800"}, "valid string"),
        ({"id": "No Spaces"}, "should match pattern"),
        ({"weight": -1}, "greater than or equal to 0"),
        ({"weight": float("nan")}, "finite number"),
        ({"weight": "1"}, "valid number"),
        ({"veto": "yes"}, "valid boolean"),
        ({"txt": "no such field"}, "not permitted"),
    ],
)
def test_what_a_principle_may_not_say(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: principle(**fields))


def test_principles_have_ids_of_their_own() -> None:
    twins = (principle(), principle(text="The answer is brief."))
    assert "called 'short'" in refusal(lambda: Constitution(name="mine", principles=twins))
    assert "principles" in refusal(lambda: Constitution(name="mine", principles=()))


def test_principles_are_in_scope_by_question_and_tags() -> None:
    law = Principle(id="law", text="It is lawful.", scope=Scope(tags=("law",)))
    proof = Principle(id="proof", text="It is proved.", scope=Scope(matching="proof"))
    every = Principle(id="every", text="It is good.")
    assert in_scope([law, proof, every], "A proof, please.") == [proof, every]
    assert in_scope([law, proof, every], "A sum, please.", ["law"]) == [law, every]


def test_a_scope_says_which_prompts_it_covers() -> None:
    assert Scope().covers("anything", [])
    scope = Scope(tags=("code", "maths"), except_tags=("homework",), matching="(?i)proof")
    assert scope.covers("A PROOF, please.", ["maths"])
    assert not scope.covers("A sum, please.", ["maths"])
    assert not scope.covers("A proof, please.", ["poetry"])
    assert not scope.covers("A proof, please.", ["maths", "homework"])
    assert scope.in_words == "tags: code, maths; not: homework; matching '(?i)proof'"
    assert Scope().in_words == "all prompts"


def test_a_scope_that_searches_for_ever_is_refused() -> None:
    slow = Scope(matching="(a|a)+$")
    assert slow.covers("a", [])
    with pytest.raises(ConfigError, match="takes longer than 1 s on the prompt 'aaa"):
        slow.covers("a" * 40 + "!", [])


def test_a_scope_does_not_contradict_itself() -> None:
    told = refusal(lambda: Scope(tags=("code", "maths"), except_tags=("maths",)))
    assert "'maths' is wanted and excepted" in told
    assert "no regular expression" in refusal(lambda: Scope(matching="(half"))


@pytest.mark.parametrize(
    "explodes",
    [
        "(?:(?:(?:a{1000}){1000}){1000}){1000}",
        "(?:" * 60 + "a" + "+)" * 60,
        "(?:" * 50 + "a" + "{1,2})" * 50,
        "(?:" + "(?:ab|cd)" * 50 + "){10000}",
    ],
)
def test_a_scope_that_would_take_all_memory_is_refused(explodes: str) -> None:
    """Compiling one of these ends the process."""
    assert "repeats too often" in refusal(lambda: Scope(matching=explodes))


def test_a_scope_may_repeat_what_people_repeat() -> None:
    phrases = "|".join(rf"say\s+{n}\s+times" for n in range(20))
    for pattern in (
        rf"(?i)\b({phrases})\b",
        r"^.{2000,}$",
        r"(\d{4})-(\d{2})-(\d{2})",
        r"(\w+\s+)+$",
    ):
        assert not Scope(matching=pattern).covers("Hi!")


@pytest.mark.parametrize(
    ("edit", "changes"),
    [
        (edited(), []),
        (edited(text="It is brief."), [("reworded", "The answer is short.", "It is brief.")]),
        (edited(weight=2), [("reweighted", "1.0", "2.0")]),
        (edited(veto=True), [("veto", "false", "true")]),
        (edited(scope={"tags": ["code"]}), [("rescoped", "all prompts", "tags: code")]),
        (edited(critique="How long?"), [("requests", "critique: ", "critique: How long?")]),
        (edited(opposite="It is long."), [("requests", "opposite: ", "opposite: It is long.")]),
    ],
)
def test_an_edit_is_told_by_principle(edit: Edit, changes: list[tuple[str, str, str]]) -> None:
    after = edit(BEFORE)
    found = diff(BEFORE, after)
    assert [(one.kind, one.old, one.new) for one in found] == changes
    assert {one.principle for one in found} <= {"short"}
    assert (found == []) == (after.id == BEFORE.id)


def test_an_edit_of_the_whole_is_told() -> None:
    third = principle(id="third", text="The answer is true.")
    after = Constitution(name="ours", description="All.", principles=(third, *BEFORE.principles))
    assert diff(BEFORE, after) == [
        Change("renamed", "", "mine", "ours"),
        Change("described", "", "", "All."),
        Change("added", "third", "", "The answer is true.", asks_again=True),
    ]
    assert [one.kind for one in diff(after, BEFORE)] == ["renamed", "described", "removed"]
    turned = BEFORE.model_copy(update={"principles": BEFORE.principles[::-1]})
    assert diff(BEFORE, turned) == [Change("reordered", "", "short, kind", "kind, short")]


def test_changed_cases_are_counted() -> None:
    first, second, *rest = principle().cases
    why = first.model_copy(update={"why": "It says less."})
    cases = (why, *rest, CASE, CASE.model_copy(update={"prompt": "And green?"}))
    (change,) = diff(BEFORE, edited(cases=cases)(BEFORE))
    assert (change.kind, change.old) == ("cases", "20 cases")
    assert change.new == "21 cases: 2 added, 1 removed, 1 changed"
    (change,) = diff(BEFORE, edited(cases=(second, first, *rest))(BEFORE))
    assert change.new == "20 cases: in another order"


def test_only_another_text_asks_judges_again() -> None:
    after = edited(text="It is brief.", weight=2, veto=True, critique="How?", cases=())(BEFORE)
    assert [one.kind for one in diff(BEFORE, after) if one.asks_again] == ["reworded"]
    called = edited(id="brief")(BEFORE)
    found = diff(BEFORE, called)
    assert [(one.kind, one.asks_again) for one in found] == [("removed", False), ("added", False)]


def test_nothing_is_weak_about_a_balanced_principle() -> None:
    assert lint(BEFORE) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "Never be long."}, "begins with what is forbidden"),
        ({"text": "word " * 61}, "is 61 words long"),
        ({"cases": ()}, "has no cases"),
        ({"cases": principle().cases[:16]}, "has 16 cases"),
        (
            {"cases": tuple(case(n, n % 2 == 0, sealed=False) for n in range(20))},
            "0 of 20 cases are sealed",
        ),
        (
            {"cases": tuple(case(n, n % 2 == 0, sealed=n % 2 == 0) for n in range(20))},
            "longer one in 100% of the sealed cases",
        ),
        ({"cases": (*principle().cases, principle().cases[0])}, "2 cases ask the same"),
    ],
)
def test_what_is_weak_is_told(fields: dict[str, Any], said: str) -> None:
    found = [str(weakness) for weakness in lint(edited(**fields)(BEFORE))]
    assert any(line.startswith("short: ") and said in line for line in found), found


def test_a_constitution_that_decides_nothing_is_weak() -> None:
    nothing = Constitution(name="mine", principles=(principle(weight=0),))
    assert "decides nothing" in str(lint(nothing)[0])
    assert not lint(Constitution(name="mine", principles=(principle(weight=0, veto=True),)))
