"""Whole rounds: real store, verifiers and training, the scripted server as model server.

Training is the dear part. Rounds on the same questions end in the same dataset, and so in the same
training run: the tests share one home, where it is found done, and start from an empty store there.
"""

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines import space
from pipelines.round import Outcome
from pipelines.store import checkpoints
from pipelines.store.connection import connect
from teachers.errors import PreceptorError, RoundStopped, StoreFull, WeightsError
from tests.places import HELD_OUT, TRAIN, Meddler, N, Place, usual
from tests.scripted.running import running
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


class First(Place):
    """Where the rounds of this file run, and how the first one ended."""

    outcome: Outcome


def place_at(root: Path) -> First:
    return First(root, usual(root), "--right", "0.4", "--right-after", "0.95")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    """One whole round, start to end, which later tests look at or come back to."""
    root = tmp_path_factory.mktemp("round")
    tiny_model(root / "model")
    place = place_at(root)
    place.outcome = place.run(place.recipe())
    place.keep()
    return place


@pytest.fixture
def finished(first: First) -> First:
    """The first round, just done."""
    first.back()
    return first


@pytest.fixture
def fresh(first: First) -> Iterator[First]:
    """An empty store; nothing of ours may be left running."""
    first.empty()
    yield first
    assert servers(first) == []
    assert list((first.home.root / "engines").iterdir()) == []


