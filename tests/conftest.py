"""What several test files share: commands, the scripted server, and the tiny model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Cli
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


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("PRECEPTOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PRECEPTOR_TOKEN", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys, tmp_path / "home")
