"""Merged copies that were removed to make room, and are there again for whoever asks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from sqlite_utils import Database

from pipelines import copies, space
from pipelines.home import Home
from pipelines.scoring import score_job
from pipelines.source import prepared
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from pipelines.store.connection import connect, transaction
from pipelines.training import merge
from pipelines.training.job import RewardJob, RunFolder, SftJob
from service.seat import found
from teachers.errors import TrainingError, WeightsError
from teachers.progress import Silent
from teachers.weights import checked, whole
from tests.commands import Cli
from tests.runs import Run, settings, turn
from tests.served import add_student

pytestmark = pytest.mark.usefixtures("one_thread")

ADAPTER = "adapter_model.safetensors"


class Students(NamedTuple):
    """Two students, of which the second was trained on the first."""

    home: Home
    first: Checkpoint
    second: Checkpoint

    def removed(self, *some: Checkpoint) -> None:
        for one in some:
            for path in one.merged.glob("*.safetensors"):
                path.unlink()

    def base(self, one: Checkpoint) -> Path:
        return Path(json.loads(RunFolder(one.merged.parent).job.read_text())["base"])


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Students:
    home = Home(tmp_path_factory.mktemp("home"))
    dataset = home.root / "rows.jsonl"
    row = {"prompt": turn("user", "What is 1?"), "completion": turn("assistant", "One.")}
    dataset.write_text((json.dumps(row) + "\n") * 16)
    base, made = tiny, []
    for name in ("first", "second"):
        job = SftJob(**settings(base, dataset, epochs=2))
        run = Run(job, home.runs / name)
        made.append(_stored(home, name, job, run))
        base = run.files.merged
    return Students(home, *made)


def _stored(home: Home, name: str, job: SftJob, run: Run) -> Checkpoint:
    folder, result = run.files, run.result
    made = Checkpoint(
        *(name, f"run {name}", result.steps, folder.adapter, result.adapter_sha256),
        *(folder.merged, result.weights),
    )
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        add_student(db, made, job.model_dump_json())
    return made


@pytest.fixture
def students(trained: Students) -> Iterator[Students]:
    """The same with everything there, before and after."""
    parts = chain(*(trained.home.runs.glob(f"*/{part}/*") for part in ("adapter", "merged")))
    kept = [(path, path.read_bytes()) for path in parts]
    yield trained
    for path, content in kept:
        path.write_bytes(content)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the child process does is done here, where torch is loaded already."""

    def child(run: RunFolder, *how: str) -> "subprocess.CompletedProcess[str]":
        code = merge.main(run.root, compare="--compare" in how)
        return subprocess.CompletedProcess([], code, "", capsys.readouterr().err)

    monkeypatch.setattr(copies, "_child", child)


@pytest.fixture
def db(students: Students) -> Iterator[Database]:
    with closing(connect(students.home.store)) as opened:
        yield opened


def test_a_copy_comes_back_as_it_was(students: Students, db: Database) -> None:
    students.removed(students.first)
    assert not whole(students.first.merged)
    weights = copies.merged(db, students.first, Silent())
    assert weights == checked(students.first.merged)
    assert weights.fingerprint == students.first.weights


@pytest.mark.usefixtures("here")
def test_what_it_was_trained_on_comes_back_first(students: Students) -> None:
    students.removed(students.first, students.second)
    assert students.base(students.second) == students.first.merged
    weights = prepared("checkpoint:second", students.home, Silent())
    assert weights.fingerprint == students.second.weights
    assert checked(students.first.merged).fingerprint == students.first.weights


@pytest.mark.usefixtures("here")
def test_whoever_serves_it_gets_it(students: Students) -> None:
    students.removed(students.first)
    served = found(students.home, "first", Silent())
    assert served is not None
    assert served.weights.fingerprint == students.first.weights


