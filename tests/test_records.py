"""Records: what they say decides their id, and nothing else does."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from teachers.records import Call, Message, Prompt, Sample, Sampling, content_id, sample_id

PROMPT = Prompt(task="chain_sum", question="What is 12 + 7?", reference="19")
CALL = Call(
    weights="a" * 64,
    messages=(Message(role="user", content="What is 12 + 7?"),),
    sampling=Sampling(n=4, temperature=0.8, max_tokens=64),
)


def test_ids_never_change_between_releases() -> None:
    # An id that moves makes every stored call unknown, and all of it is paid again.
    assert PROMPT.id == "a23a7f11ffa92b740c517a76a4a196687e26a813a12a505e5b70ad53096a0271"
    assert CALL.id == "a55ed318e35d33cd8253a54c00a2503b17f13969e6a2436a12f1c385ccf71605"


def test_ids_are_the_same_in_another_process() -> None:
    say = "from tests.test_records import CALL, PROMPT; print(CALL.id, PROMPT.id)"
    said = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [CALL.id, PROMPT.id]


def test_content_ids_do_not_depend_on_the_order_of_keys() -> None:
    assert content_id("x", {"a": 1, "b": [1, 2]}) == content_id("x", {"b": [1, 2], "a": 1})
    assert content_id("x", [1, 2]) != content_id("x", [2, 1])
    assert content_id("x", "same") != content_id("y", "same")


def test_content_ids_tell_text_from_numbers_and_refuse_nan() -> None:
    assert content_id("x", "1") != content_id("x", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_id("x", float("nan"))


def test_content_ids_take_any_text() -> None:
    assert len({content_id("x", text) for text in ("", "\0", "ü", "u\u0308", "\ud800")}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "b" * 64},
        {"repeat": 1},
        {"messages": (Message(role="system", content="What is 12 + 7?"),)},
        {"messages": (Message(role="user", content="What is 12 + 8?"),)},
        {"messages": CALL.messages * 2},
        *(
            {"sampling": CALL.sampling.model_copy(update=one)}
            for one in ({"n": 5}, {"temperature": 0.9}, {"top_p": 0.5}, {"max_tokens": 65})
        ),
        {"sampling": CALL.sampling.model_copy(update={"stop": ("\n",)})},
    ],
    ids=str,
)
def test_each_field_of_a_call_changes_its_id(change: dict[str, object]) -> None:
    assert CALL.model_copy(update=change).id != CALL.id


@pytest.mark.parametrize(
    "change",
    [{"task": "x"}, {"question": "x"}, {"reference": "x"}, {"verifier": "x"}, {"entry": {"a": 1}}],
    ids=str,
)
def test_each_field_of_a_prompt_changes_its_id(change: dict[str, object]) -> None:
    assert PROMPT.model_copy(update=change).id != PROMPT.id


def test_a_call_survives_json() -> None:
    assert Call.model_validate_json(CALL.model_dump_json()).id == CALL.id


def test_sample_ids_are_known_before_the_call() -> None:
    sample = Sample(call_id=CALL.id, position=2, text="19", finish_reason="stop")
    assert sample.id == sample_id(CALL.id, 2)
    assert len({sample_id(CALL.id, position) for position in range(64)}) == 64


def test_records_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        setattr(PROMPT, "task", "other")  # noqa: B010 (mypy refuses the plain assignment)
    with pytest.raises(ValidationError):
        Prompt.model_validate({"task": "x", "question": "y", "qestion": "z"})


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": 65}, {"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}], ids=str
)
def test_sampling_has_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Sampling.model_validate(wrong)


def test_there_is_no_seed() -> None:
    assert "seed" not in json.loads(CALL.model_dump_json())["sampling"]
