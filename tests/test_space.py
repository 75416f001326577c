"""Room on the disk: what is removed to get it, and what never is."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines import space
from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.connection import connect, transaction
from teachers.errors import StoreFull
from teachers.progress import Silent
from tests.commands import Cli
from tests.served import STUDENTS, make_home

SIZE = 3 * space.MIB


class Disk(NamedTuple):
    """What `shutil.disk_usage` says."""

    total: int
    used: int
    free: int


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two training runs that are done, with everything that a trainer leaves."""
    home = make_home(tmp_path)
    for name in STUDENTS:
        folder = home.runs / name
        for part in ("adapter", "checkpoints/checkpoint-9"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / "adapter_model.safetensors").write_text("weights")
        (folder / "checkpoints/checkpoint-9/optimizer.pt").write_bytes(bytes(SIZE))
        (folder / "result.json").write_text("{}")
    return home


def files(home: Home) -> set[str]:
    return {str(one.relative_to(home.root)) for one in home.runs.rglob("*") if one.is_file()}


def disk_of(home: Home, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """A disk that has so much left, and more for each file that goes."""
    begun = sum(one.stat().st_size for one in home.runs.rglob("*") if one.is_file())

    def usage(_: Path) -> Disk:
        left = sum(one.stat().st_size for one in home.runs.rglob("*") if one.is_file())
        return Disk(10**12, 0, free + begun - left)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_with_room_enough_nothing_is_removed(home: Home) -> None:
    before = files(home)
    with closing(connect(home.store)) as db:
        space.make_room(db, home, Silent(), floor=1)
    assert files(home) == before


def test_the_oldest_runs_checkpoints_go_first_and_no_more_than_needed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(home)
    disk_of(home, monkeypatch, free=10 * space.MIB)
    with closing(connect(home.store)) as db:
        space.make_room(db, home, Silent(), floor=12 * space.MIB)
    gone = before - files(home)
    assert {one.split("/")[1] for one in gone} == {"one"}
    assert all("/checkpoints/" in one for one in gone)


def test_when_that_is_not_enough_it_says_what_is_missing_and_the_rest_stays(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(home)
    disk_of(home, monkeypatch, free=0)
    with (
        closing(connect(home.store)) as db,
        pytest.raises(StoreFull, match=r"has 6 MiB of room left, and a round needs 1024") as full,
    ):
        space.make_room(db, home, Silent())
    assert "preceptor runs resume" in full.value.hint
    assert all("/checkpoints/" in one for one in before - files(home))
    assert {f"runs/{name}/merged/model.safetensors" for name in STUDENTS} <= files(home)


@pytest.mark.parametrize("missing", ["result.json", "adapter"])
def test_a_run_that_has_not_its_result_keeps_what_it_would_go_on_from(
    home: Home, missing: str
) -> None:
    place = home.runs / "one" / missing
    place.unlink() if place.is_file() else shutil.rmtree(place)
    with closing(connect(home.store)) as db:
        assert [one.run_id for one in space.leftovers(db)] == ["run two"]


def test_a_run_that_is_not_done_keeps_them(home: Home) -> None:
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        checkpoints.close_training(db, "run one", "failed", error="it stopped")
        assert [one.run_id for one in space.leftovers(db)] == ["run two"]


def test_the_command_says_what_it_would_remove_and_then_removes_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRECEPTOR_HOME", str(home.root))
    cli, before = Cli(monkeypatch, capsys, home.root), files(home)
    assert "6 MiB would be removed" in cli("prune", "--dry-run").out
    assert files(home) == before
    assert "6 MiB were removed" in cli("prune").out
    assert not [one for one in files(home) if "/checkpoints/" in one]
    assert cli("prune", "--json").json == {"removed": True, "bytes": 0, "of": []}
