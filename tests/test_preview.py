"""What an edit would change: only what pair building would make otherwise, and all of that."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from judges.constitution import Constitution, Principle, Scope
from judges.records import Comparison
from pipelines import labelling
from pipelines.decided import Terms
from pipelines.judging import Question, judged
from pipelines.preview import Preview, fetch, plan, preview
from pipelines.recipe import Pairs
from pipelines.store import calls, judgements, rounds
from pipelines.store.connection import transaction
from pipelines.store.judgements import Compared
from teachers.errors import ConfigError
from teachers.records import Message, Prompt
from tests.judged import Bench
from tests.scripted.running import Scripted, running

GOOD = Principle(id="good", text="The answer is good.")
WIDE = Principle(id="wide", text="The answer is wide.", weight=0.0)
INSTRUCTION = " Answer briefly."


def version(*principles: Principle) -> Constitution:
    return Constitution(name="tested", principles=principles)


def edited(principle: Principle, **changes: Any) -> Principle:
    return principle.model_copy(update=changes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A judge that prefers answers with the word `good`."""
    with running(tmp_path_factory.mktemp("server"), "--judge", "keyword:good") as server:
        yield server


class Stored(NamedTuple):
    """A home with comparisons of a round: each between a good answer and a poor one."""

    bench: Bench
    prompts: list[Prompt]
    compared: list[Compared]

    @classmethod
    def at(cls, folder: Path, server: Scripted, *prompts: Prompt) -> "Stored":
        stored = cls(Bench.at(folder, server.url), list(prompts), [_compared(p) for p in prompts])

        async def keep() -> None:
            async with stored.bench.open() as bench:
                with transaction(bench.db) as db:
                    rounds.open_round(db, "round", "tested", 1, "{}")
                    calls.add_prompts(db, "round", [(one, "train", "test") for one in prompts])
                    judgements.add_comparisons(db, stored.compared)

        asyncio.run(keep())
        return stored

    def judge(self, *principles: Principle, only: slice = slice(None)) -> None:
        asked = [
            Question(one, principle) for one in self.compared[only] for principle in principles
        ]

        async def ask() -> None:
            async with self.bench.open() as bench:
                await judged(bench, self.bench.seat, asked, "judge")

        asyncio.run(ask())

    def label(self, comparison: Comparison, choice: Any = "first") -> None:
        async def say() -> None:
            async with self.bench.open() as bench:
                with transaction(bench.db) as db:
                    judgements.add_comparisons(db, [Compared(comparison, "round")])
                labelling.record(bench.db, comparison, "ann", None, choice, 1.0)

        asyncio.run(say())

    def preview(
        self, old: Constitution, new: Constitution, most: int = 50, **rules: Any
    ) -> Preview:
        seat = self.bench.seat
        terms = Terms([seat.judge], Pairs(**rules))

        async def look() -> Preview:
            async with self.bench.open() as bench:
                planned = plan(bench, terms, old, new, most)
                await fetch(bench, [seat], terms, planned)
                return preview(bench, terms, old, new, planned)

        return asyncio.run(look())


def _compared(prompt: Prompt) -> Compared:
    asked = Message(role="user", content=prompt.question + INSTRUCTION)
    comparison = Comparison(
        conversation=(asked,), first=f"good: {prompt.question}", second=f"poor: {prompt.question}"
    )
    return Compared(comparison, "round", prompt.id)


def prompts(count: int, task: str = "open", verifier: str = "none") -> list[Prompt]:
    return [Prompt(task=task, question=f"{task} {n}?", verifier=verifier) for n in range(count)]


def test_each_effect_is_counted(tmp_path: Path, server: Scripted) -> None:
    stored = Stored.at(tmp_path, server, *prompts(4))
    stored.judge(GOOD, WIDE)
    alone, muted = version(GOOD, WIDE), version(edited(GOOD, weight=0.0), WIDE)
    gone, back = stored.preview(alone, muted), stored.preview(muted, alone)
    assert gone.effects == {"same": 0, "flips": 0, "appears": 0, "vanishes": 4}
    assert back.effects == {"same": 0, "flips": 0, "appears": 4, "vanishes": 0}
    assert gone.affected is not None
    assert gone.affected[:2] == (4, 4)
    same = stored.preview(alone, version(edited(GOOD, weight=2.0), WIDE))
    assert same.effects == {"same": 4, "flips": 0, "appears": 0, "vanishes": 0}
    assert same.changed == []
    assert same.by_principle["good"].pairs == same.effects


