"""A jail from its start to its end: what it says is taken in, and at the end it is killed.

The program's time begins when the inside says that it starts: a busy machine that is slow to make a
jail says nothing about the program.
"""

import os
import selectors
import subprocess
import time
from contextlib import suppress
from typing import Literal

import psutil

from judges.verifiers.jail import Limits
from teachers.process import kill_group

End = Literal["finished", "timeout", "output", "not_started"]
"""Who ended it: it did, the clock, what it said, or it never began."""

CHUNK = 65536
# A jail takes about 30 ms to start, on a machine that is free.
START_S = 20.0
# What is outside of a jail needs a moment to see that its inside was killed.
GRACE_S = 0.5


class Watch:
    """Follows one jail.

    Args:
        child: the outermost process of the jail, which leads a group.
        ready: what is readable here once the program has started.
    """

    def __init__(self, child: subprocess.Popen[bytes], ready: int, limits: Limits) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._ready = ready
        self._limits = limits
        self._started = False
        self._began = time.monotonic()
        self._allowed_s = START_S
        self.processor_s = 0.0
        """How long all of it had a processor; 0 if it ended in time."""
        self._said = {pipe.fileno(): bytearray() for pipe in (child.stdout, child.stderr)}

    def follow(self) -> End:
        """Read what it says until it ends, says too much, or its time is up; then end it."""
        try:
            with selectors.DefaultSelector() as selector:
                for pipe in (self._ready, *self._said):
                    selector.register(pipe, selectors.EVENT_READ)
                while selector.get_map():
                    if self._hear(selector) == "output":
                        return "output"
            # It has closed everything, which is not yet the end.
            self._child.wait(max(0.0, self._left))
        except (TimeoutError, subprocess.TimeoutExpired):
            self.processor_s = _processor_s(self._child.pid)
            return "timeout" if self._started else "not_started"
        finally:
            _end(self._child)
        return "finished" if self._started else "not_started"

    @property
    def seconds(self) -> float:
        """Since the program began, or else its jail."""
        return time.monotonic() - self._began

    @property
    def stdout(self) -> str:
        return self._text(0)

    @property
    def stderr(self) -> str:
        return self._text(1)

    def _text(self, which: int) -> str:
        said = [*self._said.values()][which]
        return said[: self._limits.output_bytes].decode(errors="replace")

    @property
    def _left(self) -> float:
        return self._allowed_s - self.seconds

    def _hear(self, selector: selectors.BaseSelector) -> Literal["more", "output"]:
        """Take in what comes next.

        Raises:
            TimeoutError: nothing came in time.
        """
        if self._left <= 0 or not (heard := selector.select(self._left)):
            raise TimeoutError
        for key, _ in heard:
            chunk = os.read(key.fd, CHUNK)
            if not chunk:
                selector.unregister(key.fd)
            elif key.fd == self._ready:
                self._started = True
                self._began = time.monotonic()
                self._allowed_s = self._limits.wall_s
            else:
                self._said[key.fd] += chunk
                if len(self._said[key.fd]) > self._limits.output_bytes:
                    return "output"
        return "more"


def _processor_s(outermost: int) -> float:
    """How long a process and all below it have had a processor, in seconds."""
    used = 0.0
    with suppress(psutil.NoSuchProcess):
        for process in (top := psutil.Process(outermost), *top.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:2])
    return used


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill all of a jail and wait for it.

    The inside goes first, so that bwrap can reap it: where process 1 of a container does not do
    that for orphans, they would stay for ever.
    """
    if child.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        for inside in psutil.Process(child.pid).children():
            inside.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
    if child.poll() is None:
        kill_group(child.pid)
        child.wait()
