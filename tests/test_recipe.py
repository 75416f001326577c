"""Recipes: every mistake is told with its place, every field is explained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.recipe import Generator, Recipe
from pipelines.recipe_file import fields, load
from teachers.errors import ConfigError

DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"
SMALL = """
name: small
supply:
  generators:
    - generator: chain_sum
"""

GRPO = {"train": {"objective": "grpo"}}
SHORT = {"name": "short", "verifier": "length"}


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as refused:
        load(write(folder, text))
    return refused.value.message


def changed(**sections: Any) -> str:
    return yaml.safe_dump({**yaml.safe_load(SMALL), **sections})


def test_the_demos_recipe_is_valid_and_its_examples_are_of_its_tasks() -> None:
    demo = load(DEMO)
    assert demo.name == "demo"
    assert set(demo.teacher.examples) <= set(demo.supply.tasks)
    held_out = sum(source.held_out for source in demo.supply.sources)
    assert held_out >= demo.gate.min_items >= 250


def test_a_few_lines_are_enough() -> None:
    recipe = Recipe.model_validate(yaml.safe_load(SMALL))
    assert recipe.supply.tasks == ["chain_sum"]
    assert recipe.student.weights.startswith("packaged:")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_every_default_is_valid() -> None:
    # Defaults are not validated when a model is made; what they say is, once it is read again.
    recipe = Recipe.model_validate(yaml.safe_load(changed(supply={"files": [{"path": "a"}]})))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    both = recipe.model_dump(mode="json")
    both["supply"]["generators"] = [Generator(generator="chain_sum").model_dump(mode="json")]
    Recipe.model_validate(both)


def test_every_field_is_explained() -> None:
    told = list(fields())
    names = [field.name for field in told]
    assert "supply.generators[].train" in names
    assert "gate.min_gain_lenient" in names
    assert [field.name for field in told if not field.help] == []
    assert [field.name for field in told if field.default == "required"] == [
        "name",
        "supply",
        "supply.generators[].generator",
        "supply.files[].path",
        "rewards[].name",
        "rewards[].verifier",
        "watched[].name",
        "watched[].verifier",
        "reward_model.weights",
    ]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"teachr": {}}, "teachr: unknown; did you mean 'teacher'?"),
        ({"train": {"epoch": 2}}, "train.epoch: unknown; did you mean 'epochs'?"),
        (
            {"supply": {"generators": [{"generator": "chain_sum", "trian": 5}]}},
            "supply.generators[].trian: unknown; did you mean 'train'?",
        ),
        (
            {"supply": {"files": [{"path": "a.jsonl", "qestion": "q"}]}},
            "supply.files[].qestion: unknown; did you mean 'question'?",
        ),
        (
            {"teacher": {"sampling": {"temprature": 1}}},
            "teacher.sampling.temprature: unknown; did you mean 'temperature'?",
        ),
        (
            {"teacher": {"examples": {"chain_sum": [{"question": "q", "anser": "a"}]}}},
            "teacher.examples.chain_sum[].anser: unknown; did you mean 'answer'?",
        ),
        (
            {"rewards": [{**SHORT, "entri": {"at_most": 3}}]},
            "rewards[].entri: unknown; did you mean 'entry'?",
        ),
        (
            {**GRPO, "rewards": [{**SHORT, "entry": {"at_mots": 3}}]},
            "entry of the term 'short': length has no parameter 'at_mots'; did you mean 'at_most'?",
        ),
        (
            {**GRPO, "rewards": [{**SHORT, "entry": {"at_most": "few"}}]},
            "entry of the term 'short': length: at_most has to be a whole number, and is 'few'",
        ),
        ({"build": {"zzz": 1}}, "build.zzz: unknown; known: per_prompt, minimum"),
    ],
)
def test_an_unknown_key_gets_the_nearest_name_at_any_depth(
    tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    assert told in refusal(tmp_path, changed(**sections))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"name": "No Spaces"}, "name: "),
        ({"train": {"epochs": 0}}, "train.epochs: "),
        ({"train": {"adapter": "lore"}}, "train.adapter: "),
        ({"gate": {"alpha": "small"}}, "gate.alpha: "),
        ({"gate": {"length": "shorter"}}, "gate.length is about answers to open requests"),
        ({"supply": {"held_out_share": 1.0}}, "supply.held_out_share: "),
        ({"supply": {}}, "supply: needs at least one generator or file"),
        (
            {"supply": {"generators": [{"generator": "a"}, {"generator": "b", "name": "a"}]}},
            "supply: two tasks are called 'a'",
        ),
        ({"teacher": {"url": "http://x"}}, "teacher: has a url but no model"),
        ({"teacher": {"url": "http://x", "model": "m", "weights": "w"}}, "teacher: has both"),
        (
            {"teacher": {"examples": {"chain_sums": [{"question": "q", "answer": "a"}]}}},
            "recipe: teacher.examples names 'chain_sums', which no task is called",
        ),
        ({"train": None}, "train: "),
        ({"train": {"epochs": True}}, "train.epochs: has to be a number, and YAML reads true"),
        ({"gate": {"max_kl": True}}, "gate.max_kl: has to be a number"),
        ({1: 2}, "1"),
    ],
)
def test_a_value_that_may_not_be_is_told_with_its_place(
    tmp_path: Path, sections: dict[Any, Any], told: str
) -> None:
    text = yaml.safe_dump({**yaml.safe_load(SMALL), **sections})
    assert told in refusal(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, changed(train={"epoch": 2, "rank": 0}, gate={"alpha": 2}))
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [small\nsupply: {", "line 2"),
        ("name: a\n\tsupply: 1", "line 2"),
        ("name: \x00", "a character that text cannot have"),
        ("!!python/object/apply:os.system ['true']", "YAML reads"),
        ("name: !!bool maybe", "line 1: 'maybe' is not what its tag says"),
        ("name: 0x_", "line 1: '0x_' is not what its tag says"),
        ("gate: {alpha: 2026-13-45}", "line 1: YAML reads a 'timestamp' here"),
        ("a: &c {x: *c}", "line 1: anchors and aliases"),
        ("train: {epochs: 1}\ntrain: {rank: 2}", "line 2: the key 'train' is given twice"),
        ("[" * 3000, "nested more than"),
        ("", "holds no recipe"),
        ("- a\n- b", "holds no recipe"),
        ("just words", "holds no recipe"),
        (b"name: caf\xe9", "this is not UTF-8 text"),
    ],
)
def test_what_is_no_recipe_is_told_in_one_line(
    tmp_path: Path, text: str | bytes, told: str
) -> None:
    message = refusal(tmp_path, text)
    assert told in message
    assert "\n" not in message
    assert str(tmp_path / "recipe.yaml") in message


def test_a_recipe_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for place in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ConfigError, match="There is no file"):
            load(place)


def test_files_are_looked_for_beside_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["data/a.jsonl", "../b.jsonl", "/tmp/c.jsonl", "~/d.jsonl"]
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.chdir("/")
    recipe = load(write(tmp_path, changed(supply={"files": [{"path": path} for path in paths]})))
    assert [str(file.path) for file in recipe.supply.files] == [
        f"{tmp_path}/data/a.jsonl",
        f"{tmp_path}/../b.jsonl",
        "/tmp/c.jsonl",
        f"{tmp_path}/somebody/d.jsonl",
    ]
    assert recipe.supply.tasks == ["a", "b", "c", "d"]
