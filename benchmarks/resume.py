"""A round that is killed again and again, and what that costs.

    make bench NAME=resume

A whole round (a tiny student really trained, the model server a scripted one that answers by the
request's hash) runs undisturbed once. Then the same round runs in a second home, is killed with
SIGKILL at ten moments, the command's whole process group at once, and is started again each time.
Everything is counted from outside: calls by the server's own log, processes by the kernel.
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import yaml

from benchmarks.verdict import conclude, show
from pipelines.store.connection import sqlite3
from pipelines.training.journal import Metric, Phase, Reader
from teachers.client import chat_body
from teachers.records import Call
from teachers.weights import checked
from tests.tiny import tiny_model

SEED = 11
CONCURRENCY = 8
DELAY_MS = 250
TRAIN_PROMPTS, HELD_OUT_PROMPTS = 240, 100
ENGINE_GONE_S = 5.0
ROUND_LIMIT_S = 240.0

CallKey = tuple[str, bool]
"""Hash of a request's body, and whether a student's weights answered it."""


class Aim(NamedTuple):
    """When to kill."""

    stage: str
    share: float
    """How far into the stage: of its calls, its training steps or, at the start, two seconds."""
    trainer_too: bool = False


class Kill(NamedTuple):
    """What one kill did."""

    where: str
    in_flight: int
    committed: dict[str, str]
    """Every call that was done, by id, and a digest of its answers."""
    at: float
    engine_gone_s: float
    resumed_s: float | None
    """From the next start to the first call that reached the server; None if none was left."""


class Bench:
    """One home, its recipe, its server's log."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.home, self.log, self.base = folder / "home", folder / "requests.jsonl", base
        self.home.mkdir(parents=True)
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(self._recipe()))

    def start(self) -> subprocess.Popen[bytes]:
        """`preceptor run`, leading a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", "run", str(self.recipe)],
            env={**os.environ, "PRECEPTOR_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=(self.home.parent / "out.txt").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def finish(self) -> None:
        process = self.start()
        if process.wait(ROUND_LIMIT_S) != 0:
            raise SystemExit((self.home.parent / "out.txt").read_text()[-3000:])

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Read the store from outside; nothing while it is not there yet."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self.home / 'store.db'}?mode=ro", uri=True)
            ) as db:
                return list(db.execute(sql))
        except sqlite3.OperationalError:
            return []

    def stage(self) -> str:
        rows = self.ask("select name from stages where state = 'running'")
        return str(rows[0][0]) if rows else ""

    def count(self, state: str, purpose: str, since: float = 0.0) -> int:
        rows = self.ask(
            f"select count(*) from calls where state = '{state}' and purpose like '{purpose}%'"
            f" and sent_at >= {since}"
        )
        return int(str(rows[0][0])) if rows else 0

    def trained(self) -> float:
        """Share of the training steps that were done."""
        entries = [
            entry for path in self.home.glob("runs/*/metrics.jsonl") for entry in Reader(path).new()
        ]
        steps = [one.step for one in entries if isinstance(one, Metric) and one.name == "loss"]
        totals = [one.total for one in entries if isinstance(one, Phase) and one.total]
        return max(steps) / totals[-1] if steps and totals else 0.0

    def events(self, event: str) -> list[tuple[float, CallKey]]:
        """What the server says of chat requests: when, and which."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [
            (line["at"], (line["sha"], line["weights"] != str(self.base)))
            for line in lines
            if line["event"] == event and line["path"] == "/v1/chat/completions"
        ]

    def committed(self) -> dict[str, str]:
        rows = self.ask(
            "select id, (select group_concat(text, '|') from samples where call_id = calls.id)"
            " from calls where state = 'done'"
        )
        return {str(call): str(texts) for call, texts in rows}

    def keys(self) -> dict[str, CallKey]:
        """How each call of the store looks on the wire."""
        base = checked(self.base).fingerprint
        found: dict[str, CallKey] = {}
        for call_id, weights, request in self.ask("select id, weights, request from calls"):
            call = Call(weights=str(weights), **json.loads(str(request)))
            body = httpx.Request("POST", "http://x", json=chat_body("student", call)).content
            found[str(call_id)] = (hashlib.sha256(body).hexdigest(), call.weights != base)
        return found

    def processes(self, kind: str = "") -> list[psutil.Process]:
        """Whoever has this home on its command line, or is the trainer of one of its runs."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or ())
            mine = str(self.home.parent) in line and process.info["status"] != "zombie"
            if mine and kind in line and process.pid != os.getpid():
                found.append(process)
        return found

    def leftovers(self) -> list[str]:
        """Temporary files and records that nobody needs after the end."""
        rubbish = [*self.home.rglob("*.partial"), *self.home.rglob("*.tmp*")]
        rubbish += [*(self.home / "engines").glob("*")]
        return [str(path.relative_to(self.home)) for path in rubbish]

    def _recipe(self) -> dict[str, object]:
        chain = {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}
        counts = {"train": TRAIN_PROMPTS, "held_out": HELD_OUT_PROMPTS}
        source = {"generator": "chain_sum", "config": chain, **counts}
        server = [sys.executable, "-m", "tests.scripted", "--delay-ms", str(DELAY_MS)]
        server += ["--log", str(self.log), "--probes", str(self.home / "runs")]
        return {
            "name": "resume",
            "student": {"weights": str(self.base)},
            "supply": {"generators": [source]},
            "teacher": {
                "sampling": {"n": 4, "temperature": 0.8, "max_tokens": 64},
                "concurrency": CONCURRENCY,
            },
            "train": {"epochs": 1, "batch_size": 8, "save_steps": 5},
            "engine": {"command": server},
        }


def aims(rng: random.Random) -> list[Aim]:
    """Ten moments: five with the teacher's calls in flight, two in training, two in the gate, and
    one between start and first call."""
    sampling = [(part + rng.uniform(0.1, 0.9)) / 5 for part in range(5)]
    training = [rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.8)]
    gate = sorted(rng.uniform(0.05, 0.9) for _ in range(2))
    return [
        Aim("start", rng.uniform(0.1, 1.0)),
        *(Aim("sample", share) for share in sampling),
        # The first takes the trainer along: left alone it would be done before the second comes.
        Aim("train", training[0], trainer_too=True),
        Aim("train", training[1]),
        *(Aim("gate", share) for share in gate),
    ]


def reached(bench: Bench, aim: Aim, started: float) -> Callable[[], bool]:
    """Whether the moment has come."""
    if aim.stage == "start":
        return lambda: time.time() - started >= 2 * aim.share
    if aim.stage == "train":
        return lambda: bench.stage() == "train" and bench.trained() >= aim.share
    purpose, total = {
        "sample": ("teach", TRAIN_PROMPTS),
        "gate": ("eval", 3 * HELD_OUT_PROMPTS),
    }[aim.stage]
    return lambda: (
        bench.count("done", purpose) >= aim.share * total
        and bench.count("sent", purpose, started) > 0
    )


def kill_at(bench: Bench, aim: Aim) -> Kill | None:
    """Run until the aim is reached, kill, and watch; None if the round ended before."""
    arrived_before = len(bench.events("arrived"))
    started = time.time()
    process = bench.start()
    come = reached(bench, aim, started)
    while not come():
        if process.poll() is not None:
            return None
        time.sleep(0.01)
    where = bench.stage() or "start"
    os.killpg(process.pid, signal.SIGKILL)
    if aim.trainer_too:
        for trainer in bench.processes("pipelines.training.sft"):
            trainer.kill()
    at, began = time.time(), time.monotonic()
    process.wait()
    while any("tests.scripted" in " ".join(one.cmdline()) for one in _still(bench.processes())):
        if time.monotonic() - began > 30:
            break
        time.sleep(0.02)
    gone = time.monotonic() - began
    in_flight = bench.count("sent", "", started)
    resumed = [when for when, _ in bench.events("arrived")[arrived_before:] if when >= started]
    return Kill(
        where + (" (trainer too)" if aim.trainer_too else ""),
        in_flight,
        bench.committed(),
        at,
        gone,
        resumed[0] - started if resumed else None,
    )


def _still(processes: list[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            yield process


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = tiny_model(folder / "tiny")
        calm = Bench(folder / "calm", base)
        began = time.monotonic()
        calm.finish()
        print(f"undisturbed round: {time.monotonic() - began:.1f} s", flush=True)
        bench = Bench(folder / "killed", base)
        kills = []
        for aim in aims(random.Random(SEED)):
            kill = kill_at(bench, aim)
            if kill is None:
                print(f"aimed at {aim.stage}, but the round ended first", flush=True)
                continue
            kills.append(kill)
            print(
                f"killed in {kill.where}: {kill.in_flight} calls in flight, "
                f"{len(kill.committed)} done, engine gone in {kill.engine_gone_s:.2f} s",
                flush=True,
            )
        bench.finish()
        report(calm, bench, kills)


def report(calm: Bench, bench: Bench, kills: list[Kill]) -> None:
    """Count, print and end."""
    final, keys = bench.committed(), bench.keys()
    arrived = bench.events("arrived")
    repeated = sum(
        when > kill.at and key in {keys[call] for call in kill.committed}
        for kill, until in zip(kills, [*[k.at for k in kills[1:]], float("inf")], strict=True)
        for when, key in arrived
        if when <= until
    )
    lost = sum(
        final.get(call) != answers for kill in kills for call, answers in kill.committed.items()
    )
    uncertain = bench.count("uncertain", "")
    in_flight = sum(kill.in_flight for kill in kills)
    listed = len(bench.ask("select id, attempt from calls"))
    time.sleep(1)
    left = [*map(str, bench.processes()), *bench.leftovers()]
    dataset = "select id, sha256 from datasets"
    same = bench.ask(dataset) == calm.ask(dataset) and len(calm.ask(dataset)) == 1
    integrity = bench.ask("pragma integrity_check") == [("ok",)]
    busy = sum(kill.in_flight > 0 for kill in kills)
    trained = sum(kill.where.startswith("train") for kill in kills)
    gated = sum(kill.where.startswith("gate") for kill in kills)
    resumed = [kill.resumed_s for kill in kills if kill.resumed_s is not None]
    gone = max(kill.engine_gone_s for kill in kills)
    checks: list[tuple[str, object, object, bool]] = [
        ("calls in a round", len(final), ">= 300", len(final) >= 300),
        ("kills", len(kills), 10, len(kills) == 10),
        ("  with calls in flight", busy, ">= 5", busy >= 5),
        ("  in training / in the gate", f"{trained} / {gated}", "2 / 1", trained > 1 and gated > 0),
        ("calls repeated after being committed", repeated, 0, repeated == 0),
        ("rows lost", lost, 0, lost == 0),
        ("calls listed as uncertain", uncertain, f"<= {in_flight}", uncertain <= in_flight),
        (
            "  calls at the server, and listed",
            f"{len(arrived)}, {listed}",
            "<=",
            len(arrived) <= listed,
        ),
        ("engine gone after a kill, worst", f"{gone:.2f} s", "<= 5 s", gone <= ENGINE_GONE_S),
        ("processes and temporary files left", ", ".join(left) or 0, 0, not left),
        ("final dataset as undisturbed", "same" if same else "differs", "same", same),
        ("store's integrity check", "ok" if integrity else "failed", "ok", integrity),
        ("first resumed call, median", f"{statistics.median(resumed):.2f} s", "", True),
    ]
    lines = [(what, found, bar, "" if ok else "MISSED") for what, found, bar, ok in checks]
    show("a round killed ten times", ["", "found", "bar", ""], lines)
    held = all(ok for *_, ok in checks)
    conclude("resume", float(repeated + lost), 0, at_least=False, also=held)


if __name__ == "__main__":
    main()
