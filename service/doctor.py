"""What this machine and this installation are like, and what to do where something is amiss."""

import ctypes
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import psutil

from judges.verifiers.sandbox import INSTALL, best_tier
from pipelines.home import Home
from pipelines.store.connection import loaded_version, wal_is_safe
from pipelines.store.health import health
from service.serving import running
from teachers.engine import has_nvidia, this_device
from teachers.errors import VerifierError
from teachers.files import sha256_of
from teachers.process import alive
from teachers.weights import PACKAGED

GATEWAY_PORT = 8000
GB = 1e9
PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
# Their builds on PyPI are CUDA builds, which break `import vllm` on a CPU.
UNWANTED_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    ok: bool | None
    """Whether all is well; None: it works, and could be better."""
    found: str
    todo: str = ""
    """What to do, where it is not well."""


def check(home: Home, port: int = GATEWAY_PORT) -> list[Finding]:
    """Look at everything that a round or a server needs.

    Changes nothing, and starts nothing but a program of one line in each kind of jail.

    Args:
        home: the installation to look at; it need not exist yet.
        port: where the gateway is to listen.
    """
    device = this_device()
    return [
        python(sys.version_info[:2]),
        machine(os.cpu_count() or 1, psutil.virtual_memory().total),
        processor(Path("/proc/cpuinfo")),
        gpu(),
        disk(home.root),
        sqlite(),
        *packages(device),
        *(text_only() if device == "cpu" else []),
        *([numa()] if device == "cpu" else []),
        *models(),
        sandbox(),
        store(home.store),
        engines(home.root),
        gateway(home, port),
    ]


def python(found: tuple[int, ...]) -> Finding:
    fits = found in {(3, 11), (3, 12)}
    todo = "" if fits else "make setup PYTHON=/path/to/python3.11"
    return Finding("python", fits, platform.python_version(), todo)


def machine(cores: int, memory: int) -> Finding:
    enough = memory > 7.5 * GB
    todo = "" if enough else "A server and a training run together want 8 GB of memory."
    return Finding("machine", enough or None, f"{cores} cores, {memory / GB:.0f} GB memory", todo)


def processor(cpuinfo: Path) -> Finding:
    """Which wide instructions the CPU has: for information, they decide vLLM's speed."""
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    found = [flag for flag in TELLING_FLAGS if flag in words]
    return Finding("processor", True, f"{platform.machine()} {' '.join(found)}".strip())


def gpu() -> Finding:
    if not has_nvidia():
        return Finding("gpu", True, "none; everything runs on the CPU")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("gpu", None, "a driver, and no nvidia-smi", "Install the driver's tools.")
    asked = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    child = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    if child.returncode != 0:
        return Finding("gpu", False, child.stdout.strip(), "nvidia-smi fails: mend the driver.")
    return Finding("gpu", True, "; ".join(child.stdout.strip().splitlines()))


def disk(home: Path) -> Finding:
    """Room for the store, models and checkpoints, where they are or will be."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    ok = False if free < 1 * GB else None if free < 5 * GB else True
    todo = "" if ok else "Free some space, or name another place with PRECEPTOR_HOME."
    return Finding("disk", ok, f"{free / GB:.1f} GB free for {home}", todo)


def sqlite() -> Finding:
    found = ".".join(map(str, loaded_version()))
    if wal_is_safe(loaded_version()):
        return Finding("sqlite", True, f"{found}, write-ahead log")
    todo = "pip install 'pysqlite3>=0.6.1' brings one without the WAL-reset bug."
    return Finding("sqlite", None, f"{found}, slower journal", todo)


def packages(device: str) -> Iterator[Finding]:
    """What is pinned exactly, against what is installed; nothing of it is imported."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"][device]:
        name, pinned, wanted = requirement.partition("==")
        if not pinned:
            continue
        found = installed(name)
        # torch calls its builds 2.13.0+cpu and the like.
        fits = found is not None and found.split("+")[0] == wanted
        yield Finding(name, fits, found or "not installed", "" if fits else "make setup")


def text_only() -> Iterator[Finding]:
    """Packages that must not be there on a CPU."""
    for name in UNWANTED_ON_CPU:
        if found := installed(name):
            todo = f"pip uninstall -y {name}: it breaks vLLM on a CPU."
            yield Finding(name, False, found, todo)


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numa() -> Finding:
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        return Finding("libnuma", False, "not found", "vLLM needs it: apt install libnuma1")
    return Finding("libnuma", True, "found")


def models() -> Iterator[Finding]:
    """The models that come as packages."""
    for name, model in PACKAGED.items():
        spec = importlib.util.find_spec(model.module)
        folders = (spec.submodule_search_locations or []) if spec else []
        file = next(
            (path for folder in folders if (path := Path(folder) / model.file).exists()), None
        )
        todo = f"pip install --no-deps --force-reinstall {model.package}"
        if file is None:
            yield Finding("model", False, f"{name} is not installed", todo)
        elif sha256_of(file) != model.sha256:
            yield Finding("model", False, f"{file} is not the file it should be", todo)
        else:
            yield Finding("model", True, f"{name}, {file.stat().st_size / 1e6:.0f} MB")


def sandbox() -> Finding:
    """The jail that model-written code runs in."""
    try:
        tier = best_tier()
    except VerifierError as none:
        return Finding("sandbox", None, none.message, none.hint)
    if tier == "bubblewrap":
        return Finding("sandbox", True, "bubblewrap")
    return Finding("sandbox", None, f"{tier}, the second best", INSTALL)


def store(path: Path) -> Finding:
    if not path.exists():
        return Finding("store", True, f"none yet at {path}")
    journal, problem = health(path)
    if problem:
        todo = "Put a backup in its place, or move it away to start an empty store."
        return Finding("store", False, f"{path}: {problem}", todo)
    return Finding("store", True, f"{path}, {path.stat().st_size / 1e6:.1f} MB, {journal} journal")


def engines(home: Path) -> Finding:
    """Model servers of ours: those that run, and those whose owner was killed."""
    owned = orphaned = 0
    for record in (home / "engines").glob("*.json"):
        try:
            kept = json.loads(record.read_text())
            whose = alive(kept["owner"], kept["owner_started"])
        except (OSError, ValueError, KeyError, TypeError):
            whose = False
        owned, orphaned = owned + whose, orphaned + (not whose)
    todo = "The next start of an engine ends and forgets them." if orphaned else ""
    found = f"{owned} running, {orphaned} left over"
    return Finding("engines", not orphaned or None, found, todo)


def gateway(home: Home, port: int) -> Finding:
    """Whether the address that users see can be had, or is ours already."""
    if (server := running(home)) is not None:
        return Finding("gateway", True, f"serving at {server.url}")
    with socket.socket() as probe:
        # As servers do it: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            todo = "End what uses it, or serve elsewhere: preceptor serve --port N"
            return Finding("gateway", False, f"port {port}: {error.strerror}", todo)
    return Finding("gateway", True, f"port {port} is free")
