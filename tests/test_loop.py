"""Runs: real store, worker processes and training, the scripted server as model server.

Training is the dear part: the tests share one home, where it is found done, and start from an empty
store there.
"""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from pipelines.loop import Begun, Limits, Turn, enough
from pipelines.recipe import Recipe
from pipelines.schedule import next_time
from pipelines.store import runs
from pipelines.store.connection import connect, transaction
from service.runs import enqueue, read
from service.worker import Worker, log_of
from teachers.errors import ConfigError
from tests.commands import Cli
from tests.places import HELD_OUT, TRAIN, Place, usual
from tests.scripted.running import ROOT
from tests.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

SUPPLY = {"generators": [{"generator": "chain_sum"}]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("loop")
    tiny_model(root / "model")
    return Place(root, usual(root), "--right", "0.4", "--right-after", "0.95")


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    """An empty store; nothing of ours may be left running."""
    shared.empty()
    yield shared
    wait_for(lambda: left_over(shared) == [], 10)


def asked(place: Place, *recipes: Path, **limits: int) -> str:
    """The id of a run that waits in the queue."""
    return enqueue(place.home, recipes or [place.recipe()], Limits(**limits), 0).id


def works(place: Place, run_id: str) -> str:
    """What a worker says that serves one run to its end."""
    told = io.StringIO()
    Worker(place.home, Console(file=told, width=200), only=run_id, first_pause_s=0.05).run()
    return told.getvalue()


def started(place: Place) -> "subprocess.Popen[str]":
    """A worker for everything that is queued, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "service.cli", "worker"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PRECEPTOR_HOME": str(place.home.root)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(worker: "subprocess.Popen[str]", by: signal.Signals = signal.SIGTERM) -> str:
    """What a worker has said that was told to end, and did so in order."""
    worker.send_signal(by)
    said, _ = worker.communicate(timeout=15)
    assert worker.returncode == 0
    return said


def found(place: Place, run_id: str) -> runs.Run:
    with closing(connect(place.home.store)) as db:
        return runs.run(db, run_id)


def runs_as_shown(place: Place) -> list[dict[str, Any]]:
    with closing(connect(place.home.store)) as db:
        return read(db)


def wait_for(what: Callable[[], Any], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def left_over(place: Place) -> list[str]:
    """Processes that work in this home, but for those that are ending."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        home = (process.info["environ"] or {}).get("PRECEPTOR_HOME")
        words = " ".join(process.info["cmdline"] or [])
        ours = home == str(place.home.root) or str(place.root) in words
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


# --- When it is enough --------------------------------------------------------------------------


def turns(*promoted: bool, **more: Any) -> list[Turn]:
    recipe = Recipe.model_validate({"name": "a", "supply": SUPPLY, **more})
    return [
        Turn(Begun(recipe=recipe, number=number, round_id=str(number)), one)
        for number, one in enumerate(promoted, 1)
    ]


@pytest.mark.parametrize(
    ("limits", "promoted", "tokens", "reason"),
    [
        ({}, [False] * 100, 10**12, ""),
        ({"rounds": 2}, [True], 0, ""),
        ({"rounds": 2}, [True, False], 0, "2 rounds done"),
        ({"patience": 2}, [False, True, False], 0, ""),
        ({"patience": 2}, [True, False, False], 0, "nothing was promoted in 2 rounds"),
        ({"patience": 1}, [False], 0, "nothing was promoted in 1 round"),
        ({"tokens": 1000}, [True], 999, ""),
        ({"tokens": 1000}, [True], 1500, "1,500 tokens spent, of 1,000"),
    ],
)
def test_a_run_ends_by_its_limits(
    limits: dict[str, int], promoted: list[bool], tokens: int, reason: str
) -> None:
    assert enough(Limits(**limits), turns(*promoted), tokens) == reason


def test_rounds_that_make_no_student_are_no_failures() -> None:
    judge = {
        "constitution": "concise-assistant",
        "pairs": {"source": "construction", "guided": 1},
        "train": {"objective": "judge"},
    }
    assert not enough(Limits(patience=2), [*turns(True), *turns(False, False, **judge)], 0)


# --- Rounds that follow each other --------------------------------------------------------------


def test_each_round_starts_from_the_champion_and_learns_from_the_next_prompts(place: Place) -> None:
    run_id = asked(place, rounds=2)
    works(place, run_id)
    assert (found(place, run_id).state, found(place, run_id).note) == ("done", "2 rounds done")
    # As good as it gets after one: what it then learns is no gain.
    assert place.ask("select number, promoted from turns") == [(1, 1), (2, 0)]
    champion = place.one("select checkpoint_id from aliases where name = 'champion'")
    [(first, second)] = place.ask(
        "select (select merged_path from checkpoints where id = ?),"
        " (select json_extract(job, '$.base') from training_runs order by started_at desc limit 1)",
        champion,
    )
    assert second == first
    sides: dict[str, list[set[str]]] = {}
    for split in ("train", "held_out"):
        sides[split] = [
            {
                row[0]
                for row in place.ask(
                    "select prompt_id from round_prompts join prompts on id = prompt_id"
                    " where split = ? and round_id = ?",
                    *(split, round_id),
                )
            }
            for (round_id,) in place.ask("select round_id from turns order by number")
        ]
    assert sides["held_out"][0] == sides["held_out"][1]
    assert len(sides["held_out"][0]) == HELD_OUT
    assert [len(one) for one in sides["train"]] == [TRAIN, TRAIN]
    assert not sides["train"][0] & sides["train"][1]


def test_asked_for_more_it_goes_on_and_asked_again_it_does_nothing(place: Place) -> None:
    run_id = asked(place, rounds=1)
    works(place, run_id)
    before = place.log.read_text()
    assert asked(place, rounds=1) == run_id
    works(place, run_id)
    assert place.log.read_text() == before
    assert place.one("select count(*) from turns") == 1
    asked(place, rounds=1, tokens=10**9)
    works(place, run_id)
    assert found(place, run_id).note == "1 round done"


def test_recipes_take_turns(place: Place) -> None:
    other = place.recipe(name="other", build={"per_prompt": 1})
    other = other.rename(place.root / "other.yaml")
    works(place, asked(place, place.recipe(), other, rounds=2))
    names = place.ask("select name, number from rounds order by started_at")
    assert names == [("tiny", 1), ("other", 1)]


def test_a_run_waits_for_the_time_of_its_schedule(place: Place) -> None:
    nightly = "0 2 * * *"
    run_id = enqueue(place.home, [place.recipe()], Limits(rounds=2), 0, nightly).id
    worker = started(place)
    time.sleep(2)
    assert not place.one("select count(*) from turns"), "it is not two o'clock"
    with closing(connect(place.home.store)) as db, transaction(db):
        db.execute("update runs set due_at = ?", (time.time() - 60,))
    wait_for(lambda: place.one("select count(*) from turns where promoted is not null"), 120)
    wait_for(lambda: found(place, run_id).state == "queued")
    [told] = runs_as_shown(place)
    ended(worker)
    assert told["due_at"] == next_time(nightly, time.time())
    assert (told["rounds"], told["schedule"]) == (1, nightly)
    with pytest.raises(ConfigError, match="no schedule"):
        enqueue(place.home, [place.recipe()], Limits(), 0, "at two")


# --- What goes wrong ----------------------------------------------------------------------------


def test_a_round_that_cannot_go_on_says_so_and_goes_on_when_its_cause_is_mended(
    place: Place,
) -> None:
    run_id = asked(place, rounds=1)
    model = (place.root / "model").rename(place.root / "elsewhere")
    works(place, run_id)
    stopped = found(place, run_id)
    assert stopped.state == "stopped"
    assert "There is no model" in (stopped.note or "")
    model.rename(place.root / "model")
    works(place, run_id)
    assert found(place, run_id).state == "stopped", "nobody has asked for it"
    with closing(connect(place.home.store)) as db, transaction(db):
        runs.again(db, runs.run(db, run_id))
    works(place, run_id)
    assert found(place, run_id).state == "done"


def test_a_round_that_crashes_again_and_again_is_given_up_with_its_log(place: Place) -> None:
    recipe = place.recipe(engine={"command": [sys.executable, "-c", "print('no engine'); 1 / 0"]})
    run_id = asked(place, recipe, rounds=1)
    said = works(place, run_id)
    assert said.count("again in") == 4
    given_up = found(place, run_id)
    assert given_up.state == "failed"
    assert given_up.crashes == 5
    assert (given_up.note or "").startswith("given up after 5 crashes. Its process ended with code")
    assert "ZeroDivisionError" in (given_up.note or "")
    assert log_of(place.home, run_id).is_file()


@pytest.mark.fault
@pytest.mark.parametrize("victim", ["worker", "turn", "trainer"])
def test_killed_anywhere_a_run_ends_as_it_would_have(place: Place, victim: str) -> None:
    recipe = place.recipe("--delay-ms", "20", train={"seed": 18 + len(victim)})
    run_id = asked(place, recipe, rounds=1)
    worker = started(place)
    if victim == "trainer":
        wait_for(lambda: children(worker, "pipelines.training"))
        [process] = children(worker, "pipelines.training")
    else:
        wait_for(lambda: len(place.requests("answered")) > 5)
        [turn] = children(worker, "service.turn")
        process = psutil.Process(worker.pid) if victim == "worker" else turn
    process.kill()
    if victim == "worker":
        worker.communicate()
        wait_for(lambda: "service.turn" not in " ".join(left_over(place)))
        worker = started(place)
    wait_for(lambda: found(place, run_id).state == "done", 90)
    ended(worker)
    assert place.ask("select number, promoted from turns") == [(1, 1)]
    twice = "select id from calls where state = 'done' group by id having count(*) > 1"
    assert place.ask(twice) == []


def children(worker: "subprocess.Popen[str]", word: str) -> list[psutil.Process]:
    """Those of a worker's processes that have a word in their command line."""
    found = []
    for process in psutil.Process(worker.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.fault
def test_two_workers_do_nothing_twice(place: Place) -> None:
    recipe = place.recipe("--delay-ms", "20")
    ids = [asked(place, recipe, rounds=1)]
    other = place.recipe("--delay-ms", "20", name="other").rename(place.root / "other.yaml")
    ids.append(asked(place, other, rounds=1))
    workers = [started(place), started(place)]
    wait_for(lambda: all(found(place, one).state == "done" for one in ids), 120)
    for worker in workers:
        ended(worker)
    assert place.one("select count(*) from turns") == 2
    assert place.ask("select id from calls group by id having count(*) > 1") == []


# --- What people ask ----------------------------------------------------------------------------


def test_pause_resume_and_cancel_take_effect_within_seconds(place: Place, told: Cli) -> None:
    run_id = asked(place, place.recipe("--delay-ms", "200"), rounds=1)
    worker = started(place)
    wait_for(lambda: len(place.requests("answered")) > 3)
    assert "tiny: being paused" in told("runs", "pause", run_id[:12]).out
    began = time.monotonic()
    wait_for(lambda: found(place, run_id).state == "paused", 15)
    assert time.monotonic() - began < 10
    answered = place.one("select count(*) from calls where state = 'done'")
    assert answered > 0
    assert told("runs", "list", "--json").json[0]["state"] == "paused"
    assert "queued" in told("runs", "resume", "tiny").out
    wait_for(lambda: place.one("select count(*) from calls where state = 'done'") > answered)
    assert "being paused" in told("runs", "pause", run_id).out
    assert "being cancelled" in told("runs", "cancel", run_id).out
    wait_for(lambda: found(place, run_id).state == "cancelled", 15)
    assert "the next worker goes on" in ended(worker, signal.SIGINT)
    assert "tiny is cancelled already" in told.refused("runs", "pause", "tiny")


def test_the_loop_command_shows_what_came_of_it(place: Place, told: Cli) -> None:
    said = told("loop", str(place.recipe()), "--rounds", "1")
    assert said.code == 0
    assert "1 round done" in said.out
    assert "1 of 1" in said.out
    [listed] = told("runs", "list", "--json").json
    assert listed["promoted"] == 1
    assert listed["tokens"] > 0
    assert told("runs", "log", "tiny").code == 0


def test_what_the_loop_command_refuses(place: Place, told: Cli) -> None:
    recipe = str(place.recipe())
    assert "two recipes are called 'tiny'" in told.refused("loop", recipe, recipe)
    assert "There is no file" in told.refused("loop", str(place.root / "nowhere.yaml"))
    assert "There is no store yet" in told.refused("runs", "pause", "tiny")
    assert told("loop", recipe, "--queue").code == 0
    assert "No run is called 'other'" in told.refused("runs", "cancel", "other")
    assert "tiny: paused" in told("runs", "pause", "tiny").out
