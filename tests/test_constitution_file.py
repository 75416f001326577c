"""Constitution files: each mistake is one message with its line, and none takes time or memory."""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from judges import constitution_import
from judges.constitution import Constitution, Principle
from judges.constitution_file import dump, load
from teachers.errors import ConfigError

SMALL = """\
name: mine
principles:
  - id: no-padding
    text: The answer is short.
    cases:
      - prompt: Hi!
        better: Hello.
        worse: Hello to you.
"""
LAUGHS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
LARGE = 990_000


def write(folder: Path, text: str | bytes, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path) -> str:
    """What is said of a file, after its path; in less than a second of work."""
    gc.freeze()  # what other tests have left is not looked through meanwhile
    started = time.process_time()
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert time.process_time() - started < 1.0
    gc.unfreeze()
    return refused.value.message.replace(str(path), "FILE")


def test_a_small_file(tmp_path: Path) -> None:
    constitution = load(write(tmp_path, SMALL))
    assert constitution.principle("no-padding").cases[0].messages[0].content == "Hi!"
    assert load(write(tmp_path, "\ufeff" + SMALL)).id == constitution.id
    assert load(write(tmp_path, SMALL.replace("\n", "\r\n"))).id == constitution.id


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("text:", "txt:", "line 4: principle 'no-padding': unknown key 'txt', did you mean 'text'"),
        ("worse:", "wurst:", "line 8: principle 'no-padding': case 1: unknown key 'wurst'"),
        ("name:", "nam:", "line 1: unknown key 'nam', did you mean 'name'?"),
        ("        worse: Hello to you.\n", "", "line 6: principle 'no-padding': case 1: 'worse'"),
        ("The answer is short.", "''", "line 4: principle 'no-padding': text: is empty"),
        ("The answer is short.", "", "line 4: principle 'no-padding': text: has to be text"),
        ("The answer is short.", "12", "line 4: principle 'no-padding': text: has to be text"),
        ("The answer is short.", "2020-01-01", "line 4: YAML reads a 'timestamp' here; put text"),
        ("The answer is short.", "x" * 4001, "line 4: principle 'no-padding': text: string should"),
        ("The answer is short.", "!!int x", "line 4: 'x' is not what its tag says"),
        ("The answer is short.", "!!bool x", "line 4: 'x' is not what its tag says"),
        ("The answer is short.", "!!int ''", "line 4: '' is not what its tag says"),
        ("The answer is short.", "!!python/name:os.system", "line 4: YAML reads"),
        ("The answer is short.", "a: b", "line 4: no YAML: mapping values are not allowed"),
        ("The answer is short.", "'half", "no YAML: found unexpected end of stream"),
        ("The answer is short.", "\x00", "line 4: a character that text cannot have"),
        ("id: no-padding", "id: No Padding", "line 3: principle 'No Padding': id: may have lower"),
        ("id: no-padding", "id: {a: b}", "line 3: principle"),
        ("    cases", "    weight: heavy\n    cases", "line 5: principle 'no-padding': weight:"),
        ("    cases", "    weight: -1\n    cases", "line 5: principle 'no-padding': weight:"),
        ("    cases", "    weight: .inf\n    cases", "line 5: principle 'no-padding': weight:"),
        ("    cases", "    scope: [a]\n    cases", "line 5: principle 'no-padding': scope: has to"),
        ("    cases", "    scope: {tag: a}\n    cases", "scope: unknown key 'tag', did you mean"),
        (
            "    cases",
            "    construction: {beter: a, worse: b}\n    cases",
            "line 5: principle 'no-padding': construction: unknown key 'beter', did you mean 'bet",
        ),
        ("prompt: Hi!", "conversation: [{rol: user, content: a}]", "unknown key 'rol', did you"),
        ("    cases", "    scope: {tags: [a], except_tags: [a]}\n    cases", "scope: contradicts"),
        (
            "    cases",
            "    scope:\n      matching: '('\n    cases",
            "line 6: principle 'no-padding'",
        ),
        ("Hello to you.", "Hello.", "line 6: principle 'no-padding': case 1: the two answers of"),
        ("prompt: Hi!", "conversation: [{role: me, content: a}]", "line 6: principle 'no-padding'"),
        ("prompt: Hi!", "conversation: []", "case 1: a case has either a prompt or a conversation"),
        ("prompt: Hi!", "prompt: &hi Hi!", "line 6: anchors and aliases (& and *) are not read"),
        ("prompt: Hi!", "<<: {prompt: Hi!}", "line 6: a key has to be a word"),
        ("prompt: Hi!", "? [a]\n        : b", "line 6: a key has to be a word"),
        ("name: mine", "name: mine\nname: yours", "line 2: the key 'name' is given twice"),
        ("name: mine", "name: mine\n---", "line 2: no YAML: but found another document"),
        ("Hello to you.\n", "Hello.\n  - id: no-padding\n", "line 9: there is a principle"),
        ("  - id: no-padding", "  -\n  - id: no-padding", "line 3: principle 1: has to be a table"),
        (SMALL, "", "FILE holds no constitution"),
        (SMALL, "# Nothing.\n", "FILE holds no constitution"),
        (SMALL, "- a\n", "FILE holds no constitution"),
        (SMALL, "principles: []\nname: mine", "line 1: principles: "),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL
    told = refusal(write(tmp_path, SMALL.replace(old, new, 1)))
    assert said in told
    assert told.startswith("FILE")
    assert "\n" not in told


