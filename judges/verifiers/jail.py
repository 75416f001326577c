"""How a jail is built: the command around Python, what it can see, and what its inside is told.

The inside (`inside/confine.py`) is handed over as text, so a jail needs no view of the project.
"""

import platform
import resource
import shutil
import sys
from os import fspath, geteuid, getpid, path
from pathlib import Path
from typing import Any, Literal, NamedTuple

from judges.verifiers.seccomp import filter_for

Tier = Literal["bubblewrap", "landlock"]
TIERS: tuple[Tier, ...] = ("bubblewrap", "landlock")
"""Kinds of jail, the stronger first."""

CONFINE = Path(__file__).with_name("inside") / "confine.py"
# What Python's own modules load. Never a home, a store or a checkout.
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
SYSTEM_PYTHON = Path("/usr/bin/python3")
TMP_BYTES = 32 * 1024**2
# A user for each process that runs jails: nobody else's limits, files or processes are touched.
FIRST_UID = 2_000_000_000
# All there is. The same order of sets in every run, so that a verdict can be repeated; and threads
# that do not each reserve 64 MB of addresses.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"}


class Limits(NamedTuple):
    """What a program may use."""

    wall_s: float = 5.0
    cpu_s: int = 5
    """Of each process; whichever of the two times ends first."""
    memory_bytes: int = 512 * 1024**2
    """Of addresses, of each process. Python itself takes about 30 MB."""
    threads: int = 32
    output_bytes: int = 1024**2
    """Of standard output and of standard error, each."""
    file_bytes: int = 8 * 1024**2
    open_files: int = 64


def command(tier: Tier, job: int, ready: int) -> list[str]:
    """What to start: Python, in bubblewrap if that is the tier, with its two descriptors."""
    flags = ("-P", "-s", "-S", "-B", "-X", "utf8", "-c", CONFINE.read_text())
    inner = [fspath(_python(tier)), *flags, str(job), str(ready)]
    return inner if tier == "landlock" else [*_bubblewrap(), *inner]


def instructions(
    tier: Tier,
    program: str,
    ours: dict[str, str],
    files: dict[str, str],
    folder: str | None,
    limits: Limits,
) -> dict[str, Any]:
    """What `inside/confine.py` is told.

    Args:
        ours: modules of ours to load first, text by name; the last one runs the program.
        folder: a folder of this machine for the files, where the tier has none of its own.
    """
    return {
        "program": program,
        "ours": ours,
        "files": files,
        "folder": folder or ("/tmp" if tier == "bubblewrap" else "/"),
        "limits": _limits(limits, tier),
        "filter": filter_for(platform.machine()).hex(),
        "landlock": tier == "landlock",
        "readable": [*_libraries(), *DEVICES, *([folder] if folder else [])],
        "uid": FIRST_UID + getpid(),
        "parent": 1 if tier == "bubblewrap" else getpid(),
    }


def _bubblewrap() -> list[str]:
    """bwrap and its arguments: nothing but Python, its libraries, four devices and a small /tmp."""
    found = shutil.which("bwrap")
    assert found is not None, "problem_of has looked"
    namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    namespaces += ["--unshare-cgroup-try", "--hostname", "jail"]
    if geteuid() == 0:  # the inside becomes another user, which a namespace of users would forbid
        identity = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        identity = ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    view = ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    for shown in (fspath(_python("bubblewrap")), *_libraries()):
        # bwrap would make these folders for root only.
        view += [word for above in reversed(Path(shown).parents) for word in ("--dir", str(above))]
        view += ["--ro-bind", shown, shown]
    view += ["--dir", "/dev"]
    for device in DEVICES:
        view += ["--dev-bind", device, device]
    return [found, *namespaces, *identity, "--die-with-parent", *view, "--remount-ro", "/", "--"]


def _python(tier: Tier) -> Path:
    """The interpreter that this process runs on, environments aside.

    Without namespaces, the jail's user has to reach it by itself; the system's Python stands in for
    one that lies in a closed folder, such as root's home.
    """
    ours = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    closed = not all(folder.stat().st_mode & 0o001 for folder in ours.parents)
    if tier == "landlock" and geteuid() == 0 and closed and SYSTEM_PYTHON.exists():
        return SYSTEM_PYTHON
    return ours


def _libraries() -> list[str]:
    ours = (path.join(sys.base_prefix, name) for name in ("lib", sys.platlibdir))
    return [shown for shown in dict.fromkeys((*SYSTEM, *ours)) if path.exists(shown)]


def _limits(limits: Limits, tier: Tier) -> dict[str, tuple[int, int]]:
    """Soft and hard limits by their names in `resource`, none above those of this process."""
    wanted = {
        "RLIMIT_AS": (limits.memory_bytes, limits.memory_bytes),
        # The soft one ends in SIGXCPU, which tells what happened; the hard one in SIGKILL.
        "RLIMIT_CPU": (limits.cpu_s, limits.cpu_s + 1),
        "RLIMIT_NPROC": (limits.threads, limits.threads),
        "RLIMIT_FSIZE": (limits.file_bytes, limits.file_bytes),
        "RLIMIT_NOFILE": (limits.open_files, limits.open_files),
        "RLIMIT_CORE": (0, 0),
    }
    if tier == "landlock" and geteuid() != 0:
        del wanted["RLIMIT_NPROC"]  # it would count everything that this user runs
    return {name: _lowered(name, soft, hard) for name, (soft, hard) in wanted.items()}


def _lowered(name: str, soft: int, hard: int) -> tuple[int, int]:
    most = resource.getrlimit(getattr(resource, name))[1]
    if most == resource.RLIM_INFINITY:
        return soft, hard
    return min(soft, most), min(hard, most)
