"""What the documents say exists, and what exists is in the documents."""

import configparser
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipelines.recipe_file import fields
from service.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("teachers", "judges", "pipelines", "service")
REFERENCE = (ROOT / "docs" / "cli.md").read_text()


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for word, one in inner.items():
        yield from commands(one, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app), "preceptor"))


def code_in(document: Path) -> list[str]:
    """What a document sets as code: blocks and spans."""
    text = document.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}\S.*$", text, re.MULTILINE)
    return blocks + indented + re.findall(r"`([^`\n]+)`", text)


def section_of(name: str) -> str:
    """The part of docs/cli.md about one command."""
    found = re.search(rf"^## {name}\b.*?(?=^## |\Z)", REFERENCE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/cli.md has no section '## {name}'"
    return found[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists(document: Path) -> None:
    known = set(COMMANDS) | {name.rsplit(" ", 1)[0] for name in COMMANDS}
    for code in code_in(document):
        for first, second in re.findall(r"\bpreceptor ([a-z]+)(?: ([a-z]+))?", code):
            name = f"preceptor {first}"
            assert name in known, f"{document.name}: {name}"
            if name not in COMMANDS and second:  # a group
                assert f"{name} {second}" in known, f"{document.name}: {name} {second}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_documented(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    section = section_of(name)
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"
        shown = max(parameter.opts, key=len)
        if parameter.param_type_name == "argument":
            shown = parameter.metavar or shown.upper()
        assert f"`{shown}" in section, f"docs/cli.md, {name}: {shown}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_in_a_document_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for code in code_in(document) for word in re.findall(r"\bmake ([a-z]+)", code)}
    assert named <= targets


def test_every_field_of_a_recipe_is_explained_in_its_document() -> None:
    text = (ROOT / "docs" / "recipe.md").read_text()
    for field in fields():
        assert field.help, field.name
        row = f"| `{field.name}` | {f'`{field.default}`' if field.default else ''} | {field.help} |"
        assert row in text, f"docs/recipe.md lacks: {row}"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[=<>\[]", requirement)[0] for requirement in wanted}
    text = (ROOT / "docs" / "dependencies.md").read_text().split("## Considered")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) == names


def tree() -> set[str]:
    """The paths in README's annotated tree: two spaces a level, folders end in a slash."""
    found = re.search(r"^## The tree\n.*?```\n(.*?)```", README.read_text(), re.DOTALL | re.M)
    assert found, "README.md has no block under '## The tree'"
    paths, above = set[str](), [""]
    for line in found[1].splitlines():
        name, _, comment = line.strip().partition(" ")
        assert comment.strip(), f"README's tree says nothing about {name}"
        level = (len(line) - len(line.lstrip())) // 2
        above[level + 1 :] = [above[level] + name]
        assert above[-1] not in paths, f"README's tree shows {above[-1]} twice"
        paths.add(above[-1])
    return paths


def test_what_readmes_tree_shows_is_there() -> None:
    missing = [path for path in sorted(tree()) if not (ROOT / path).exists()]
    assert not missing


def test_every_source_file_is_in_readmes_tree() -> None:
    shown = tree()
    for folder in (*PACKAGES, "benchmarks", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            assert path.name == "__init__.py" or name in shown, f"README's tree lacks {name}"


def test_what_is_deployed_starts_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "preceptor.service")
    container = (ROOT / "deploy" / "Containerfile").read_text()
    [started] = re.findall(r"^CMD (\[.*\])$", container, re.MULTILINE)
    for words in (unit["Service"]["ExecStart"].split(), json.loads(started)):
        assert Path(words[0]).name == "preceptor"
        command = COMMANDS[f"preceptor {words[1]}"]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= known
    installed = set(re.findall(r"apt install ([^`]+)`", README.read_text())[0].split())
    assert installed <= set(container.split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"
