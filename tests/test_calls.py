"""Calls and their answers as rows: intent first, done with its answers, uncertain when orphaned."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.records import Verdict
from pipelines.store.calls import (
    Asked,
    add_prompts,
    add_verdict,
    done_calls,
    finish,
    give_up,
    orphans_to_uncertain,
    owner,
    prompts_of,
    samples_of,
    send,
    verdict_states,
)
from pipelines.store.connection import connect, sqlite3, transaction
from pipelines.store.rounds import begin_stage, finish_stage, open_round, report_of
from teachers.client import Completion, Usage
from teachers.records import Call, Message, Prompt, Sample, Sampling

PROMPT = Prompt(task="chain_sum", question="12 + 7 =", reference="19", entry={"level": 1})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "store.db")
    open_round(db, "r", "demo", 1, "{}")
    add_prompts(db, "r", [(PROMPT, "train", "tasks")])
    yield db
    db.close()


def make_asked(repeat: int = 0, n: int = 2) -> Asked:
    message = Message(role="user", content=PROMPT.question)
    call = Call(weights="w", messages=(message,), sampling=Sampling(n=n), repeat=repeat)
    return Asked(call, PROMPT.id, "teach")


def make_completion(call: Call) -> Completion:
    texts = [f"answer {position}" for position in range(call.sampling.n)]
    samples = tuple(
        Sample(call_id=call.id, position=at, text=text, finish_reason="stop")
        for at, text in enumerate(texts)
    )
    return Completion(samples, Usage(7, 9))


def state_of(db: Database, call: Call) -> list[str]:
    rows = db.execute("select state from calls where id = ? order by attempt", (call.id,))
    return [row[0] for row in rows]


def test_a_prompt_comes_back_as_it_was_and_keeps_its_split(db: Database) -> None:
    other = PROMPT.model_copy(update={"question": "1 + 1 ="})
    add_prompts(db, "r", [(PROMPT, "held_out", "tasks"), (other, "held_out", "file")])
    stored = prompts_of(db, "r")
    assert [row.prompt.id for row in stored] == [PROMPT.id, other.id]
    assert [row.split for row in stored] == ["train", "held_out"]
    assert stored[0].prompt == PROMPT


def test_a_finished_call_is_done_and_its_answers_are_there(db: Database) -> None:
    asked = make_asked()
    attempt = send(db, "r", asked)
    assert done_calls(db, [asked.call.id]) == set()
    completion = make_completion(asked.call)
    finish(db, asked, attempt, completion)
    assert done_calls(db, [asked.call.id, "unknown"]) == {asked.call.id}
    assert samples_of(db, [asked.call.id]) == {asked.call.id: list(completion.samples)}
    request = db.execute("select request, weights from calls").fetchone()
    assert "12 + 7 =" in request[0]
    assert request[1] == "w"


def test_a_call_is_never_half_done(db: Database) -> None:
    asked = make_asked()
    attempt = send(db, "r", asked)
    completion = make_completion(asked.call)
    twice = Completion(completion.samples * 2, completion.usage)
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        finish(db, asked, attempt, twice)
    assert state_of(db, asked.call) == ["sent"]
    assert samples_of(db, [asked.call.id]) == {}


def test_each_attempt_is_a_row_of_its_own(db: Database) -> None:
    asked = make_asked()
    assert send(db, "r", asked) == 1
    give_up(db, asked.call.id, 1, "failed", "refused")
    assert send(db, "r", asked) == 2
    finish(db, asked, 2, make_completion(asked.call))
    assert state_of(db, asked.call) == ["failed", "done"]


def test_thousands_of_ids_are_asked_for_at_once(db: Database) -> None:
    asked = [make_asked(repeat, n=1) for repeat in range(1300)]
    with transaction(db):
        for one in asked:
            finish(db, one, send(db, "r", one), make_completion(one.call))
    ids = [one.call.id for one in asked]
    assert done_calls(db, ids) == set(ids)
    assert set(samples_of(db, ids)) == set(ids)


def test_calls_of_a_process_that_runs_are_left_alone(db: Database) -> None:
    send(db, "r", make_asked())
    assert orphans_to_uncertain(db) == 0
    assert orphans_to_uncertain(db, also=owner()) == 1


@pytest.mark.fault
def test_calls_of_a_killed_process_are_listed_as_uncertain(db: Database, tmp_path: Path) -> None:
    program = f"""if True:
        import os
        from pathlib import Path
        from pipelines.store.connection import connect
        from pipelines.store.calls import finish, send
        from tests.test_calls import make_asked, make_completion
        db = connect(Path({str(tmp_path / "store.db")!r}))
        done, lost = make_asked(1), make_asked(2)
        finish(db, done, send(db, "r", done), make_completion(done.call))
        send(db, "r", lost)
        os.kill(os.getpid(), 9)"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert orphans_to_uncertain(db) == 1
    assert orphans_to_uncertain(db) == 0
    assert state_of(db, make_asked(1).call) == ["done"]
    assert state_of(db, make_asked(2).call) == ["uncertain"]


def test_a_reused_pid_does_not_keep_a_call_in_flight(db: Database) -> None:
    send(db, "r", make_asked())
    db.execute("update calls set owner = ?", (f"{os.getpid()}:12.5",))
    assert orphans_to_uncertain(db) == 1


def test_a_verdict_is_stored_once(db: Database) -> None:
    asked = make_asked()
    completion = make_completion(asked.call)
    finish(db, asked, send(db, "r", asked), completion)
    verdict = Verdict(
        sample_id=completion.samples[0].id,
        verifier="number/1",
        parser="strict",
        state="verified",
        reason="",
        answer="19",
        reference={},
        jail="landlock",
    )
    add_verdict(db, verdict)
    add_verdict(db, verdict)
    assert db.execute("select jail from verdicts").fetchall() == [("landlock",)]
    assert verdict_states(db, [verdict.id, "unknown"]) == {verdict.id: "verified"}


def test_a_stage_is_done_when_its_report_is_there(db: Database) -> None:
    begin_stage(db, "r", "sample")
    begin_stage(db, "r", "sample")
    assert report_of(db, "r", "sample") is None
    finish_stage(db, "r", "sample", {"calls": 3})
    assert report_of(db, "r", "sample") == {"calls": 3}
