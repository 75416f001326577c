"""Files and folders are whole or not there."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from teachers.files import PARTIAL, sha256_of, whole_folder, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with whole_folder(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "weights").write_text("w")
        assert names(tmp_path) == ["adapter" + PARTIAL]
    assert names(tmp_path) == ["adapter"]
    assert (target / "deep" / "weights").read_text() == "w"


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "adapter") as partial:
        (partial / "missing" / "half").write_text("h")
    assert names(tmp_path) == []


def test_what_an_interrupted_attempt_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ("adapter" + PARTIAL)).mkdir()
    (tmp_path / ("adapter" + PARTIAL) / "stale").write_text("old")
    with whole_folder(tmp_path / "adapter") as partial:
        (partial / "new").write_text("new")
    assert names(tmp_path / "adapter") == ["new"]


@pytest.mark.fault
def test_a_kill_leaves_no_folder_under_the_final_name(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from teachers.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'half').write_text('h'); os.kill(os.getpid(), 9)"
    )
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path / "adapter")])
    assert child.returncode == -9
    assert names(tmp_path) == ["adapter" + PARTIAL]


@pytest.mark.parametrize("content", ["text \u00fc", b"\x00bytes"])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, content: str | bytes) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    write_whole(target, content)
    assert target.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["file"]


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "\ud800")
    assert target.read_text() == "old"


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
