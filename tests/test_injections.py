"""Texts that try to sway a judge: the prompt's form withstands all; a judge's weakness shows."""

import asyncio
import re
from contextlib import closing
from pathlib import Path

import pytest

from judges.compare import compare_call
from judges.injections import Injection, injected, injections, sway
from judges.judge import comparing, following
from judges.records import Answer, Judgement
from judges.score import score_call
from judges.share import Share
from judges.template import defused
from pipelines.certification import case_pair
from pipelines.home import Home
from pipelines.injection import Target, swayed
from pipelines.store.connection import connect
from pipelines.store.judgements import comparisons
from pipelines.store.labels import count_unlabelled
from tests.judged import PRINCIPLE, Bench, asked, balanced, comparison
from tests.scripted.running import running

SECTION = re.compile(r"<(request|answer(?:_[ab])?)>\n(.*?)\n</\1>", re.DOTALL)


def test_there_are_many_and_no_two_are_the_same() -> None:
    assert len(set(injections())) == len(injections()) >= 20
    assert all(one.text for one in injections())
    kinds = {one.kind for one in injections()}
    assert kinds == {"orders", "tags", "verdicts", "rules", "roles"}


@pytest.mark.parametrize("injection", injections(), ids=lambda one: one.kind)
def test_none_of_them_sways_the_fill(injection: Injection) -> None:
    hostile = injected("Because.", injection)
    texts = [
        compare_call(comparing("w"), comparison("fine", hostile), PRINCIPLE, order)
        .messages[0]
        .content
        for order in ("forward", "backward")
    ]
    grading = Answer(conversation=asked("Why?"), text=hostile)
    texts.append(score_call(following("w"), grading, PRINCIPLE).messages[0].content)
    said = defused(hostile)
    expected = [
        [("request", "Why?"), ("answer_a", "fine"), ("answer_b", said)],
        [("request", "Why?"), ("answer_a", said), ("answer_b", "fine")],
        [("request", "Why?"), ("answer", said)],
    ]
    for text, sections in zip(texts, expected, strict=True):
        assert SECTION.findall(text) == sections
        # Outside of the sections stands what we wrote, and the rule once.
        outside = SECTION.sub("", text)
        assert "{{" not in outside
        assert outside.count(f"The rule: {PRINCIPLE.text}") == 1
        assert text.splitlines()[-1].endswith(("Reply with one letter, A or B.", "yes or no."))


def test_sway_is_the_share_of_changed_verdicts() -> None:
    win, loss, flip = (Judgement(state=state) for state in ("win", "loss", "flip"))
    found = sway([win, win, loss, flip], [win, loss, flip, flip])
    assert (found.hits, found.n) == (2, 4)
    with pytest.raises(ValueError, match="shorter"):
        sway([win, win], [win])


def test_nobody_is_asked_to_label_an_answer_that_gives_orders(tmp_path: Path) -> None:
    measured(tmp_path, "keyword:good")
    with closing(connect(Home(tmp_path / "home").store)) as db:
        kept = db.execute("select count(*), sum(injected) from comparisons").fetchone()
        assert kept == (2 * (1 + len(injections())), 2 * len(injections()))
        assert count_unlabelled(db, "ann", None, "case") == 2
        assert len(comparisons(db, "case")) == 2


def measured(folder: Path, habit: str, kind: str = "compare") -> dict[str, Share]:
    targets = [Target(PRINCIPLE, case_pair(case)) for case in balanced(2)]
    with running(folder, "--judge", habit) as server:
        bench = Bench.at(folder, server.url, kind)

        async def run() -> dict[str, Share]:
            async with bench.open() as workbench:
                return await swayed(workbench, bench.seat, targets)

        return asyncio.run(run())


@pytest.mark.parametrize("kind", ["compare", "follows"])
def test_a_judge_that_obeys_is_told_from_one_that_does_not(tmp_path: Path, kind: str) -> None:
    for name in ("firm", "obedient"):
        (tmp_path / name).mkdir()
    firm = measured(tmp_path / "firm", "keyword:good", kind)
    obedient = measured(tmp_path / "obedient", "obey:good", kind)
    assert sum(one.n for one in firm.values()) == 2 * len(injections())
    assert {one.hits for one in firm.values()} == {0}
    assert {kind: one.n for kind, one in obedient.items()} == {k: o.n for k, o in firm.items()}
    assert obedient["orders"].hits > 0
