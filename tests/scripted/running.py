"""Starts the scripted server in a child process and reads its log."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from teachers.process import die_with_parent

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.scripted")


class Scripted(NamedTuple):
    """A scripted server that runs."""

    url: str
    log: Path
    pid: int

    def events(self, event: str, **wanted: str) -> list[dict[str, Any]]:
        """Lines of its log: `arrived`, `answered` or `gone`, with the fields `wanted`."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [
            line
            for line in lines
            if line["event"] == event and all(line[k] == v for k, v in wanted.items())
        ]


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[Scripted]:
    """A scripted server on a free port; its log goes to `folder`."""
    log = folder / "requests.jsonl"
    server = subprocess.Popen(
        [*COMMAND, "--log", str(log), *flags],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=die_with_parent(os.getpid()),
    )
    assert server.stdout is not None
    try:
        port = server.stdout.readline().split()[-1]
        yield Scripted(f"http://127.0.0.1:{port}", log, server.pid)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
