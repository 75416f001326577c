"""A serving process with the scripted server behind it, and a home with two students."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from sqlite_utils import Database

from pipelines.home import Home
from pipelines.store import checkpoints, datasets, rounds
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from pipelines.store.connection import connect, transaction
from pipelines.store.datasets import StoredDataset
from pipelines.store.exchanges import Arm, Exchange
from service import auth, serving
from service.options import USUAL, Options
from teachers.files import sha256_of
from teachers.weights import fingerprint
from tests.commands import free_port
from tests.scripted.running import COMMAND, ROOT

TOKENS = tuple(range(100, 700))
STUDENTS = ("one", "two")
HELLO: dict[str, Any] = {
    "model": "champion",
    "messages": [{"role": "user", "content": "What is 12 + 7?"}],
}


def weights(folder: Path) -> str:
    """A folder that passes for a model; its fingerprint."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_text(str(folder))
    return fingerprint(folder)


def make_home(root: Path, *, promoted: bool = True) -> Home:
    """A home with two trained students, of which the first was promoted."""
    home = Home(root / "home")
    base = weights(root / "base")
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        for name in STUDENTS:
            run = home.runs / name
            merged = weights(run / "merged")
            logprobs = {
                one: [-((token * at + at) % 97) / 20 for token in TOKENS[1:]]
                for at, one in ((7, base), (len(name) + ord(name[0]), merged))
            }
            (run / "probe.json").write_text(json.dumps({"tokens": TOKENS, "logprobs": logprobs}))
            (run / "adapter").mkdir()
            adapter = run / "adapter" / "adapter_model.safetensors"
            adapter.write_text(name)
            student = Checkpoint(
                *(name, f"run {name}", 1, adapter.parent, sha256_of(adapter)),
                *(run / "merged", merged),
            )
            told = {"base": str(root / "base"), "base_weights": base, "adapter": "lora", "rank": 16}
            add_student(db, student, json.dumps(told))
        if promoted:
            checkpoints.move_alias(db, CHAMPION, STUDENTS[0], "test")
    return home


def add_student(db: Database, student: Checkpoint, job: str) -> None:
    """Store a student and the training run that made it, as a round would.

    Args:
        job: what the run was told, as JSON.
    """
    folder = student.merged.parent
    rounds.open_round(db, "round", "r", 1, "{}")
    datasets.add_dataset(db, "round", StoredDataset("dataset", 1, folder / "none", ""), [])
    checkpoints.open_training(db, student.training_run_id, "round", "dataset", job, folder)
    checkpoints.close_training(db, student.training_run_id, "done")
    checkpoints.add_checkpoint(db, student)


def made(name: str, arm: Arm, checkpoint: str, status: int, at: float | None = None) -> Exchange:
    """An exchange with the champion as it would be stored, now if no time is given."""
    return Exchange(
        id=f"{name} {arm}",
        name=CHAMPION,
        checkpoint_id=checkpoint,
        arm=arm,
        caller="",
        token_id=None,
        status=status,
        first_s=0.1,
        seconds=1.0,
        prompt_tokens=1,
        completion_tokens=1,
        request=None,
        answer=None,
        beside=None,
        at=time.time() if at is None else at,
    )


class Gateway(NamedTuple):
    """A serving process."""

    url: str
    home: Home
    process: "subprocess.Popen[bytes]"
    log: Path
    """Of the scripted server behind it."""
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def chat(self, **body: Any) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/chat/completions",
            json={**HELLO, **body},
            headers=self.headers,
            timeout=20,
        )

    def answers_from(self, checkpoint: str) -> bool:
        return self.chat().headers["x-preceptor-checkpoint"] == checkpoint

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [x for x in lines if x["event"] == event and x["path"].endswith("completions")]

    def point_at(self, checkpoint: str | None) -> None:
        with closing(connect(self.home.store)) as opened, transaction(opened) as db:
            checkpoints.move_alias(db, CHAMPION, checkpoint, "test")

    def servers(self) -> list[psutil.Process]:
        """The model server and its keeper, the keeper first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


def wait_for(what: Callable[[], object], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@contextlib.contextmanager
def serving_process(
    root: Path,
    *flags: str,
    token: str = "",
    promoted: bool = True,
    options: Options = USUAL,
) -> Iterator[Gateway]:
    home = make_home(root, promoted=promoted)
    log = root / "requests.jsonl"
    command = (*COMMAND, "--log", str(log), "--probes", str(root), *flags)
    port = free_port()
    program = f"""if True:
        from pathlib import Path
        from rich.console import Console
        from pipelines.home import Home
        from service import serving
        from service.options import Options
        from service.progress import Shown
        from teachers.engine import EngineSettings
        settings = EngineSettings(command={command!r}, device="cpu")
        shown = Shown(Console(width=200))
        home = Home(Path({str(home.root)!r}))
        options = Options(*{tuple(options)!r})
        serving.serve(home, "127.0.0.1", {port}, shown, settings, options)"""
    environment = {**os.environ, auth.TOKEN_VARIABLE: token}
    with (root / "serve.log").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=out, stderr=out, cwd=ROOT, env=environment
        )
    gateway = Gateway(f"http://127.0.0.1:{port}", home, process, log, token)
    try:
        wait_for(lambda: serving.running(home) or process.poll() is not None)
        assert process.poll() is None, (root / "serve.log").read_text()
        yield gateway
    finally:
        left = gateway.servers()
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        assert psutil.wait_procs(left, timeout=5)[1] == []
