"""`preceptor serve` as a process of its own, for as long as it is measured."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from pipelines.home import Home
from tests.commands import free_port

START_S = 300.0


@contextmanager
def served(home: Home, *flags: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Its port, and the process, once it answers; what it says goes to the home's logs."""
    port = free_port()
    command = [sys.executable, "-m", "service.cli", "serve", "--port", port, *flags]
    environment = {**os.environ, "PRECEPTOR_HOME": str(home.root)}
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        end = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"nothing is served:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield int(port), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.HTTPError:
        return False
