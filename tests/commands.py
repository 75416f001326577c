"""Commands run in this process, as a user would: what is said, and with which exit code."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cli import main


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Said:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """Runs commands in this process, as `preceptor` would."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.home = home

    def __call__(self, *words: str) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["preceptor", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, err)

    def refused(self, *words: str) -> str:
        """What is said on standard error by a command that must fail."""
        said = self(*words)
        assert said.code == 1
        assert said.err.startswith("error: ")
        return said.err
