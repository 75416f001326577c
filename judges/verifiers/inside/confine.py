"""The first code in a jail: it gives up rights, one after another, and becomes the program.

Run as `python -c SOURCE JOB READY` with two open descriptors: the job as JSON, and where to write a
byte once the program is about to start. Standard library only, and nothing of ours: a jail has no
view of the project. What bubblewrap has not done before (files, identity) is done here; limits and
the filter of system calls are always set here, so they are inside any namespace.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from functools import partial
from types import ModuleType
from typing import Any

NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SECCOMP_MODE_FILTER = 2
# Landlock, by linux/landlock.h: system calls, and rights as bits.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_RULE = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = (13, 14, 15, 15, 16)
"""How many kinds of access to files there are, by version from 1 on."""
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_BOTH = 0b11
"""Bind and connect, of TCP; abstract sockets and signals, of scopes."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def main() -> None:
    """Read the job, confine this process, and run the job's program as `__main__`.

    Where there are modules of `ours`, the last of them is a referee: it starts the program itself,
    in a child, and both of them seal themselves after that.
    """
    job_file, ready = map(int, sys.argv[1:])
    with os.fdopen(job_file) as file:
        job: dict[str, Any] = json.load(file)
    os.chdir(job["folder"])
    for name, text in job["files"].items():
        with open(name, "w") as file:
            file.write(text)
    _demand(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    if job["landlock"]:
        landlock(job["readable"])
    if os.getuid() == 0:
        become(job["uid"])
    for limit, (soft, hard) in job["limits"].items():
        resource.setrlimit(getattr(resource, limit), (soft, hard))
    code = bytes.fromhex(job["filter"])
    if job["ours"]:
        for name, text in job["ours"].items():
            referee = load(text, name)
        start = partial(referee.main, job["program"], partial(seal, code), job["parent"])
    else:
        seal(code, job["parent"])
        start = partial(load, job["program"], "__main__")
    os.write(ready, b"1")
    os.close(ready)
    start()


def load(text: str, name: str) -> ModuleType:
    """Run a text as the module of that name."""
    module = sys.modules[name] = ModuleType(name)
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    return module


def become(uid: int) -> None:
    """Another user, for good: one that nobody else is, where the system knows so many."""
    os.setgroups([])
    for one in (uid, NOBODY):
        try:
            os.setresgid(one, one, one)
            os.setresuid(one, one, one)
        except OSError:
            continue
        return
    raise OSError("cannot become another user")


def seal(code: bytes, parent: int) -> None:
    """End with `parent`, and make no system call that the filter does not let through."""
    _demand(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
    loaded = _Filter(len(code) // 8, code)
    mode = _SECCOMP_MODE_FILTER
    _demand(_LIBC.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(loaded), 0, 0), "seccomp")


def landlock(readable: list[str]) -> None:
    """Take away every file but those under `readable`, and TCP and signals where it can."""
    version = _LIBC.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    _demand(version, "Landlock")
    every = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
    rules = _Ruleset(
        every,
        _BOTH if version >= _TCP_SINCE else 0,
        _BOTH if version >= _SCOPES_SINCE else 0,
    )
    # The kernel takes attributes that are longer than those it knows, if the rest is zero.
    ruleset = _LIBC.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    _demand(ruleset, "Landlock")
    for path in readable:
        _allow(ruleset, path)
    _demand(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: str) -> None:
    rights = _READ_FILE | (_WRITE_FILE if path == os.devnull else 0)
    if os.path.isdir(path):
        rights |= _READ_DIR
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = _PathRule(rights, folder)
    _demand(_LIBC.syscall(_ADD_RULE, ruleset, _PATH_RULE, ctypes.byref(rule), 0), "Landlock")
    os.close(folder)


def _demand(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    main()
