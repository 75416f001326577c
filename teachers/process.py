"""Child processes: how they end with their parent, and how to tell that one has ended."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import psutil

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: ask the kernel to kill this process when `parent` ends (Linux only).

    Elsewhere it does nothing, and ending the child is left to the pipes that it reads.
    """

    # Opened here: between fork and exec a process with threads may not load anything.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def ask() -> None:
        if prctl is None:
            return
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    return ask


def kill_group(group: int) -> None:
    """Kill every process of a group; nothing happens if none is left."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def started_at(pid: int) -> float | None:
    """When a process started (seconds since 1970), or None: with the pid it names one process."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def alive(pid: int, started: float) -> bool:
    """Whether the very process that started then still runs; a reused pid does not count."""
    now = started_at(pid)
    return now is not None and abs(now - started) < 1.0
