"""Runs that nobody watches, while something of theirs is killed again and again.

    make bench NAME=soak

Twice the service (`preceptor serve`, with its worker) is given a run and left alone; all that the
benchmark does for it is what a supervisor does, to start it again when it is gone. Three rounds ask
the scripted endpoint, and every 30 s on average a random process of them is killed with SIGKILL:
the service, the worker, a round, a trainer, a model server or its keeper. Then one round of the
demo asks a real model server, with a kill every 150 s.

Both runs have to end decided, every answer that was paid for once has to be there, no finished call
may be made again, and the service's memory may not grow. The ratio is that of finished calls that
were made again to kills.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.verdict import conclude, show, skip
from pipelines.home import Home
from pipelines.loop import Limits
from pipelines.recipe_file import load
from pipelines.store import runs
from pipelines.store.connection import connect
from service.runs import enqueue
from teachers.errors import WeightsError
from teachers.weights import prepare
from tests.commands import free_port
from tests.places import Place, usual
from tests.tiny import tiny_model

DEMO = Path(__file__).parent.parent / "recipes" / "demo.yaml"
POLL_S = 0.5
SETTLED_S = 60.0
"""How old a process of the service's is when it has read its libraries and served some calls."""
BAR_GROWTH = 0.05
# Whom a process of the service's is, by words of its command line.
KINDS = {
    "service": "serving.serve",
    "worker": "service.cli worker",
    "round": "service.turn",
    "trainer": "pipelines.training",
    "keeper": "teachers.keeper",
    "model server": "--served-model-name",
}


PROGRAM = """
from pathlib import Path
from rich.console import Console
from pipelines.home import Home
from service import serving
from service.options import Options
from service.progress import Shown
from teachers.engine import EngineSettings
home, shown = Home(Path({home!r})), Shown(Console())
serving.serve(home, "127.0.0.1", {port}, shown, {settings}, Options(works=True))
"""


class Part(NamedTuple):
    """A run, and how it is disturbed."""

    name: str
    home: Home
    recipe: Path
    rounds: int
    every_s: float
    limit_s: float
    command: tuple[str, ...] = ()
    """Of the model server behind the champion, if not the usual one."""


class Ended(NamedTuple):
    """What came of it."""

    kills: Counter[str]
    state: str
    decided: int
    repeated: int
    """Finished calls that were made again."""
    unanswered: int
    """Finished calls whose answers are not there."""
    sound: bool
    seconds: float
    growth: float | None
    """Of the service's memory after the first round, once it serves, of the process that was not
    killed longest; None if none was looked at."""


def main() -> None:
    try:
        prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("soak", missing.message)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny_model(root / "model")
        place = Place(root, usual(root), "--right", "0.4", "--right-after", "0.95")
        slow = place.recipe("--delay-ms", "1500", teacher={"concurrency": 2})
        parts = [
            Part("scripted", place.home, slow, 3, 30.0, 20 * 60, load(slow).engine.command),
            Part("real", Home(root / "real"), DEMO, 1, 150.0, 35 * 60),
        ]
        found = {part.name: _soaked(part) for part in parts}
    _show(found)
    kills = sum(one.kills.total() for one in found.values())
    whole = all(
        one.state == "done"
        and one.decided == part.rounds
        and one.sound
        and not one.unanswered
        and _flat(part, one)
        for part, one in zip(parts, found.values(), strict=True)
    )
    repeated = sum(one.repeated for one in found.values())
    conclude("soak", repeated / max(1, kills), 0.0, at_least=False, also=whole and kills > 0)


def _flat(part: Part, ended: Ended) -> bool:
    """Whether memory did not grow; after the first round there has to be one to see it in."""
    if ended.growth is None:
        return part.rounds == 1
    return ended.growth < BAR_GROWTH


