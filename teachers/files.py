"""Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Build a folder under a temporary name; it gets its own name only when all of it is on disk.

    What an interrupted attempt left is removed first. The caller makes sure that nobody else
    builds the same target (a lock on the run, or one process alone).
    """
    partial = target.with_name(target.name + PARTIAL)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for path in partial.rglob("*"):
        sync(path)
    sync(partial)
    partial.rename(target)
    sync(target.parent)


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    partial = target.with_name(target.name + PARTIAL)
    data = content.encode() if isinstance(content, str) else content
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    partial.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Growing:
    """A file that another process adds lines to."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[bytes]:
        """The whole lines that came since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as content:
            content.seek(self._offset)
            whole, newline, _ = content.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return whole.splitlines()