@pytest.mark.usefixtures("here")
def test_a_reward_model_finds_the_student_that_it_is_on(students: Students, db: Database) -> None:
    first = students.first
    job = RewardJob(**settings(first.merged, students.home.root), objective="reward")
    with transaction(db):
        told = (job.model_dump_json(), first.merged.parent)
        checkpoints.open_training(db, "run reward", "round", "dataset", *told)
    model = first._replace(training_run_id="run reward", merged=first.adapter)
    students.removed(first)
    assert score_job(db, model, Silent()).base == first.merged
    assert whole(first.merged)


@pytest.mark.usefixtures("here")
def test_one_that_comes_out_as_another_is_refused_and_not_served(
    students: Students, db: Database
) -> None:
    students.removed(students.first)
    _changed(students.first.adapter / ADAPTER)
    with pytest.raises(WeightsError, match=r"cannot be made again: .* is not what was trained"):
        copies.merged(db, students.first, Silent())
    with pytest.raises(WeightsError, match="its files have changed"):
        copies.merged(db, students.first, Silent())


@pytest.mark.usefixtures("here")
def test_one_without_its_adapter_says_so(students: Students, db: Database) -> None:
    students.removed(students.first)
    gone = students.first.adapter.rename(students.home.root / "elsewhere")
    try:
        with pytest.raises(WeightsError, match="nor what it would be made of"):
            copies.merged(db, students.first, Silent())
    finally:
        gone.rename(students.first.adapter)


def test_two_who_ask_at_once_both_get_it(students: Students) -> None:
    students.removed(students.first)
    command = [sys.executable, "-m", "pipelines.training.merge", str(students.first.merged.parent)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert checked(students.first.merged).fingerprint == students.first.weights


# --- What may be removed ------------------------------------------------------------------------


def _changed(path: Path) -> None:
    weights = load_file(path)
    save_file({name: one + torch.ones_like(one) for name, one in weights.items()}, path)


def _spare(db: Database, *needed: str) -> list[str]:
    return [one.run_id for one in space.spare_copies(db, needed)]


@pytest.fixture
def all_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "NEWEST", 0)


def test_the_newest_students_keep_theirs(students: Students, db: Database) -> None:
    assert _spare(db) == []


@pytest.mark.usefixtures("all_old", "here")
def test_older_ones_can_spare_theirs_unless_somebody_needs_it(
    students: Students, db: Database
) -> None:
    assert _spare(db) == ["run second", "run first"]
    assert _spare(db, students.first.weights) == ["run second"]
    with transaction(db):
        checkpoints.move_alias(db, CHAMPION, "second", "test")
    try:
        assert _spare(db) == ["run first"]
    finally:
        with transaction(db):
            checkpoints.move_alias(db, CHAMPION, None, "test")


@pytest.mark.usefixtures("all_old", "here")
def test_none_is_spare_that_would_not_come_out_the_same(students: Students, db: Database) -> None:
    _changed(students.first.adapter / ADAPTER)
    assert _spare(db) == ["run second"]
    _changed(students.second.merged / "model.safetensors")
    assert _spare(db) == []


@pytest.mark.usefixtures("all_old", "here")
def test_none_is_spare_whose_adapter_or_base_is_gone(students: Students, db: Database) -> None:
    students.removed(students.first)
    assert _spare(db) == []


@pytest.mark.usefixtures("all_old", "here")
def test_the_command_removes_them_if_asked_to(
    students: Students, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRECEPTOR_HOME", str(students.home.root))
    cli = Cli(monkeypatch, capsys, students.home.root)
    cli("prune")
    assert whole(students.first.merged)
    assert "merged copy" in cli("prune", "--copies", "--dry-run").out
    assert whole(students.first.merged)
    told = cli("prune", "--copies", "--json").json
    assert [one["what"] for one in told["of"]] == ["merged copy"] * 2
    assert told["bytes"] > 0
    assert not whole(students.first.merged)


def test_the_child_says_what_comes_out_otherwise(students: Students) -> None:
    run = RunFolder(students.first.merged.parent)
    assert merge.same(run)
    students.removed(students.first)
    _changed(run.adapter / ADAPTER)
    with pytest.raises(TrainingError, match="merged again and is not what was trained"):
        merge.restore(run)
