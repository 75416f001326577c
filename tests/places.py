"""A folder in which whole rounds run, with the scripted server as model server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from pipelines.round import Outcome, run_round
from pipelines.store.connection import connect
from teachers.progress import Silent
from tests.scripted.running import COMMAND, ROOT

CHAT = "/v1/chat/completions"
TRAIN, HELD_OUT, N = 24, 60, 4


def usual(root: Path) -> dict[str, Any]:
    """A recipe of sums for the tiny model, in `model`: half a minute from supply to promotion."""
    return {
        "name": "tiny",
        "student": {"weights": str(root / "model"), "instruction": "Add up."},
        "supply": {
            "generators": [{"generator": "chain_sum", "train": TRAIN, "held_out": HELD_OUT}]
        },
        "teacher": {
            "sampling": {"n": N, "max_tokens": 64},
            "concurrency": 4,
            "examples": {"chain_sum": [{"question": "1 + 1 =", "answer": "Answer: 2"}]},
        },
        "build": {"per_prompt": 2, "minimum": 10},
        "train": {"rank": 4, "epochs": 1, "max_length": 400, "save_steps": 4},
        "gate": {"max_tokens": 64, "min_gain": 0.1, "min_gain_lenient": 0.1, "min_items": 50},
    }


class Place:
    """Where rounds run, and what can be asked about them.

    Args:
        root: a folder; it holds the home, the servers' log and the recipe.
        usual: what a recipe says unless a test says otherwise.
        flags: the scripted server's, unless a test gives others after them.
    """

    def __init__(self, root: Path, usual: dict[str, Any], *flags: str) -> None:
        self.root, self.usual, self.flags = root, usual, flags

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def log(self) -> Path:
        """What arrived at the scripted servers, all of them."""
        return self.root / "requests.jsonl"

    def recipe(self, *flags: str, **changes: Any) -> Path:
        """A recipe; sections that are named are changed key by key, anything else is replaced."""
        command = [*COMMAND, "--log", str(self.log), "--probes", str(self.root)]
        content = {**self.usual, "engine": {"command": [*command, *self.flags, *flags]}}
        for section, values in changes.items():
            both = isinstance(values, dict) and isinstance(content.get(section), dict)
            content[section] = {**content[section], **values} if both else values
        path = self.root / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def run(self, recipe: Path | Recipe, progress: Silent | None = None) -> Outcome:
        loaded = recipe if isinstance(recipe, Recipe) else load(recipe)
        return asyncio.run(run_round(loaded, self.home, progress or Silent()))

    def start(self, recipe: Path, **environment: str) -> "subprocess.Popen[str]":
        """The same through the command line, as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", "run", str(recipe)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PRECEPTOR_HOME": str(self.home.root), **environment},
            # Whoever runs the tests in the background has SIGINT ignored, and so would the child.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(connect(self.home.store)) as db:
            return list(db.execute(sql, values))

    def one(self, sql: str, *values: object) -> Any:
        ((value,),) = self.ask(sql, *values)
        return value

    def requests(self, event: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        found = [json.loads(line) for line in lines]
        return [line for line in found if line["event"] == event and line["path"] == CHAT]

    def empty(self) -> None:
        """Forget everything but what was trained."""
        for path in self.home.root.glob("store.db*"):
            path.unlink()
        self.log.unlink(missing_ok=True)

    def keep(self) -> None:
        """Remember the store and the log as they are now."""
        for path in (*self.home.root.glob("store.db*"), self.log):
            shutil.copy(path, path.with_name("kept-" + path.name))

    def back(self) -> None:
        """Have the store and the log as they were kept."""
        self.empty()
        for path in (*self.home.root.glob("kept-*"), *self.root.glob("kept-*")):
            shutil.copy(path, path.with_name(path.name.removeprefix("kept-")))


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Meddler(Heard):
    """Does something once, when a step has come so far."""

    def __init__(self, what: str, done: int, act: Callable[[], None]) -> None:
        super().__init__()
        self._what, self._done, self._act = what, done, act
        self._step = ""
        self.acted = False

    def begin(self, what: str, total: float | None = None) -> None:
        self._step = what

    def update(self, done: float, note: str = "") -> None:
        if self._step == self._what and done >= self._done and not self.acted:
            self.acted = True
            self._act()
