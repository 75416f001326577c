"""`preceptor constitution`, as a user meets it."""

import json
from pathlib import Path

import pytest
import yaml

from judges.constitution_file import SHIPPED
from tests.commands import Cli

SMALL = """\
name: mine
principles:
  - id: short
    text: The answer is short.
"""
LONG = SMALL.replace("short.", "long [and] wide.")


@pytest.fixture
def file(cli: Cli) -> Path:
    """A constitution's file in the current folder."""
    path = Path("mine.yaml")
    path.write_text(SMALL)
    return path


def test_lint(cli: Cli, file: Path) -> None:
    said = cli("constitution", "lint", "mine.yaml")
    assert said.code == 0
    assert "weak: short: has no cases" in said.out
    assert "mine: 1 principle, 0 cases, 1 weak point\n" in said.out
    (weakness,) = cli("constitution", "lint", "mine.yaml", "--json").json["weaknesses"]
    assert weakness["principle"] == "short"
    file.write_text(SMALL.replace("text", "txt"))
    told = cli.refused("constitution", "lint", "mine.yaml")
    assert "mine.yaml, line 4: principle 'short': unknown key 'txt', did you mean 'text'?" in told
    assert "There is no constitution 'none'" in cli.refused("constitution", "lint", "none")
    near = cli.refused("constitution", "lint", "concise-asistant")
    assert "Did you mean 'concise-assistant'?" in near


def test_what_is_shipped_is_shown_by_name(cli: Cli) -> None:
    said = cli("constitution", "show", "concise-assistant")
    assert said.code == 0
    assert "all prompts" in said.out
    shown = cli("constitution", "show", "concise-assistant", "--json").json
    assert shown["name"] == "concise-assistant"
    assert shown["principles"][0]["cases"]
    assert not cli.home.exists(), "looking must not make anything"


def test_commit_log_and_diff(cli: Cli, file: Path) -> None:
    assert "Nothing was committed" in cli.refused("constitution", "log", "mine")
    first = cli("constitution", "commit", "mine.yaml", "-m", "a start", "--json").json
    assert (first["new"], first["parent"]) == (True, None)
    assert "has not changed" in cli("constitution", "commit", "mine.yaml", "-m", "again").out
    file.write_text(LONG)
    said = cli("constitution", "commit", "mine.yaml", "-m", "[red]", "--author", "Ada")
    assert "mine committed as" in said.out
    assert "1 weak point: preceptor constitution lint mine.yaml\n" in said.out
    assert "There are: careful-reasoner, concise-assistant, helpful-honest-harmless, mine." in (
        cli.refused("constitution", "show", "")
    )
    logged = cli("constitution", "log", "mine")
    assert "[red]" in logged.out
    assert "Ada" in logged.out
    second, start = cli("constitution", "log", "mine", "--json").json
    assert second["parent"] == start["id"] == first["id"]
    shown = cli("constitution", "diff", first["id"][:12], "mine")
    assert "reworded short  (judges are asked again)" in shown.out
    assert "  - The answer is short.\n  + The answer is long [and] wide." in shown.out
    (change,) = cli("constitution", "diff", first["id"][:12], "mine", "--json").json
    assert (change["kind"], change["principle"]) == ("reworded", "short")
    assert "no difference" in cli("constitution", "diff", "mine", "mine.yaml").out
    for words in ([], ["-m", ""], ["-m", " "]):
        assert cli("constitution", "commit", "mine.yaml", *words).code == 2, "a reason is wanted"


def test_a_broken_file_leaves_the_committed_version_in_force(cli: Cli, file: Path) -> None:
    cli("constitution", "commit", "mine.yaml", "-m", "a start")
    file.write_text("name: mine\n- half")
    assert "mine.yaml, line 2: no YAML" in cli.refused("constitution", "show", "mine.yaml")
    cli.refused("constitution", "commit", "mine.yaml", "-m", "broken")
    assert "The answer is short." in cli("constitution", "show", "mine").out
    assert len(cli("constitution", "log", "mine", "--json").json) == 1


def test_export_is_the_same_version(cli: Cli, file: Path) -> None:
    cli("constitution", "commit", "mine.yaml", "-m", "a start")
    assert yaml.safe_load(cli("constitution", "export", "mine").out)["name"] == "mine"
    assert "written to copy.yaml" in cli("constitution", "export", "mine", "-o", "copy.yaml").out
    assert "no difference" in cli("constitution", "diff", "mine", "copy.yaml").out
    assert "is there already" in cli.refused("constitution", "export", "mine", "-o", "copy.yaml")
    assert cli("constitution", "export", "concise-assistant", "--json").json["id"]


def test_import(cli: Cli) -> None:
    theirs = [{"critic": "Is it rude?", "revision": "Rewrite the response to be polite."}]
    Path("theirs.json").write_text(json.dumps({"constitutions": theirs, "system_chat": []}))
    said = cli("constitution", "import", "theirs.json")
    assert "1 weak point: preceptor constitution lint FILE" in said.err
    assert yaml.safe_load(said.out)["principles"] == [
        {
            "id": "principle-1",
            "text": "The response should be polite.",
            "critique": "Is it rude?",
            "revision": "Rewrite the response to be polite.",
        }
    ]
    assert (
        "written to ours.yaml"
        in cli("constitution", "import", "theirs.json", "-o", "ours.yaml").out
    )
    assert cli("constitution", "show", "ours.yaml", "--json").json["name"] == "theirs"
    assert cli("constitution", "import", "theirs.json", "--json").json["name"] == "theirs"
    assert "no JSON" in cli.refused("constitution", "import", str(SHIPPED / "README.md"))
