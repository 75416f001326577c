"""`preceptor recipe check`: what a round can come to at most, and recipes that cannot run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from judges.constitution_file import load as constitution
from pipelines.home import Home
from pipelines.recipe_file import load
from service import costs
from service.recipes import refuse_hopeless
from teachers.errors import ConfigError
from tests.commands import Cli
from tests.served import make_home

SUMS = {"generator": "chain_sum", "name": "sums", "train": 40, "held_out": 100}
OPEN = {"path": "open.jsonl", "verifier": "none", "train": 30, "held_out": 20}
JUDGE = {"url": "http://localhost:1", "model": "m"}
PREFERENCE = {
    "constitution": "rules.yaml",
    "supply": {"generators": [SUMS], "files": [OPEN]},
    "teacher": {"sampling": {"n": 3}},
    "judge": JUDGE,
    "pairs": {"minimum": 10},
    "train": {"objective": "dpo"},
    "gate": {"min_items": 20},
}
"""70 prompts to train on, and 120 of which 20 are open; 2 principles with 3 cases together."""


def cases(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{n}?", "better": "a", "worse": "b", "sealed": n == 0} for n in range(count)
    ]


@pytest.fixture(autouse=True)
def files(cli: Cli) -> None:
    Path("open.jsonl").write_text('{"question": "Why?"}\n')
    principles = [
        {"id": "short", "text": "It is short.", "cases": cases(2)},
        {"id": "kind", "text": "It is kind.", "cases": cases(1)},
    ]
    Path("rules.yaml").write_text(yaml.safe_dump({"name": "rules", "principles": principles}))


def recipe(**sections: Any) -> str:
    """A recipe for sft, changed."""
    said = {"name": "small", "supply": {"generators": [SUMS]}, "build": {"minimum": 10}, **sections}
    Path("recipe.yaml").write_text(yaml.safe_dump(said))
    return "recipe.yaml"


def counted(**sections: Any) -> costs.Calls:
    read = load(Path(recipe(**{**PREFERENCE, **sections})))
    return costs.calls(read, [constitution(Path("rules.yaml"))])


def test_the_calls_of_a_verified_round(cli: Cli) -> None:
    said = cli("recipe", "check", recipe())
    assert said.code == 0, said.err
    assert "prompts: up to 40, 8 answers each" in said.out
    # Base, few-shot base, champion and student.
    assert "calls: up to 40 to the teacher, 0 to judges, 400 for the gate's answers" in said.out


def test_the_calls_of_a_judged_round(cli: Cli) -> None:
    # Both orders of 3 cases, of 3 comparisons a prompt by 2 principles, and of 20 open answers.
    judged = 2 * 3 + 2 * 70 * 3 * 2 + 2 * 20 * 2
    assert counted() == (70, judged, 2 * 120)
    said = cli("recipe", "check", recipe(**PREFERENCE))
    assert f"calls: up to 70 to the teacher, {judged} to judges, 240 for the gate's" in said.out


def test_what_else_is_asked_of_judges_and_teachers() -> None:
    (_, judged, _) = counted()
    assert counted(judge={**JUDGE, "rationale": True}).judge == 2 * judged
    assert counted(panel=[{**JUDGE, "model": "n"}]).judge == 2 * judged
    assert counted(principles=["kind"]).judge == 2 * 1 + 2 * 70 * 3 + 2 * 20
    # Three answers, each graded once by each principle.
    graded = {**JUDGE, "kind": "score"}
    assert counted(judge=graded).judge == 2 * 3 + 70 * 3 * 2 + 2 * 20 * 2
    guided = counted(judge=graded, pairs={"minimum": 10, "guided": 1, "anchor": "m"})
    assert guided == (70 * (1 + 2 + 1), 2 * 3 + 70 * (5 + 3) * 2 + 2 * 20 * 2, 240)
    # Of each plain answer to an open request a critique and a revision, twice.
    assert counted(pairs={"minimum": 10, "revisions": 2}).teacher == 70 + 2 * 2 * 3 * 30
    constructed = {"source": "construction", "guided": 2, "minimum": 10}
    assert counted(pairs=constructed) == (2 * 70, 2 * 3 + 2 * 20 * 2, 240)
    # Two sealed cases and twice 140 constructed pairs, two answers each, before and after.
    own = counted(pairs=constructed, train={"objective": "judge"}, judge=None)
    assert own == (2 * 70, 2 * 2 * (2 + 2 * 140), 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"supply": {"files": [{"path": "nowhere.jsonl", "held_out": 100}]}},
            "supply.files[].path: ",
        ),
        ({"supply": {"generators": [{**SUMS, "train": 0}]}}, "no source gives a prompt to train"),
        (
            {"supply": {"generators": [{**SUMS, "held_out": 99}]}},
            "gate.min_items: 100 are asked for, and at most 99 prompts are held out",
        ),
        (
            {**PREFERENCE, "gate": {"min_items": 21}},
            "at most 20 open prompts (verifier: none) are held out",
        ),
        ({"build": {"minimum": 161}}, "build.minimum: 161 are asked for, and at most 160 can"),
        (
            {**PREFERENCE, "pairs": {"minimum": 71}},
            "pairs.minimum: 71 are asked for, and at most 70",
        ),
        ({**PREFERENCE, "teacher": {"sampling": {"n": 1}}}, "at most 0 can come out"),
        ({"student": {"weights": "checkpoint:nope"}}, "student.weights: no checkpoint is called"),
        ({"student": {"weights": "./nowhere"}}, "student.weights: There is no model './nowhere'."),
        ({"teacher": {"weights": "a.gguf"}}, "teacher.weights: There is no file a.gguf."),
        ({"teacher": {"weights": "packaged:x"}}, "No packaged model is called 'x'."),
        (
            {"supply": {"generators": [{**SUMS, "generator": "chain_sums"}]}},
            "supply.generators[]: There is no generator 'chain_sums'. Did you mean 'chain_sum'?",
        ),
        (
            {"supply": {"generators": [{**SUMS, "config": {"terms": 2}}]}},
            "supply.generators[]: The generator chain_sum has no parameter 'terms'.",
        ),
        ({**PREFERENCE, "judge": {"weights": "checkpoint:nope"}}, "judge.weights: no checkpoint"),
    ],
)
def test_what_could_only_stop_half_way_is_refused(
    cli: Cli, changes: dict[str, Any], told: str
) -> None:
    refused = cli.refused("recipe", "check", recipe(**changes))
    assert "The recipe small cannot run:" in refused
    assert told in refused


def test_a_checkpoint_is_looked_for_in_the_store(cli: Cli) -> None:
    cli("init", "other.yaml")
    refused = cli.refused("recipe", "check", recipe(teacher={"weights": "checkpoint:nope"}))
    assert "teacher.weights: no checkpoint is called 'nope'" in refused


def test_a_checkpoint_is_looked_for_where_the_round_would_run(tmp_path: Path) -> None:
    wants = load(Path(recipe(student={"weights": "checkpoint:two"})))
    refuse_hopeless(wants, make_home(tmp_path))
    with pytest.raises(ConfigError, match="no checkpoint is called 'two'"):
        refuse_hopeless(wants, Home(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"judge": {**JUDGE, "kind": "scores"}}, "judge.kind: has to be 'compare', 'score' or"),
        ({"judge": {**JUDGE, "kind": "scores"}}, "; did you mean 'score'?"),
        ({"judge": {**JUDGE, "url": "localhost"}}, "judge.url: has to begin with http:// or"),
        ({"name": "No Spaces"}, "name: has to be of lower-case letters"),
        ({"train": {"epochs": 0}}, "train.epochs: has to be 1 or more"),
        ({"train": {"epochs": 1.5}}, "train.epochs: has to be a whole number"),
        ({"gate": {"alpha": "small"}}, "gate.alpha: has to be a number"),
        ({"gate": {"beat_few_shot": "maybe"}}, "gate.beat_few_shot: has to be true or false"),
        ({"principles": "short"}, "principles: has to be a list"),
        ({"train": None}, "train: has to be a table of keys and values"),
        (
            {"supply": {"files": [{"path": "a"}, {"path": "b", "verifier": "numbr"}]}},
            "supply.files[].verifier (number 2): There is no verifier 'numbr'.",
        ),
        ({"supply": {"files": [{"path": "a", "x": 1}]}}, "supply.files[].x: unknown"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(cli: Cli, changes: dict[str, Any], told: str) -> None:
    assert told in cli.refused("recipe", "check", recipe(**changes))
