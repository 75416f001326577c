"""Verifiers as other people might write them, badly: for the pool to survive."""

import os
import subprocess
import time
from typing import Any, Never

from judges.records import Verification

VERSION = 3
WHOLE = True

_FINE = Verification(state="verified", reason="fine")


def nap(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Take as many seconds as the text says."""
    time.sleep(float(text))
    return _FINE


def hungry(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Ask for 8 GB."""
    return Verification(state="verified", reason=str(len(bytearray(8 * 1024**3))))


def leaves(text: str, reference: str | None, entry: dict[str, Any]) -> Never:
    """End the process."""
    os._exit(0)


def prints(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Say that it is verified, and find that it is not."""
    print(_FINE.model_dump_json(), flush=True)
    return Verification(state="refuted", reason="not fine")


def novel(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Give a reason of 8 MB."""
    return Verification(state="verified", reason="x" * 8 * 1024**2)


def mojibake(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Give half a character as a reason."""
    raise ValueError("\ud800")


def fills(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Write 100 MB to the file that the text names."""
    with open(text, "wb") as file:
        file.write(bytes(100 * 1024**2))
    return _FINE


def breeds(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Start a process that would outlive this one, write its number to a file, and hang."""
    child = subprocess.Popen(["sleep", "600"])
    with open(text, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
    return _FINE
