"""Critique and revision of many answers: each round stored, nothing asked twice, judged at last."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from judges.constitution import Constitution, Principle, Scope
from judges.critique import critique_call, drawn, revision_call
from judges.judge import comparing
from judges.records import Answer
from pipelines.choosing import Choice, weighed
from pipelines.home import Home
from pipelines.recipe import EngineSection, Place
from pipelines.revising import Draft, Revised, revised
from pipelines.seat import Seat
from pipelines.source import identity
from pipelines.store import calls
from pipelines.store.calls import Asked
from pipelines.store.connection import connect, transaction
from pipelines.workbench import Workbench
from teachers.client import Completion, Usage
from teachers.progress import Silent
from teachers.records import Message, Prompt, Sample
from tests.hollow import hollow_model
from tests.scripted.running import ROOT, Scripted, running

T = TypeVar("T")


def principle(name: str, **more: Any) -> Principle:
    return Principle(id=name, text=f"The answer is {name}.", **more)


CONSTITUTION = Constitution(
    name="kind",
    principles=(
        principle("warm"),
        principle("true"),
        principle("lawful", scope=Scope(tags=("law",))),
    ),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """Reviser and judge: it prefers an answer that says `Warmly`."""
    folder = tmp_path_factory.mktemp("server")
    with running(folder, "--judge", "keyword:Warmly", "--delay-ms", "20") as server:
        yield server


def drafts(many: int = 4, text: str = "It is {number}.") -> list[Draft]:
    return [
        Draft(
            Answer(
                conversation=(Message(role="user", content=f"What is {number}?"),),
                text=text.format(number=number),
            )
        )
        for number in range(many)
    ]


def place(server: Scripted, model: str = "reviser") -> Place:
    return Place(url=server.url, model=model, concurrency=4)


def at_bench(home: Path, work: Callable[[Workbench], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Workbench(Home(home), Silent()) as bench:
            return await work(bench)

    return asyncio.run(main())


def rows(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(connect(home / "store.db")) as db:
        return list(db.execute(sql))


def test_every_round_is_stored_and_builds_on_the_one_before(
    tmp_path: Path, server: Scripted
) -> None:
    found = at_bench(tmp_path, lambda b: revised(b, place(server), drafts(), CONSTITUTION, seed=3))
    assert [one.text for one in found] == [f"It is {n}. Warmly. Warmly." for n in range(4)]
    assert all(one.changed and not one.stopped for one in found)
    stored = rows(
        tmp_path,
        "select number, revisions.text, critique, edit_share, principles.text, samples.text"
        " from revisions join principles on principles.id = principle_id"
        " join samples on samples.call_id = revision_call order by number, revisions.text",
    )
    assert [row[0] for row in stored] == [0] * 4 + [1] * 4
    assert stored[0][1:3] == ("It is 0. Warmly.", "It has 3 words, and none of them is warm.")
    assert stored[0][3] == pytest.approx(1 / 7)
    assert stored[0][5].startswith("Sure, here is a revised version")
    principles = [{row[4] for row in stored if f" {n}." in row[1]} for n in range(4)]
    assert principles == [{"The answer is warm.", "The answer is true."}] * 4


def test_nothing_is_asked_twice_and_another_seed_asks_only_what_is_new(
    tmp_path: Path, server: Scripted
) -> None:
    def again(seed: int) -> list[Revised]:
        return at_bench(
            tmp_path, lambda b: revised(b, place(server), drafts(), CONSTITUTION, seed=seed)
        )

    first = again(3)
    before = len(server.events("arrived"))
    assert again(3) == first
    assert len(server.events("arrived")) == before
    again(4)
    changed = sum(
        drawn(one.principles(CONSTITUTION), one.answer, 0, 3)
        != drawn(one.principles(CONSTITUTION), one.answer, 0, 4)
        for one in drafts()
    )
    assert changed
    assert len(server.events("arrived")) == before + 4 * changed


def test_identical_answers_share_their_calls(tmp_path: Path, server: Scripted) -> None:
    before = len(server.events("arrived"))
    twice = [*drafts(1, "Twins"), *drafts(1, "Twins")]
    one, other = at_bench(tmp_path, lambda b: revised(b, place(server), twice, CONSTITUTION))
    assert one == other
    assert len(server.events("arrived")) == before + 4


def test_rounds_end_where_nothing_changes_or_nothing_is_said(
    tmp_path: Path, server: Scripted
) -> None:
    same, empty = drafts(1, "So be it [same]")[0], drafts(1, "So be it [empty]")[0]
    found = at_bench(
        tmp_path, lambda b: revised(b, place(server), [same, empty], CONSTITUTION, rounds=4)
    )
    assert [[row.stop for row in one.rounds] for one in found] == [["unchanged"], ["empty"]]
    assert [one.text for one in found] == [same.answer.text, empty.answer.text]
    assert not any(one.changed for one in found)


def reply_from_the_store(
    bench: Workbench, place: Place, draft: Draft, critique: str, text: str, reason: str
) -> None:
    """Put the replies of an answer's first round into the store, as if they had been asked for."""
    weights = identity(place, None, bench.home, bench.progress)
    first = drawn(draft.principles(CONSTITUTION), draft.answer, 0, 0)
    assert first
    asked = (
        (critique_call(weights, draft.answer, first), critique, "stop"),
        (revision_call(weights, draft.answer, first, critique), text, reason),
    )
    with transaction(bench.db) as db:
        for call, said, why in asked:
            if call.id not in calls.done_calls(db, [call.id]):
                wanted = Asked(call, "p", "revise")
                sample = Sample(call_id=call.id, position=0, text=said, finish_reason=why)
                calls.finish(
                    db, wanted, calls.send(db, "", wanted), Completion((sample,), Usage(1, 1))
                )


