"""Stands between us and a model server, so that the server never outlives whoever wanted it.

    python -m teachers.keeper COMMAND [ARG ...]

It leads a session of its own. Its standard input is a pipe that the owner holds open and never
writes to: when the owner ends, however it ends, the pipe closes and the keeper ends the server and
every process the server started. (Should a forked child of the owner hold the pipe open: the
keeper sees as well that it has another parent.) If the server ends first, the keeper cleans up and
ends too. If the keeper itself is killed, the kernel kills the server (Linux), and the owner, who
knows the group, kills the rest.
"""

import os
import select
import signal
import subprocess
import sys
import time

from teachers.process import die_with_parent

GRACE_S = 2.0
POLL_S = 0.25


def keep(command: list[str]) -> None:
    """Run `command` until it ends or standard input closes, then kill the whole group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = os.getppid()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent(os.getpid())
    )
    while server.poll() is None and not asked and os.getppid() == owner:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    if server.poll() is None:
        server.terminate()
        end = time.monotonic() + GRACE_S
        while server.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    print(f"keeper: server ended with {server.poll()}", flush=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    keep(sys.argv[1:])
