"""The command line, as a user meets it: what is said, in which form, and with which exit code."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from pipelines.store import calls, rounds
from pipelines.store.connection import connect, transaction
from service import serving
from service.options import USUAL, Options
from teachers.records import Prompt
from tests.commands import Cli, free_port
from tests.scripted.running import Scripted

DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"
PROMPTS = [Prompt(task="sums", question=f"[{n}] + 1?", reference=str(n + 1)) for n in range(3)]


@pytest.fixture
def filled(cli: Cli) -> Cli:
    """A store with three prompts."""
    with closing(connect(cli.home / "store.db")) as opened, transaction(opened) as db:
        rounds.open_round(db, "r" * 64, "first", 1, "{}")
        calls.add_prompts(db, "r" * 64, [(prompt, "train", "made up") for prompt in PROMPTS])
    return cli


def test_init_makes_a_home_and_a_recipe_that_is_valid(cli: Cli) -> None:
    said = cli("init")
    assert said.code == 0
    assert (cli.home / "store.db").is_file()
    assert Path("recipe.yaml").read_text() == DEMO.read_text()
    assert "next: preceptor run recipe.yaml" in said.out
    Path("recipe.yaml").write_text("mine")
    assert "left as it is" in cli("init").out
    assert Path("recipe.yaml").read_text() == "mine"
    Path("folder").mkdir()
    assert "preceptor init folder/recipe.yaml" in cli.refused("init", "folder")


def test_recipe_check(cli: Cli) -> None:
    said = cli("recipe", "check", str(DEMO))
    assert said.code == 0
    assert "is a valid recipe: demo" in said.out
    assert "tasks: chain_sum, needle_haystack" in said.out
    assert cli("recipe", "check", str(DEMO), "--json").json["name"] == "demo"
    Path("bad.yaml").write_text("name: x\nsuply: {}\n")
    told = cli.refused("recipe", "check", "bad.yaml")
    assert "suply: unknown; did you mean 'supply'?" in told
    assert "supply: is missing" in told
    assert "There is no file none.yaml" in cli.refused("run", "none.yaml")


def test_what_is_left_behind_to_serve_is_told_all_that_serve_was(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Options] = []
    monkeypatch.setattr(serving, "serve", lambda *_, options: told.append(options))
    every = Options(True, 3, 7.0, True, "adapter", False, 0.2)
    assert all(one != usual for one, usual in zip(every, USUAL, strict=True))
    assert cli("serve", *every.flags()).code == 0
    assert cli("serve", *USUAL.flags()).code == 0
    assert told == [every, USUAL]


def test_recipe_fields(cli: Cli) -> None:
    assert "gate.min_gain" in cli("recipe", "fields").out
    names = [field["name"] for field in cli("recipe", "fields", "--json").json]
    assert names[0] == "name"


def test_query(filled: Cli) -> None:
    sql = "select question, split from prompts order by question"
    shown = filled("query", sql)
    assert "[0] + 1?" in shown.out
    assert "3 rows" in shown.out
    assert filled("query", sql, "--json", "--limit", "2").json == [
        {"question": "[0] + 1?", "split": "train"},
        {"question": "[1] + 1?", "split": "train"},
    ]
    both = "select id, split as id, 9e999 as much from prompts"
    said = filled("query", both, "--json", "--limit", "1").out
    [row] = json.loads(said, parse_constant=pytest.fail)
    assert (row["id:2"], row["much"]) == ("train", "inf")
    assert "no such column: quetsion" in filled.refused("query", "select quetsion from prompts")
    assert "SELECT" in filled.refused("query", "delete from prompts")


def test_what_a_store_holds_is_shown_as_it_is(filled: Cli) -> None:
    said = "\\[x^2\\] [/x] \x1b[2J"
    with closing(connect(filled.home / "store.db")) as opened, transaction(opened) as db:
        db.execute("update prompts set question = ?", (said,))
    for words in (
        ["rows", "prompts"],
        ["show", PROMPTS[0].id],
        ["query", 'select question "[/x]" from prompts'],
    ):
        shown = filled(*words).out
        assert "\\[x^2\\] [/x]" in shown
        assert "\x1b" not in shown


def test_rows_and_show(filled: Cli) -> None:
    assert len(filled("rows", "prompts", "--json").json) == 3
    assert "There is no table 'promts'" in filled.refused("rows", "promts")
    found = filled("show", PROMPTS[0].id[:10], "--json").json
    assert (found["table"], found["row"]["question"]) == ("prompts", "[0] + 1?")
    shown = filled("show", PROMPTS[0].id[:10])
    assert "question: [0] + 1?" in shown.out
    assert "No row's id begins with 'zzz'" in filled.refused("show", "zzz")
    assert "More than one row's id begins with ''" in filled.refused("show", "")


@pytest.mark.parametrize("words", [("status",), ("rows", "rounds"), ("show", "a")])
def test_a_damaged_store_is_told_with_what_to_do(filled: Cli, words: tuple[str, ...]) -> None:
    store = filled.home / "store.db"
    for damage in (b"just text, " * 1000, store.read_bytes()[:100] + b"\xff" * 50_000):
        store.write_bytes(damage)
        told = filled.refused(*words)
        assert f"{store} is not a sound store: " in told
        assert "Put a backup in its place" in told
        assert "preceptor doctor" in told


def test_a_reward_model_that_is_not_there_is_trained_by_a_recipe(filled: Cli) -> None:
    told = filled.refused("score", "reward")
    assert "No checkpoint is called 'reward'." in told
    assert "preceptor run recipes/reward.yaml" in told


def test_promote_and_rollback_of_nothing(filled: Cli) -> None:
    assert "No checkpoint is called 'abc'." in filled.refused("promote", "abc")
    assert "checkpoint is called ''." in filled.refused("promote", "")
    assert "has nothing to go back to" in filled.refused("rollback")


def test_status(cli: Cli, tmp_path: Path) -> None:
    said = cli("status")
    assert said.code == 0
    assert "champion: none yet" in said.out
    assert not cli.home.exists(), "looking must not make anything"
    assert cli("status", "--json").json["rounds"] == []


def test_status_of_a_store(filled: Cli) -> None:
    assert "first" in filled("status").out
    (one,) = filled("status", "--json").json["rounds"]
    assert (one["name"], one["state"]) == ("first", "running")


def test_without_a_store_there_is_a_hint(cli: Cli) -> None:
    for words in (["query", "select 1"], ["rows", "prompts"], ["show", "abc"]):
        assert "preceptor init makes one" in cli.refused(*words)


def test_a_store_that_is_none(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "store.db").write_text("not a database at all, but long enough to look" * 100)
    assert "file is not a database" in cli.refused("query", "select 1")
    assert "is not a sound store" in cli.refused("promote", "abc")


def test_a_home_that_cannot_be_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("PRECEPTOR_HOME", str(Path("file").absolute()))
    for words in (["init"], ["doctor"], ["status"]):
        assert "is no folder, and everything of an installation" in cli.refused(*words)
    monkeypatch.setenv("PRECEPTOR_HOME", "home")
    assert "No such file" in cli.refused("init", "no/such/folder/recipe.yaml").splitlines()[-1]


def test_serving_on_a_taken_port(filled: Cli) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for more in ([], ["--background"]):
            told = filled.refused("serve", "--port", port, *more)
            assert f"127.0.0.1:{port} cannot be used: Address already in use." in told
            assert "try another --port" in told
    assert filled("serve", "--port", "70000").code == 2
    assert "no token is set" in filled.refused("serve", "--host", "0.0.0.0")
    assert "nothing was being served" in filled("serve", "--stop").out


def test_serving_in_the_background_shows_why_it_did_not_start(filled: Cli) -> None:
    lock = filled.home / "locks" / "serve.lock"
    lock.parent.mkdir()
    with FileLock(lock):
        told = filled.refused("serve", "--background", "--port", free_port())
    assert "Serving did not start." in told
    assert "Another process is about to serve this home." in told


def test_chat(cli: Cli, scripted: Scripted) -> None:
    assert "Nothing is being served." in cli.refused("chat", "hello")
    said = cli("chat", "What is 12 + 7?", "--url", f"{scripted.url}/v1", "--model", "any")
    assert said.code == 0
    assert "12 + 7 = " in said.out
    gone = cli("chat", "hello", "--url", "http://127.0.0.1:9/v1")
    assert gone.code == 1
    assert "cannot be reached" in gone.err
    for url, told in (("http://[", "cannot be reached"), (f"{scripted.url}/v2", "refused")):
        assert told in cli("chat", "hello", "--url", url).err
    broken = cli("chat", "hello", "--url", f"{scripted.url}/v1", "--model", "fault:drop")
    assert broken.code == 1


def test_unknown_commands_and_flags_are_usage_errors(cli: Cli) -> None:
    for words in (["fly"], ["run"], ["query", "select 1", "--limit", "0"], ["status", "--yaml"]):
        assert cli(*words).code == 2


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PRECEPTOR_HOME": str(tmp_path / "home")}


def test_it_runs_as_a_module(shell: dict[str, str]) -> None:
    command = [sys.executable, "-m", "service.cli", "query", "select 1"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=shell, cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no store at ")