def _soaked(part: Part) -> Ended:
    run_id = enqueue(part.home, [part.recipe], Limits(rounds=part.rounds), 0).id
    drawn, kills = random.Random(3), Counter[str]()
    began = time.monotonic()
    next_kill = began + drawn.expovariate(1 / part.every_s)
    memory: list[tuple[int, int]] = []
    state = "queued"
    with _supervised(part) as service:
        while time.monotonic() - began < part.limit_s:
            time.sleep(POLL_S)
            pid = service()
            state, done = _progress(part.home, run_id)
            if state not in ("queued", "running"):
                break
            if done and (size := _settled(pid)):
                memory.append((pid, size))
            if time.monotonic() > next_kill:
                next_kill = time.monotonic() + drawn.expovariate(1 / part.every_s)
                kills.update(_kill_one(pid, drawn))
                print(f"{part.name}: killed so far: {dict(kills)}", flush=True)
    return _looked_at(part.home, run_id, kills, state, time.monotonic() - began, _growth(memory))


@contextmanager
def _supervised(part: Part) -> "Iterator[_Service]":
    service = _Service(part)
    try:
        yield service
    finally:
        service.end()


class _Service:
    """What `preceptor serve` does, started again whenever it is gone; called, it tells its pid."""

    def __init__(self, part: Part) -> None:
        self._home = part.home
        self._program = PROGRAM.format(
            home=str(part.home.root),
            port=free_port(),
            settings=f"EngineSettings(command={part.command!r})" if part.command else None,
        )
        self._process = self._start()

    def __call__(self) -> int:
        if self._process.poll() is not None:
            self._process = self._start()
        return self._process.pid

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._home.logs.mkdir(parents=True, exist_ok=True)
        with (self._home.logs / "serve.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", self._program],
                stdout=log,
                stderr=log,
                env={**os.environ, "PRECEPTOR_HOME": str(self._home.root)},
            )


def _progress(home: Home, run_id: str) -> tuple[str, int]:
    with closing(connect(home.store)) as db:
        turns = runs.turns(db, run_id)
        return runs.run(db, run_id).state, sum(one.promoted is not None for one in turns)


def _kill_one(service: int, drawn: random.Random) -> list[str]:
    """Kill a random process of the service's, of a random kind; returns the kind."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(service)
        by_kind: dict[str, list[psutil.Process]] = {}
        for one in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                words = " ".join(one.cmdline())
                for kind, sign in KINDS.items():
                    if sign in words:
                        by_kind.setdefault(kind, []).append(one)
                        break
        kind = drawn.choice(sorted(by_kind))
        drawn.choice(by_kind[kind]).kill()
        return [kind]
    return []


def _settled(pid: int) -> int:
    """Bytes that a process holds, 0 of one that has only begun or is gone."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if time.time() - process.create_time() > SETTLED_S:
            return int(process.memory_info().rss)
    return 0


def _growth(memory: list[tuple[int, int]]) -> float | None:
    """From the first to the last figure of the process that has most."""
    if not memory:
        return None
    pid, _ = Counter(pid for pid, _ in memory).most_common(1)[0]
    its = [size for of, size in memory if of == pid]
    return its[-1] / its[0] - 1


def _looked_at(
    home: Home, run_id: str, kills: Counter[str], state: str, seconds: float, growth: float | None
) -> Ended:
    with closing(connect(home.store)) as db:

        def one(sql: str) -> int:
            return int(db.execute(sql).fetchone()[0])

        repeated = one(
            "select count(*) from (select id from calls group by id"
            " having sum(state = 'done') > 1 or max(attempt) > max(iif(state = 'done', attempt, 0))"
            " and sum(state = 'done') > 0)"
        )
        unanswered = one(
            "select count(*) from calls where state = 'done'"
            " and id not in (select call_id from samples)"
        )
        decided = one("select count(*) from promotions")
        sound = db.execute("pragma integrity_check").fetchone()[0] == "ok"
    return Ended(kills, state, decided, repeated, unanswered, sound, seconds, growth)


def _show(found: dict[str, Ended]) -> None:
    rows = [
        [
            name,
            one.state,
            one.decided,
            ", ".join(f"{count} {kind}" for kind, count in sorted(one.kills.items())),
            one.repeated,
            one.unanswered,
            "sound" if one.sound else "DAMAGED",
            "-" if one.growth is None else f"{one.growth:+.1%}",
            f"{one.seconds / 60:.1f} min",
        ]
        for name, one in found.items()
    ]
    columns = ["endpoint", "ended", "decided", "killed", "repeated", "lost", "store", "memory", ""]
    show("runs that nobody watched", columns, rows)


if __name__ == "__main__":
    main()