def test_a_revision_that_was_cut_is_not_taken(tmp_path: Path) -> None:
    """The replies are in the store already, so no model server is started: this one could not."""
    place = Place(weights=str(hollow_model(tmp_path / "model")))
    engine = EngineSection(command=("false",))
    (draft,) = drafts(1)

    async def work() -> list[Revised]:
        async with Workbench(Home(tmp_path), Silent(), engine) as bench:
            reply_from_the_store(bench, place, draft, "Cold.", "It is so warm and", "length")
            return await revised(bench, place, [draft], CONSTITUTION)

    (found,) = asyncio.run(work())
    assert [row.stop for row in found.rounds] == ["cut"]
    assert found.text == draft.answer.text


def test_an_answer_in_no_principles_scope_stays_as_it_is(tmp_path: Path, server: Scripted) -> None:
    law = Constitution(name="law", principles=CONSTITUTION.principles[2:])
    outside, inside = drafts(2)
    inside = inside._replace(prompt=Prompt(task="law", question="What is 1?"))
    found = at_bench(tmp_path, lambda b: revised(b, place(server), [outside, inside], law))
    assert [len(one.rounds) for one in found] == [0, 2]


def test_a_prompt_is_in_scope_by_its_question_and_not_by_what_follows_it() -> None:
    """A student's instruction stands after every question."""
    brief = principle("brief", scope=Scope(matching="(?i)briefly"))
    mute = principle("mute", weight=0.0)
    asked = Message(role="user", content="What is law? Answer briefly.")
    draft = Draft(Answer(conversation=(asked,), text="Rules."))
    only = Constitution(name="brief", principles=(brief, mute))
    assert draft.principles(only) == [brief]
    plain = Prompt(task="law", question="What is law?")
    assert draft._replace(prompt=plain).principles(only) == []


def test_a_refused_call_ends_its_answers_rounds_until_it_is_asked_again(
    tmp_path: Path, server: Scripted
) -> None:
    """Each request is refused the first time. The first answer's are in the store already."""
    flaky = place(server, "fault:400:1")
    given = drafts(2)

    async def work(bench: Workbench) -> Revised:
        reply_from_the_store(bench, flaky, given[0], "Cold.", "It is 0 and warm.", "stop")
        return (await revised(bench, flaky, given, CONSTITUTION, rounds=1))[1]

    seen = [at_bench(tmp_path, work).rounds[0] for _ in range(3)]
    assert [one.stop for one in seen] == ["unanswered", "unanswered", None]
    assert [bool(one.critique) for one in seen] == [False, True, True]
    assert rows(tmp_path, "select stop from revisions") == [(None,), (None,)]


KILLED = """
import asyncio, sys
from pathlib import Path
from pipelines.home import Home
from pipelines.revising import revised
from pipelines.workbench import Workbench
from teachers.progress import Silent
from tests.test_revising import CONSTITUTION, Place, drafts

async def main():
    async with Workbench(Home(Path(sys.argv[1])), Silent()) as bench:
        place = Place(url=sys.argv[2], model="killed", concurrency=4)
        await revised(bench, place, drafts(12), CONSTITUTION, seed=3)

asyncio.run(main())
"""


def test_a_kill_in_the_middle_repeats_no_finished_call(tmp_path: Path, server: Scripted) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), server.url], cwd=ROOT)
    deadline = time.monotonic() + 60
    # In the second of four batches: critiques are done, revisions are not.
    while len(server.events("answered", model="killed")) < 17 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = rows(tmp_path, "select count(*) from calls where state = 'done'")[0][0]
    assert 12 < done < 48
    killed = Place(url=server.url, model="killed", concurrency=4)
    found = at_bench(tmp_path, lambda b: revised(b, killed, drafts(12), CONSTITUTION, seed=3))
    assert all(len(one.rounds) == 2 for one in found)
    arrived = Counter(event["sha"] for event in server.events("arrived", model="killed"))
    assert len(arrived) == 48
    lost = rows(tmp_path, "select count(*) from calls where state = 'uncertain'")[0][0]
    assert arrived.total() <= 48 + lost
    assert lost <= 4


def seat(server: Scripted, model: str = "judge") -> Seat:
    return Seat(comparing(f"{server.url} {model}@"), place(server, model))


def test_an_independent_judge_says_which_revisions_are_better(
    tmp_path: Path, server: Scripted
) -> None:
    given = [*drafts(2), *drafts(1, "No [refuse]"), *drafts(1, "Fine [same]")]

    async def work(bench: Workbench) -> list[Choice]:
        found = await revised(bench, place(server), given, CONSTITUTION)
        return await weighed(bench, seat(server), place(server), found, CONSTITUTION)

    choices = at_bench(tmp_path, work)
    states = [choice.state for choice in choices]
    assert states == ["preferred", "preferred", "evasive", "unchanged"]
    assert choices[0].preference
    assert choices[0].preference.p == pytest.approx(0.95)


def test_a_judge_that_contradicts_itself_prefers_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first") as server:

        async def work(bench: Workbench) -> list[Choice]:
            found = await revised(bench, place(server), drafts(2), CONSTITUTION)
            return await weighed(bench, seat(server), place(server), found, CONSTITUTION)

        assert [choice.state for choice in at_bench(tmp_path / "home", work)] == ["tie", "tie"]
