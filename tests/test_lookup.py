"""Rows found by their ids, with what belongs to them."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.panel import settle
from judges.records import Judgement
from pipelines.store import checkpoints, judgements, pairs, revisions, rollouts
from pipelines.store.calls import Asked, finish, send
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.connection import connect
from pipelines.store.judgements import Compared
from pipelines.store.lookup import find
from pipelines.store.pairs import PairRejection, PairRow
from pipelines.store.revisions import PanelRow, Revision
from pipelines.store.rounds import open_round
from teachers.client import Completion, Usage
from teachers.records import Call, Sample, Sampling
from tests.judged import PRINCIPLE, asked, comparison
from tests.rolled import PRODUCT, SUM, WATCHED, open_run, rollout

PAIR, OTHER = comparison("one", "two"), comparison("one", "three")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def samples(store: Path) -> list[Sample]:
    """Two answers that became a pair; a comparison that did not."""
    call = Call(weights="w", messages=asked("Why?"), sampling=Sampling(n=2))
    made = [
        Sample(call_id=call.id, position=at, text=text, finish_reason="stop")
        for at, text in enumerate(("one", "two"))
    ]
    with closing(connect(store)) as db:
        open_round(db, "r", "demo", 1, "{}")
        one = Asked(call, "prompt", "teach")
        finish(db, one, send(db, "r", one), Completion(tuple(made), Usage(1, 1)))
        judgements.add_principles(db, [PRINCIPLE])
        judgements.add_comparisons(db, [Compared(pair, "round") for pair in (PAIR, OTHER)])
        pair = PairRow(PAIR.id, made[0].id, made[1].id, "judge", 0.9)
        pairs.put_pairs(db, "r", [pair], [PairRejection(OTHER.id, "tie")])
        _revised(db, made[0])
    return made


def _revised(db: Database, draft: Sample) -> None:
    row = Revision("a", draft.id, 0, PRINCIPLE.text_id, "c", "t", 0.5, None, "call", None)
    revisions.add_revisions(db, [row])
    said = settle([Judgement(state="win", p=0.9)] * 2)
    revisions.add_panel_judgements(db, [PanelRow(PAIR.id, PRINCIPLE.text_id, ["j", "k"], said)])


def test_a_pair_shows_its_answers(store: Path, samples: list[Sample]) -> None:
    with closing(connect(store)) as db:
        ((id,),) = db.execute("select id from pairs").fetchall()
    found = find(store, id[:12])
    assert (found.table, found.row["source"]) == ("pairs", "judge")
    assert sorted(found.related["answers"].rows) == [
        ("chosen", samples[0].id, "one"),
        ("rejected", samples[1].id, "two"),
    ]


def test_a_sample_shows_its_pairs_and_revisions(store: Path, samples: list[Sample]) -> None:
    first, second = (find(store, one.id) for one in samples)
    assert [row[1:] for row in first.related["pairs"].rows] == [("chosen", "judge", 0.9)]
    assert [row[1:] for row in second.related["pairs"].rows] == [("rejected", "judge", 0.9)]
    assert len(first.related["revisions"].rows) == 1
    assert "revisions" not in second.related


def test_a_comparison_shows_what_became_of_it(store: Path, samples: list[Sample]) -> None:
    assert samples
    paired, rejected = find(store, PAIR.id), find(store, OTHER.id)
    assert list(paired.related) == ["panel judgements", "pairs"]
    assert rejected.related["rejections"].rows == [("r", "tie", "")]


def test_rollouts_are_counted_where_they_belong_and_found_with_their_terms(store: Path) -> None:
    with closing(connect(store)) as db:
        for run in ("run", "none"):
            open_run(db, run)
        rows = [rollout(judge=0.7), rollout(2, math=0.0), rollout(2, math=None, prompt=PRODUCT)]
        rollouts.add(db, "run", rows, watched=[WATCHED])
        for run in ("run", "none"):
            made = Checkpoint(f"made-{run}", run, 1, Path("a"), "0", Path("m"), "w")
            checkpoints.add_checkpoint(db, made)
    assert find(store, "run").related["rollouts"].rows == [(2, 3, 0, 2, 0.5)]
    assert find(store, "made-run").related["rollouts"].rows == [("run", 3, 0, 2, 0.5)]
    assert find(store, SUM.id).related["rollouts"].rows == [("run", 2, 0, 2, 0.5)]
    assert "rollouts" not in find(store, "none").related
    assert "rollouts" not in find(store, "made-none").related
    found = find(store, rows[0].id("run")[:16])
    assert found.table == "rollouts"
    assert [row[:3] for row in found.related["terms"].rows] == [
        ("form", 0, 0.0),
        ("math", 0, 1.0),
        (WATCHED, 1, 0.7),
    ]


@pytest.mark.parametrize("table", ["revisions", "panel_judgements"])
@pytest.mark.usefixtures("samples")
def test_every_id_of_a_preference_round_can_be_looked_up(store: Path, table: str) -> None:
    with closing(connect(store)) as db:
        ((id,),) = db.execute(f"select id from {table}").fetchall()
    assert find(store, id).table == table