def test_a_reworded_principle_speaks_anew(tmp_path: Path, server: Scripted) -> None:
    stored = Stored.at(tmp_path, server, *prompts(3))
    stored.judge(GOOD)
    found = stored.preview(version(GOOD), version(edited(GOOD, text="It is better.")))
    assert (found.exact, found.comparisons) == (True, 3)
    good = found.by_principle["good"]
    same = {"same": 3, "flips": 0, "appears": 0, "vanishes": 0}
    assert (good.edits, good.pairs, good.verdicts) == (("reworded",), same, same)


def test_what_this_judge_was_not_asked_in_full_is_no_part_of_it(
    tmp_path: Path, server: Scripted
) -> None:
    stored = Stored.at(tmp_path, server, *prompts(5))
    stored.judge(GOOD, only=slice(3))
    stored.judge(WIDE, only=slice(2))
    muted = edited(GOOD, weight=0.0)
    assert stored.preview(version(GOOD), version(muted)).comparisons == 3
    assert stored.preview(version(GOOD, WIDE), version(muted, WIDE)).comparisons == 2
    with pytest.raises(ConfigError, match="No stored comparison was judged"):
        stored.preview(version(edited(GOOD, text="Never asked.")), version(GOOD))


def test_people_and_verifiers_decide_whatever_the_constitution_says(
    tmp_path: Path, server: Scripted
) -> None:
    stored = Stored.at(tmp_path, server, *prompts(4), *prompts(3, "sums", "number"))
    stored.judge(GOOD)
    muted = version(edited(GOOD, weight=0.0))
    assert stored.preview(version(GOOD), muted).comparisons == 4
    stored.label(stored.compared[0].comparison, "tie")
    # Asked of the same two answers the other way round, people have decided as well.
    stored.label(stored.compared[1].comparison.swap())
    stored.label(stored.compared[2].comparison, "skip")
    found = stored.preview(version(GOOD), muted)
    names = {one.compared.comparison.id for one in found.changed}
    assert names == {one.comparison.id for one in stored.compared[2:4]}
    assert found.comparisons == 2


def test_what_neither_version_is_about_is_left_out(tmp_path: Path, server: Scripted) -> None:
    stored = Stored.at(tmp_path, server, *prompts(3), *prompts(2, "verse"))
    narrow = edited(GOOD, scope=Scope(tags=("open",)))
    stored.judge(narrow, only=slice(3))
    louder = edited(narrow, weight=2.0)
    assert stored.preview(version(narrow), version(louder)).comparisons == 3
    # A wider scope makes pairs where there were none.
    wider = stored.preview(version(narrow), version(GOOD))
    assert wider.effects == {"same": 3, "flips": 0, "appears": 2, "vanishes": 0}


def test_scopes_look_at_the_prompt_and_not_at_what_the_student_is_told(
    tmp_path: Path, server: Scripted
) -> None:
    stored = Stored.at(tmp_path, server, *prompts(2))
    stored.judge(GOOD)
    brief = edited(GOOD, scope=Scope(matching="briefly"))
    assert stored.preview(version(GOOD), version(brief)).effects["vanishes"] == 2


def test_what_pair_building_leaves_out_is_no_pair(tmp_path: Path, server: Scripted) -> None:
    stored = Stored.at(tmp_path, server, *prompts(4))
    stored.judge(GOOD)
    muted = version(edited(GOOD, weight=0.0))
    assert stored.preview(version(GOOD), muted).effects["vanishes"] == 4
    assert stored.preview(version(GOOD), muted, max_margin=0.3).effects["same"] == 4


def test_each_pair_names_the_edited_principles_that_decide_it(
    tmp_path: Path, server: Scripted
) -> None:
    stored = Stored.at(tmp_path, server, *prompts(4))
    stored.judge(GOOD, WIDE)
    found = stored.preview(version(GOOD, WIDE), version(edited(GOOD, weight=0.0), WIDE))
    for one in found.changed:
        (shift,) = one.by
        assert (shift.principle, shift.after, one.reason) == ("good", 0.0, "undecided")
        assert shift.before > 0
    assert found.by_principle.keys() == {"good"}
    good = found.by_principle["good"]
    assert (good.edits, good.pairs["vanishes"], good.affected) == (
        ("reweighted",),
        4,
        found.affected,
    )


def test_a_sample_is_of_whole_prompts_and_each_principle_has_an_interval(
    tmp_path: Path, server: Scripted
) -> None:
    stored = Stored.at(tmp_path, server, *prompts(9))
    stored.judge(GOOD)
    found = stored.preview(version(GOOD), version(edited(GOOD, text="It is better.")), most=5)
    assert (found.exact, found.comparisons) == (False, 5)
    affected = found.by_principle["good"].affected
    assert affected is not None
    assert affected[:2] == (0, 5)
    assert 0.3 < affected.high < 0.6