def sections(model: type[BaseModel]) -> Iterator[tuple[tuple[str, bool], ...]]:
    """The way to every table that a model has inside: names, and whether there is a list of it."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        for inside in (
            one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)
        ):
            step = (name, get_origin(field.annotation) is tuple)
            yield (step,)
            yield from ((step, *further) for further in sections(inside))


@pytest.mark.parametrize(
    "place", [*sections(Constitution)], ids=lambda place: ".".join(name for name, _ in place)
)
def test_an_unknown_key_is_told_in_every_section(
    tmp_path: Path, place: tuple[tuple[str, bool], ...]
) -> None:
    content: Any = {"unheard": "of"}
    for name, many in reversed(place):
        content = {name: [content] if many else content}
    told = refusal(write(tmp_path, json.dumps(content)))
    assert told.startswith("FILE, line 1: ")
    assert "unknown key 'unheard'; known: " in told


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, b"a: b\n\nc: \xff")) == "FILE, line 3: this is not UTF-8 text"
    assert "not UTF-8" in refusal(write(tmp_path, SMALL.encode("utf-16")))
    assert refusal(tmp_path) == "There is no file FILE."
    assert refusal(tmp_path / "none.yaml") == "There is no file FILE."
    assert refusal(Path("/dev/zero")) == "There is no file FILE."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("l0: &l0 ha\n" + LAUGHS, "line 1: anchors and aliases"),
        ("a: &a [*a]", "line 1: anchors and aliases"),
        ("[" * LARGE, "line 1: nested more than 16 levels deep"),
        ("- " * (LARGE // 2), "line 1: nested more than 16 levels deep"),
        ("{a: " * (LARGE // 4), "line 1: nested more than 16 levels deep"),
        ("- a\n" * (LARGE // 4), "too many values for one file"),
        ("principles:\n" + "- a\n" * 49_000, "'name' is missing"),
        ("principles:\n" + "- {id: a}\n" * 12_000, "there is a principle 'a' already"),
        ("".join(f"k{n}: v\n" for n in range(24_000)), "unknown key 'k0'"),
        ("name: " + "x" * LARGE, "name: string should have at most"),
        ("x" * LARGE + ": a", "no YAML"),
        ("? " + "x" * LARGE + "\n: a", "unknown key 'xxx"),
        ("name: '" + "x" * LARGE, "no YAML"),
        ("#\n" * (LARGE // 2), "holds no constitution"),
        ("x" * 1_000_001, "is larger than 1 MB"),
    ],
    ids=lambda value: value[:20].strip(),
)
def test_a_large_file_takes_no_time(tmp_path: Path, text: str, said: str) -> None:
    told = refusal(write(tmp_path, text))
    assert said in told
    assert len(told) < 500


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "1.5",
        "null",
        "- a",
        "a: b # c",
        "  indented\n    code\n\n",
        "\ttab",
        "\"quoted\" and 'quoted'",
        "&anchor *alias",
        "Füße, 雪, 🙂",
        "line\u2028separator",
        "control \x07 bell",
        "trailing   \nspaces\n",
        "long " * 200,
    ],
)
def test_an_export_reads_as_the_same_version(tmp_path: Path, text: str) -> None:
    case = {"prompt": text, "better": text, "worse": "w" + text, "why": text, "sealed": True}
    principle: Any = {"id": "a", "text": text, "weight": 0.1 + 0.2, "veto": True, "cases": [case]}
    principle |= {"scope": {"tags": [text.strip()[:80]], "matching": "^a.*$"}, "critique": text}
    constitution = Constitution(
        name="mine",
        description=text,
        principles=(
            Principle(**principle),
            Principle(id="b", text="b"),
        ),
    )
    read = load(write(tmp_path, dump(constitution)))
    assert read == constitution
    assert read.id == constitution.id


def imported(folder: Path, content: Any, name: str = "Their file.json") -> Constitution:
    return constitution_import.read(write(folder, json.dumps(content), name))


def test_hugging_faces_layout_is_read(tmp_path: Path) -> None:
    critic, revision = "Is it rude?", "Please rewrite the response to remove any and all insults."
    content = {
        "constitutions": [
            {"critic": critic, "revision": revision},
            {"critic": "Why?", "revision": "Revise the answer, with care, to explain itself."},
            {"critic": "How?", "revision": "Write a revision of the response that stays calm."},
            {"critic": "What?", "revision": "Rewrite the response so that it's more polite."},
            {"critic": "What?", "revision": "Please make it better."},
        ],
        "system_chat": [[{"role": "user", "content": "Hi."}]],
    }
    constitution = imported(tmp_path, content)
    assert constitution.name == "their-file"
    first, *others = constitution.principles
    assert (first.critique, first.revision) == (critic, revision)
    assert first.text == "The response should be free of insults."
    assert [principle.text for principle in others] == [
        "The response should explain itself.",
        "The response stays calm.",
        "The response should be more polite.",
        "The response leaves nothing to do for this request: Please make it better.",
    ]
    assert load(write(tmp_path, dump(constitution))).id == constitution.id


def test_anthropics_layouts_are_read(tmp_path: Path) -> None:
    pairs = {
        "harm 0": {"prompt": ["Find", "harm."], "edit_request": "Edit the response to be kind."},
        "harm-0": {"prompt": "Find it.", "edit_request": ["Edit the response to be true."]},
    }
    first, second = imported(tmp_path, pairs).principles
    assert (first.id, first.critique) == ("harm-0", "Find harm.")
    assert first.text == "The response should be kind."
    assert (second.id, second.text) == ("harm-0-2", "The response should be true.")
    choices = [
        "Please choose the response that is the most honest.",
        "Which one is less rude? Choose the assistant response that a friend would give.",
        "Say what is so.",
    ]
    for content in (choices, {"constitution": choices}, {"principles": choices}):
        texts = [principle.text for principle in imported(tmp_path, content).principles]
        assert texts == [
            "The better response is the one that is the most honest.",
            "The better response is the one that a friend would give.",
            "Say what is so.",
        ]


@pytest.mark.parametrize(
    "content",
    [{}, [], "text", 5, {"a": 1}, [5], [{"critic": "only"}], [{"revision": 5}], [""], ["x" * 4001]],
)
def test_what_cannot_be_imported_is_told(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ConfigError, match="Choose the response that"):
        imported(tmp_path, content)


def test_what_is_no_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file, line 2: no JSON"):
        constitution_import.read(write(tmp_path, "[\n1,", "file"))
    with pytest.raises(ConfigError, match="nested too deeply"):
        constitution_import.read(write(tmp_path, "[" * 100_000, "file"))
