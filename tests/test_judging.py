"""Judging into rows: nothing is asked twice, and only what changed is asked at all."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from judges.judge import Rung
from judges.records import ComparisonState, Judgement
from pipelines.judging import Question, missing_calls, reparse
from pipelines.store.connection import connect
from pipelines.store.judgements import Compared
from teachers.errors import EndpointError
from tests.judged import PRINCIPLE, Bench, comparison, questions
from tests.scripted.running import ROOT, Scripted, running

SECOND = PRINCIPLE.model_copy(update={"id": "calm", "text": "The answer is calm."})


def ask(bench: Bench, sql: str) -> list[tuple[object, ...]]:
    with closing(connect(bench.folder / "home" / "store.db")) as db:
        return list(db.execute(sql))


def calls(server: Scripted) -> int:
    return len(server.events("arrived"))


def missing(bench: Bench, wanted: list[Question]) -> int:
    async def run() -> int:
        async with bench.open() as workbench:
            return missing_calls(workbench, bench.seat.judge, wanted)

    return asyncio.run(run())


def test_every_order_is_a_row_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url)
        wanted = questions(6, PRINCIPLE, SECOND)
        assert missing(bench, wanted) == 24
        found = bench.judge(wanted)
        assert [one.state for one in found] == ["win", "loss"] * 6
        assert [one.p for one in found[:2]] == [pytest.approx(0.95), pytest.approx(0.05)]
        assert calls(server) == 24
        assert missing(bench, wanted) == 0
        assert bench.judge(wanted) == found
        # Asked again and again in one go, other way round or twice: the same verdicts.
        assert bench.judge(wanted + wanted) == found + found
        assert calls(server) == 24
    assert ask(bench, 'select "order", state, count(*) from judgements group by 1, 2') == [
        ("backward", "read", 12),
        ("forward", "read", 12),
    ]
    assert ask(bench, "select count(distinct call_id) from judgements") == [(24,)]
    assert ask(bench, "select distinct purpose from calls") == [("judge",)]


def test_the_same_two_answers_the_other_way_round_are_the_same_calls(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url)
        pair = comparison("short", "a longer one")
        wanted = [Question(Compared(one, "round"), PRINCIPLE) for one in (pair, pair.swap(), pair)]
        assert [one.state for one in bench.judge(wanted)] == ["win", "loss", "win"]
        assert calls(server) == 2


def test_identical_answers_are_a_tie_without_a_call(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first") as server:
        bench = Bench.at(tmp_path, server.url)
        same = Question(Compared(comparison("the same", "the  same\n"), "round"), PRINCIPLE)
        assert missing(bench, [same]) == 0
        assert bench.judge([same]) == [Judgement(state="tie", p=0.5)]
        assert calls(server) == 0


def test_rewording_one_principle_asks_that_principle_alone(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url)
        first = bench.judge(questions(5, PRINCIPLE, SECOND))
        reweighted = PRINCIPLE.model_copy(update={"weight": 7.5, "veto": True, "id": "brief"})
        assert bench.judge(questions(5, reweighted, SECOND)) == first
        assert calls(server) == 20
        reworded = SECOND.model_copy(update={"text": "The answer keeps calm."})
        assert missing(bench, questions(5, PRINCIPLE, reworded)) == 10
        bench.judge(questions(5, PRINCIPLE, reworded))
        assert calls(server) == 30
    assert ask(bench, "select count(*) from principles") == [(3,)]


def test_a_judge_that_always_says_a_makes_only_flips(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first") as server:
        found = Bench.at(tmp_path, server.url).judge(questions(6))
    assert {one.state for one in found} == {"flip"}
    assert not any(one.labels for one in found)


@pytest.mark.parametrize(
    ("flags", "rung", "state"),
    [
        (("garbage",), "text", "unparsed"),
        (("refuse",), "text", "refused"),
        (("shorter", "--judge-outside", "0.5"), "logprobs", "abstain"),
        (("shorter", "--judge-outside", "0.1"), "logprobs", "win"),
        (("keyword:nowhere",), "logprobs", "tie"),
        (("shorter",), "choice", "win"),
        (("shorter",), "json_schema", "win"),
        (("shorter",), "text", "win"),
    ],
)
def test_states(tmp_path: Path, flags: tuple[str, ...], rung: Rung, state: ComparisonState) -> None:
    with running(tmp_path, "--judge", *flags) as server:
        bench = Bench.at(tmp_path, server.url, rung=rung)
        (found,) = bench.judge(questions(1))
        assert found.state == state
        # It said what it said: a verdict that cannot be read is a verdict.
        bench.judge(questions(1))
        assert calls(server) == 2


def test_a_refused_call_is_an_error_and_is_tried_again(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url)
    with running(tmp_path, "--judge", "shorter", "--no-logprobs") as other:
        place = bench.seat.place.model_copy(update={"url": other.url})
        refused = Bench(tmp_path, bench.seat._replace(place=place))
        with pytest.raises(EndpointError, match="logprobs is not supported"):
            refused.judge(questions(3))
        assert ask(bench, "select count(*) from judgements") == [(0,)]
    with running(tmp_path, "--judge", "shorter") as again:
        place = bench.seat.place.model_copy(update={"url": again.url})
        found = Bench(tmp_path, bench.seat._replace(place=place)).judge(questions(3))
        assert [one.state for one in found] == ["win", "loss", "win"]


@pytest.mark.parametrize("rationale", [False, True])
def test_a_pair_that_is_too_long_leaves_the_others_alone(tmp_path: Path, rationale: bool) -> None:
    with running(tmp_path, "--judge", "shorter", "--longest", "1500") as server:
        bench = Bench.at(tmp_path, server.url, rationale=rationale)
        long = Question(Compared(comparison("x" * 2000, "y"), "round"), PRINCIPLE)
        wanted = [*questions(2), long]
        first = bench.judge(wanted)
        assert [one.state for one in first] == ["win", "loss", "error"]
        assert bench.judge(wanted) == first
        # The long one was tried once more, in both orders; the others were not.
        refused = 2 if rationale else 4
        assert calls(server) == (8 if rationale else 4) + (4 if rationale else refused)


def test_a_rationale_is_asked_for_once_and_kept(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url, rationale=True)
        assert missing(bench, questions(3)) == 12
        found = bench.judge(questions(3))
        assert [one.state for one in found] == ["win", "loss", "win"]
        bench.judge(questions(3))
        assert calls(server) == 12
    # The verdict's request holds what was said before it.
    sql = "select count(*) from judgements j join calls c on c.id = call_id where request like ?"
    with closing(connect(tmp_path / "home" / "store.db")) as db:
        assert db.execute(sql, ("%Answer: %",)).fetchone() == (6,)


def test_a_grading_judge_grades_each_answer_once(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url, "score")
        texts = ["a", "b" * 100, "c" * 300]
        wanted = [
            Question(Compared(comparison(one, other), "round"), PRINCIPLE)
            for one in texts
            for other in texts
        ]
        found = bench.judge(wanted)
        assert calls(server) == 3
        states = ["tie", "win", "win", "loss", "tie", "win", "loss", "loss", "tie"]
        assert [one.state for one in found] == states
        # Grades 2/3 and 0.4: logit 2/3 - logit 0.4 = ln 2 + ln 1.5 = ln 3
        assert found[5].p == pytest.approx(3 / 4)
    assert ask(bench, "select count(*) from scores") == [(3,)]
    assert ask(bench, "select count(*) from judgements") == [(0,)]


@pytest.mark.parametrize("kind", ["compare", "score"])
def test_replies_are_read_again_without_a_call(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, "--judge", "shorter") as server:
        bench = Bench.at(tmp_path, server.url, kind)
        found = bench.judge(questions(3))
        asked = calls(server)

        async def again() -> int:
            async with bench.open() as workbench:
                return reparse(workbench, bench.seat.judge)

        assert asyncio.run(again()) == 0
        table = "judgements" if kind == "compare" else "scores"
        with closing(connect(tmp_path / "home" / "store.db")) as db:
            db.execute(f"update {table} set state = 'unparsed', value = null, outside = null")
        assert {one.state for one in bench.judge(questions(3))} == {"unparsed"}
        assert asyncio.run(again()) == 6
        assert bench.judge(questions(3)) == found
        assert calls(server) == asked


PROGRAM = """if True:
    import sys
    from pathlib import Path
    from tests.judged import PRINCIPLE, Bench, questions
    Bench.at(Path(sys.argv[1]), sys.argv[2]).judge(questions(40, PRINCIPLE))"""


@pytest.mark.fault
def test_a_kill_in_the_middle_repeats_no_committed_verdict(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "shorter", "--delay-ms", "60") as server:
        bench = Bench.at(tmp_path, server.url)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), server.url], cwd=ROOT
        ) as process:
            end = time.monotonic() + 30
            while len(server.events("answered")) < 24:
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        done = {call for (call,) in ask(bench, "select id from calls where state = 'done'")}
        sent = {call for (call,) in ask(bench, "select id from calls where state = 'sent'")}
        assert len(done) >= 16
        assert 1 <= len(sent) <= 8
        found = bench.judge(questions(40))
        assert [one.state for one in found] == ["win", "loss"] * 20
        times = ask(bench, "select id, count(*) from calls group by 1 having count(*) > 1")
        assert {call for call, _ in times} <= sent
        listed = ask(bench, "select id from calls where state = 'uncertain'")
        assert {call for (call,) in listed} == sent
        assert calls(server) <= 80 + len(sent)
    assert ask(bench, "select count(*) from judgements where state = 'read'") == [(80,)]
    assert ask(bench, "select count(*) from calls where state = 'done'") == [(80,)]