def servers(place: Place) -> list[psutil.Process]:
    """Scripted servers and their keepers."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(place.log) in words:
            found.append(process)
    return found


def wait_for(what: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


# --- The first round ----------------------------------------------------------------------------


def test_a_better_student_is_promoted(finished: First) -> None:
    outcome = finished.outcome
    gate = outcome.reports["gate"]
    assert outcome.promoted
    assert gate["items"] == HELD_OUT
    assert set(gate["shares"]) == {"base", "base few-shot", "student"}
    assert all(bar["passed"] for bar in gate["bars"])
    assert Path(outcome.reports["promote"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert finished.ask("select name, checkpoint_id from aliases") == [
        ("champion", gate["checkpoint"])
    ]
    assert finished.ask("select state from rounds") == [("done",)]
    assert finished.ask("select distinct state from stages") == [("done",)]
    assert finished.ask("select decision, incumbent from promotions") == [("promoted", None)]


def test_its_tables_agree_with_each_other(finished: First) -> None:
    one = finished.one
    samples = one(
        "select count(*) from samples join calls c on c.id = call_id where purpose='teach'"
    )
    assert samples == TRAIN * N
    assert one("select count(*) from calls where state = 'done'") == TRAIN + 3 * HELD_OUT
    assert one("select count(*) from calls where state <> 'done'") == 0
    # Every row of the dataset was verified, and none of its questions is held out.
    rows = finished.ask(
        "select state, split from dataset_rows d join verdicts v on v.sample_id = d.sample_id"
        " join samples s on s.id = d.sample_id join prompts p on p.id = s.prompt_id"
        " where parser = 'strict'"
    )
    assert set(rows) == {("verified", "train")}
    questions = "select count(distinct lower(question)) from prompts"
    assert one(questions) == one("select count(*) from prompts") == TRAIN + HELD_OUT
    # What is not in it is rejected, with a reason.
    rejected = one("select count(*) from rejections")
    assert len(rows) + rejected == samples
    assert one("select count(*) from rejections where length(reason) < 4") == 0
    assert one("select count(*) from rejections join dataset_rows using (sample_id)") == 0
    report = finished.outcome.reports["build"]
    assert (report["samples"], report["kept"]) == (samples, len(rows))
    assert sum(report["rejected"].values()) == rejected
    # Each eval has an item for every held-out prompt.
    evals = finished.ask("select prompting, items, checkpoint_id is not null from evals order by 1")
    assert evals == [
        ("few-shot", HELD_OUT, 0),
        ("zero-shot", HELD_OUT, 0),
        ("zero-shot", HELD_OUT, 1),
    ]
    assert one("select count(*) from eval_items") == 3 * HELD_OUT


def test_the_frozen_dataset_is_what_the_store_says(finished: First) -> None:
    (path,) = finished.ask("select path from datasets")[0]
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(rows) == finished.one("select rows from datasets")
    for row in rows:
        ((role, question), (said, answer)) = (
            (turn["role"], turn["content"]) for turn in (*row["prompt"], *row["completion"])
        )
        assert (role, said) == ("user", "assistant")
        assert question.endswith("\nAdd up.")
        assert "Answer: " in answer
    assert finished.one("select count(*) from metrics where name = 'loss'") > 0


def test_a_second_run_makes_no_call_and_starts_no_server(finished: First) -> None:
    before = finished.log.read_text()
    began = time.monotonic()
    again = finished.run(finished.recipe())
    assert time.monotonic() - began < 5
    assert again == finished.outcome
    assert finished.log.read_text() == before


# --- Rounds that end otherwise ------------------------------------------------------------------


def test_a_student_that_is_not_better_is_kept_aside(fresh: First) -> None:
    outcome = fresh.run(fresh.recipe("--right-after", "0.4"))
    assert not outcome.promoted
    assert (
        "strict against base: +0.0% (p = 1), needs at least +10.0%"
        in (outcome.reports["promote"]["reason"])
    )
    assert fresh.ask("select * from aliases") == []
    assert fresh.ask("select decision from promotions") == [("kept",)]


def test_a_champion_is_what_the_next_student_is_held_against(finished: First) -> None:
    champion = finished.outcome.reports["gate"]["checkpoint"]
    outcome = finished.run(finished.recipe(train={"seed": 18}))
    gate = outcome.reports["gate"]
    assert gate["checkpoint"] != champion
    assert gate["incumbent"] == "champion"
    assert set(gate["shares"]) == {"base", "base few-shot", "champion", "student"}
    # It answers as the champion does, so nothing is gained.
    assert "strict against champion: +0.0%" in gate["reason"]
    assert not outcome.promoted
    assert finished.one("select checkpoint_id from aliases") == champion
    # Only the new student had to be asked; the champion's answers were known.
    assert len(finished.requests("answered")) == TRAIN + 4 * HELD_OUT


def test_a_teacher_that_is_never_right_stops_the_round_with_the_cause(fresh: First) -> None:
    with fresh.start(fresh.recipe("--right", "0")) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: Only 0 answers can be learned from; the recipe asks for 10" in errors
    assert ["refuted", str(TRAIN * N)] in [line.split() for line in errors.splitlines()]
    assert "The teacher is mostly wrong" in errors
    assert "Traceback" not in errors
    assert fresh.ask("select state from rounds") == [("stopped",)]
    assert "Only 0 answers" in fresh.one("select note from rounds")


def test_too_few_held_out_prompts_are_told_before_anything_is_asked(fresh: First) -> None:
    with pytest.raises(RoundStopped, match="60 held-out prompts; the gate wants at least 61"):
        fresh.run(fresh.recipe(gate={"min_items": 61}))
    assert fresh.requests("arrived") == []


def test_a_file_with_bad_lines_goes_on_with_the_good_ones(fresh: First) -> None:
    lines = [
        f'{{"question": "{n} + 7 =", "answer": "So it is {n + 7}.\\n#### {n + 7}"}}'
        for n in range(40)
    ]
    lines[3:3] = [
        "{broken",
        '{"question": "no answer"}',
    ]
    (fresh.root / "sums.jsonl").write_text("\n".join(lines))
    recipe = fresh.recipe(
        supply={"generators": [], "files": [{"path": "sums.jsonl", "train": 10, "held_out": 5}]},
        teacher={"examples": {}, "sampling": {"n": 2}, "concurrency": 4},
        build={"minimum": 1000},
        gate={"min_items": 1},
    )
    told = Meddler("", 0, lambda: None)
    with pytest.raises(RoundStopped, match=r"Only \d+ answers") as stopped:
        fresh.run(recipe, told)
    assert ["samples", "20"] in [line.split() for line in stopped.value.message.splitlines()]
    where = fresh.root / "sums.jsonl"
    assert [text for text in told.said if text.startswith(f"left out: {where}:4: ")]
    assert f"left out: {where}:5: no 'answer' in it" in told.said
    report = json.loads(fresh.one("select report from stages where name = 'supply'"))
    assert report["prompts"] == {"sums/held_out": 5, "sums/train": 10}
    assert fresh.ask("select distinct verifier from prompts") == [("number",)]
    assert fresh.one("select count(*) from verdicts where state = 'verified'") > 0


def test_an_endpoint_elsewhere_can_teach(fresh: First, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "the key")
    with running(fresh.root, "--right", "0.4", "--served-model-name", "big") as server:
        monkeypatch.delenv("VLLM_API_KEY")
        teacher = {"url": server.url, "model": "big", "api_key_env": "TEACHER_KEY"}
        recipe = fresh.recipe(teacher={**teacher, **sums_example()})
        with pytest.raises(PreceptorError, match="TEACHER_KEY is not set"):
            fresh.run(recipe)
        monkeypatch.setenv("TEACHER_KEY", "another key")
        with pytest.raises(PreceptorError, match="refused the request: 401"):
            fresh.run(recipe)
        monkeypatch.setenv("TEACHER_KEY", "the key")
        outcome = fresh.run(recipe)
        assert outcome.promoted
        assert len(server.events("answered", model="big")) >= TRAIN
    assert outcome.reports["sample"]["weights"] == f"{server.url} big@"
    assert "the key" not in fresh.home.store.read_bytes().decode("latin-1")


def sums_example() -> dict[str, Any]:
    return {
        "sampling": {"n": N, "max_tokens": 64},
        "examples": {"chain_sum": [{"question": "1 + 1 =", "answer": "Answer: 2"}]},
    }


# --- Faults -------------------------------------------------------------------------------------


def nothing_was_asked_twice(place: Place) -> None:
    """No call was made again after it was done, and no two attempts of one are done."""
    assert (
        place.ask(
            "select id from calls group by id having sum(state = 'done') <> 1"
            " or max(attempt) > max(iif(state = 'done', attempt, 0))"
        )
        == []
    )


@pytest.mark.fault
def test_a_server_that_dies_in_mid_generation_is_started_again(fresh: First) -> None:
    def kill() -> None:
        server = max(servers(fresh), key=lambda process: process.create_time())
        # The next calls have left by then, and are not answered yet.
        threading.Timer(0.05, server.kill).start()

    meddler = Meddler("teacher answers", 6, kill)
    outcome = fresh.run(fresh.recipe("--delay-ms", "120", teacher={"concurrency": 8}), meddler)
    assert meddler.acted
    assert any("engine died, starting it again" in text for text in meddler.said)
    assert outcome.promoted
    assert outcome.reports["build"] == fresh.outcome.reports["build"]
    nothing_was_asked_twice(fresh)
    uncertain = fresh.one("select count(*) from calls where state in ('uncertain', 'failed')")
    assert 1 <= uncertain <= 8


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_round_that_is_stopped_goes_on_where_it_was(fresh: First, number: signal.Signals) -> None:
    recipe = fresh.recipe("--delay-ms", "300")
    with fresh.start(recipe) as process:
        wait_for(lambda: len(fresh.requests("answered")) >= 1)
        with pytest.raises(PreceptorError, match="Another process is running a round"):
            fresh.run(recipe)
        # One that has arrived just now is in flight for as long as the server delays it.
        next_one = max(7, len(fresh.requests("arrived")) + 1)
        wait_for(lambda: len(fresh.requests("arrived")) >= next_one)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    wait_for(lambda: servers(fresh) == [], limit_s=5)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert errors.strip().splitlines()[-1] == "stopped; the same command goes on from here"
        assert "Traceback" not in errors
        assert fresh.ask("select state from rounds") == [("interrupted",)]
        assert 1 <= fresh.one("select count(*) from calls where state = 'uncertain'") <= 4
    outcome = fresh.run(recipe)
    assert outcome.promoted
    assert outcome.reports["build"] == fresh.outcome.reports["build"]
    nothing_was_asked_twice(fresh)
    assert 1 <= fresh.one("select count(*) from calls where state = 'uncertain'") <= 4
    assert fresh.one("select count(*) from calls where state = 'sent'") == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A folder with little space, where we may make one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("no small disk can be made here: mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as out:
        for size in (65536, 4096, 1):
            with suppress(OSError):  # the disk is full
                while True:
                    out.write(b"x" * size)
    return path


@pytest.mark.fault
@pytest.mark.parametrize("step", ["teacher answers", "verify answers"])
def test_a_full_disk_is_said_and_the_round_goes_on_when_there_is_space(
    first: First, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It fills up in the middle of a stage, however much there was when that began.
    monkeypatch.setattr(space, "FLOOR_BYTES", 0)
    with small_disk(tmp_path / "disk", "24m") as disk:
        shutil.copytree(first.root / "model", disk / "model")
        place = place_at(disk)
        # No model server writes to this disk but ours: its log is elsewhere.
        recipe = place.recipe("--log", str(tmp_path / "elsewhere"), build={"minimum": 1000})
        filler: list[Path] = []
        with pytest.raises(StoreFull, match="There is no space left") as full:
            place.run(recipe, Meddler(step, 3, lambda: filler.append(fill(disk))))
        assert "run the same command again" in full.value.hint
        filler[0].unlink()
        with pytest.raises(RoundStopped, match=r"Only \d+ answers"):
            place.run(recipe)
        nothing_was_asked_twice(place)
        kept = place.one("select count(*) from samples")
        assert kept == TRAIN * N
        assert place.one("select count(*) from verdicts") == kept


def test_a_checkpoint_whose_files_were_changed_is_not_measured(finished: First) -> None:
    with closing(connect(finished.home.store)) as db:
        checkpoint = checkpoints.checkpoint(db, finished.outcome.reports["gate"]["checkpoint"])
    config = checkpoint.merged / "generation_config.json"
    kept = config.read_text()
    try:
        config.write_text("{}")
        with pytest.raises(WeightsError, match="is not what was trained"):
            finished.run(finished.recipe(gate={"max_tokens": 65, "min_items": 50}))
    finally:
        config.write_text(kept)
