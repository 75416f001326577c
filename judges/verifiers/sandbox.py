"""Runs programs that a model wrote. Model-written code is hostile: it is jailed, or not run at all.

Two kinds of jail, the stronger first; the first one that proves itself here is used, every outcome
names it, and where neither works nothing runs. In both, the program is one process of Python's
standard library under limits and under the filter of `judges.verifiers.seccomp`.

| attack                              | bubblewrap               | landlock                     |
|-------------------------------------|--------------------------|------------------------------|
| endless loop, sleep                 | killed at the limit      | killed at the limit          |
| memory                              | limit of each process    | limit of each process        |
| fork bomb, daemons, other programs  | EPERM: threads only      | EPERM: threads only          |
| many threads                        | limit                    | limit, if we are root        |
| endless output                      | cut off and killed       | cut off and killed           |
| big files, many files               | 32 MB in all             | EACCES: none can be written  |
| files of this machine               | not there                | EACCES                       |
| libraries of Python and the system  | can be read              | can be read                  |
| environment, /proc                  | empty, not there         | empty, EACCES                |
| TCP, UDP, Unix sockets              | EPERM, and no network    | EPERM                        |
| signals, ptrace, others' memory     | EPERM, and nobody there  | EPERM                        |
| being the service's user            | no, or of a namespace    | no, if we are root           |
| which paths exist, and their sizes  | not there                | not covered: can be seen     |
| host's load and memory in use       | not covered: can be seen | not covered: can be seen     |
| a hole in the kernel                | not covered              | not covered                  |
| timing, caches                      | not covered              | not covered                  |

A program may not start another, so memory is bounded by the limit (twice, with the referee that
`judges.verifiers.code` explains) and no cgroup is needed. When the process that called `run` ends,
however it ends, the kernel kills the jail.
"""

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Literal, NamedTuple

from judges.verifiers.jail import ENVIRONMENT, TIERS, Limits, Tier, command, instructions
from judges.verifiers.seccomp import MACHINES
from judges.verifiers.watch import Watch
from teachers.errors import VerifierError
from teachers.process import die_with_parent

State = Literal["finished", "timeout", "memory", "output", "killed", "not_started"]
"""How a program ended; `finished` is by itself, whatever its exit code."""

INSTALL = "Install bubblewrap (Debian: apt install bubblewrap), or use a kernel with Landlock."


class Outcome(NamedTuple):
    """How a program ended. Why it failed is what it says itself, and may be a lie."""

    state: State
    code: int
    """Exit code; 128 and more: the number of the signal that killed it."""
    stdout: str
    stderr: str
    seconds: float
    """From the program's start to the end of its jail; without a start, from the jail's."""
    processor_s: float
    """How much of that it had a processor, all its threads together; 0 if it ended in time."""
    tier: Tier


def run(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    ours: Mapping[str, str] | None = None,
    tier: Tier | None = None,
) -> Outcome:
    """Run a Python program in a jail, and wait for its end; nothing of it is left after that.

    Args:
        program: its text. It runs as `__main__`, without site-packages, in a folder of its own.
        stdin: what it can read from standard input; with modules of ours, what they can.
        files: texts by name, in its folder.
        ours: modules of ours, text by name, the last of which runs it in a child
            (`judges.verifiers.inside.referee`).
        tier: the kind of jail; None: the best one here.

    Raises:
        VerifierError: there is no safe way to run it here.
        ValueError: a file's name is a path.
    """
    return _run(program, stdin, files or {}, limits or Limits(), ours or {}, tier or best_tier())


@cache
def best_tier() -> Tier:
    """The strongest jail that works here: found by running something in each, once.

    Raises:
        VerifierError: none does.
    """
    problems = []
    for tier in TIERS:
        problem = problem_of(tier)
        if problem is None:
            return tier
        problems.append(f"{tier}: {problem}")
    raise VerifierError(
        f"Model-written code cannot be run safely here ({'; '.join(problems)}).", hint=INSTALL
    )


def problem_of(tier: Tier) -> str | None:
    """Why this kind of jail does not work here, or None: it does."""
    if platform.machine() not in MACHINES:
        return f"there is no filter of system calls for {platform.machine()}"
    if tier == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    try:
        outcome = _run("print(6 * 7)", "", {}, Limits(), {}, tier)
    except OSError as error:
        return str(error)
    if (outcome.state, outcome.stdout) == ("finished", "42\n"):
        return None
    said = outcome.stderr.strip().splitlines() or [outcome.state]
    return said[-1][:200]


def _run(
    program: str,
    stdin: str,
    files: Mapping[str, str],
    limits: Limits,
    ours: Mapping[str, str],
    tier: Tier,
) -> Outcome:
    if any(name != Path(name).name for name in files):
        raise ValueError(f"files are named without folders, not {sorted(files)}")
    with ExitStack() as stack:
        folder = None
        if files and tier == "landlock":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.chmod(folder, 0o755)
        job = instructions(tier, program, dict(ours), dict(files), folder, limits)
        ready, its_ready = os.pipe()
        stack.callback(os.close, ready)
        with os.fdopen(its_ready), _sealed(json.dumps(job)) as told, _sealed(stdin) as given:
            child = subprocess.Popen(
                command(tier, told.fileno(), its_ready),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(told.fileno(), its_ready),
                cwd="/",
                env=ENVIRONMENT,
                preexec_fn=die_with_parent(os.getpid()),
                start_new_session=True,
            )
        with child:
            watch = Watch(child, ready, limits)
            end = watch.follow()
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    state = _told_by(code, watch.stderr) if end == "finished" else end
    # A limit of the kernel's on that very time ended it before the clock did.
    worked = float(limits.cpu_s) if (end, state) == ("finished", "timeout") else watch.processor_s
    return Outcome(state, code, watch.stdout, watch.stderr, watch.seconds, worked, tier)


def _sealed(text: str) -> IO[bytes]:
    """A text as a file without a name, which nobody can change."""
    file = os.fdopen(os.memfd_create("given", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b")
    file.write(text.encode())
    file.seek(0)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


def _told_by(code: int, stderr: str) -> State:
    """What the end of a process that nobody stopped tells."""
    if code == 128 + signal.SIGXCPU:
        return "timeout"
    if code > 128:
        return "killed"
    last = stderr.rstrip().rpartition("\n")[2]
    return "memory" if code == 1 and last.startswith("MemoryError") else "finished"
