"""Whole judge rounds: a judge is trained on cases and constructed pairs, and has to pass what it
never saw. The scripted server plays it: it is as good after its training as it was before.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.store import judgements
from pipelines.store.connection import connect
from teachers.errors import RoundStopped, Uncertified
from tests.commands import Cli
from tests.places import Meddler, Place
from tests.steered import CALM, CAREFUL, CASES, WORD, constitution, principle, requests
from tests.tiny import tiny_model

TRAIN = 24
OPPOSITE = principle("careful", CAREFUL["opposite"], opposite=CAREFUL["text"])
SEEN = "select unordered from seen_by_judges where weights = ?"

pytestmark = pytest.mark.usefixtures("one_thread")


def usual(root: Path) -> dict[str, Any]:
    """What the recipes of this file say."""
    open_ = {"path": "open.jsonl", "name": "open", "verifier": "none"}
    return {
        "name": "own-judge",
        "student": {"weights": str(root / "model")},
        "constitution": "tested.yaml",
        "lessons": {"constitutions": ["opposite.yaml"], "held_out": 0.0},
        "supply": {"files": [{**open_, "train": TRAIN, "held_out": 0}]},
        "teacher": {"sampling": {"n": 1, "max_tokens": 64}, "concurrency": 8},
        "pairs": {"source": "construction", "guided": 1},
        "train": {"objective": "judge", "rank": 4, "epochs": 1, "max_length": 2000},
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One whole round, start to end, of a judge that passes."""
    root = tmp_path_factory.mktemp("judge")
    tiny_model(root / "model", words=("yes", "no"))
    requests(root, 4 * TRAIN)
    constitution(root, CAREFUL, CALM)
    constitution(root, OPPOSITE, name="opposite")
    place = Place(root, usual(root), "--judge", f"keyword:{WORD}")
    place.run(place.recipe())
    place.keep()
    return place


@pytest.fixture
def place(first: Place) -> Place:
    """The first round, just done."""
    first.back()
    return first


@pytest.fixture
def told(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, in that home."""
    monkeypatch.setenv("PRECEPTOR_HOME", str(place.home.root))
    monkeypatch.setenv("COLUMNS", "250")
    return Cli(monkeypatch, capsys, place.home.root)


def report(place: Place, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.one("select report from stages where name = ?", stage))
    return found


def trained(place: Place) -> str:
    """The judge's weights."""
    return str(place.one("select weights from checkpoints"))


def lessons(place: Place) -> list[str]:
    """Every text that the judge was trained on."""
    ((path, kind),) = place.ask("select path, kind from datasets")
    assert kind == "judge"
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [row[side][0]["content"] for row in rows for side in ("better", "worse")]


def found_in(texts: Sequence[str], part: str) -> bool:
    return any(part in text for text in texts)


def test_a_judge_is_trained_and_certified(place: Place) -> None:
    certified = report(place, "certify")
    assert certified["passed"]
    assert place.ask("select name, checkpoint_id from aliases") == [
        ("own-judge", certified["checkpoint"])
    ]
    assert [(one["principle"], one["text"]) for one in certified["principles"]] == [
        ("careful", CAREFUL["text"]),
        ("calm", CALM["text"]),
        ("careful", CAREFUL["opposite"]),
    ]
    for one in certified["principles"]:
        for who in ("base", "judge"):
            cases = one[who]["cases"]
            assert (cases["n"], cases["accuracy"], cases["faults"]) == (CASES // 2, 1.0, [])
            assert cases["first_slot"] is None
    assert place.ask("select state from rounds") == [("done",)]
    assert place.one("select count(*) from metrics where name = 'loss'") > 0


def test_constructed_pairs_count_as_cases_do(place: Place) -> None:
    place.empty()
    place.run(place.recipe(lessons={"held_out": 0.75}))
    certified = report(place, "certify")
    # Only the principle that says how it is asked for has constructed pairs, and its opposite.
    careful, calm, careless = (one["judge"] for one in certified["principles"])
    assert "constructed" not in calm
    back = careful["constructed"]["n"]
    assert 15 <= back == careless["constructed"]["n"] < TRAIN
    assert report(place, "lessons")["rows"] + 2 * back <= 3 * CASES // 2 + 2 * TRAIN
    # A judge that cannot tell the principles apart is right about one where it is wrong by the
    # other, except where it sees no difference: it knows the cases, and that is not enough.
    assert careful["constructed"]["accuracy"] + careless["constructed"]["accuracy"] <= 1
    assert not any(one["cases"]["faults"] for one in (careful, calm, careless))
    assert not certified["passed"]
    what_certifies_it_is_not_in_its_lessons(place)
    # Named by its id, it is refused as well: what it failed on is remembered.
    judge = {"weights": f"checkpoint:{certified['checkpoint']}", "kind": "follows"}
    files = [{**usual(place.root)["supply"]["files"][0], "train": 12, "held_out": 20}]
    steered = place.recipe(
        name="steered",
        judge=judge,
        supply={"files": files},
        lessons={"constitutions": []},
        pairs={"source": "judge", "guided": 0},
        train={"objective": "dpo"},
        gate={"min_items": 10},
    )
    with pytest.raises(Uncertified, match="careful, constructed: accuracy"):
        place.run(steered)


def test_sealed_cases_are_not_in_its_lessons(place: Place) -> None:
    what_certifies_it_is_not_in_its_lessons(place)


def what_certifies_it_is_not_in_its_lessons(place: Place) -> None:
    texts = lessons(place)
    for one in (CAREFUL, CALM, OPPOSITE):
        about = [text for text in texts if one["text"] in text]
        assert about
        for case in one["cases"]:
            assert found_in(about, f"\n{case['prompt']}\n") != case["sealed"]
    seen = {name for (name,) in place.ask(SEEN, trained(place))}
    with closing(connect(place.home.store)) as db:
        rounds = judgements.comparisons(db, "round")
    for comparison in (one.comparison for one in rounds):
        both = (comparison.first, comparison.second)
        taught = all(found_in(texts, f"\n{text}\n") for text in both)
        assert (comparison.unordered in seen) <= taught
    kept = [one for one in rounds if one.comparison.unordered not in seen]
    back = {one.comparison.id for one in kept}
    measured = place.ask(
        "select distinct comparisons.id from comparisons join scores"
        " on sample_id in (first_sample, second_sample) where source = 'round'"
    )
    assert {name for (name,) in measured} <= back
    learned = {name for (name,) in place.ask("select sample_id from dataset_rows")}
    assert not learned & {name for one in kept for name in one.samples}


def test_a_judge_that_was_killed_before_it_was_certified_has_seen_its_lessons(place: Place) -> None:
    place.empty()

    def stop() -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        place.run(place.recipe(), Meddler("careful: judge cases", 1, stop))
    assert place.ask("select name, state from stages where name in ('train', 'certify')") == [
        ("train", "done"),
        ("certify", "running"),
    ]
    what_certifies_it_is_not_in_its_lessons(place)
    # The open cases of two principles, and a pair of every prompt.
    assert len(place.ask(SEEN, trained(place))) == CASES + TRAIN


def test_its_lessons_are_in_the_words_in_which_it_is_asked(place: Place) -> None:
    assert all(text.endswith("Reply with yes or no.") for text in lessons(place))
    opposite = [text for text in lessons(place) if CAREFUL["opposite"] in text]
    assert len(opposite) > CASES
    assert report(place, "lessons")["rows"] * 2 == len(lessons(place))


def test_a_second_run_makes_no_call(place: Place) -> None:
    before = place.log.read_text()
    place.run(place.recipe())
    assert place.log.read_text() == before


def test_a_judge_that_does_not_pass_gets_no_name(place: Place, told: Cli) -> None:
    place.empty()
    said = told("run", str(place.recipe("--judge", "keyword:nowhere")))
    assert said.code == 0
    certified = report(place, "certify")
    assert (certified["passed"], certified["alias"]) == (False, None)
    assert place.ask("select * from aliases") == []
    assert "not certified: " in said.out
    assert (
        "careful, cases: its interval begins at 0%, not above 50%; accuracy 0% is below 65%"
        in said.out
    )
    assert "0% [0%, 19%] of 16" in said.out


def test_a_certified_judge_labels(place: Place, told: Cli) -> None:
    judge = {"weights": "checkpoint:own-judge", "kind": "follows"}
    recipe = place.recipe(
        name="steered",
        judge=judge,
        supply={
            "files": [{**usual(place.root)["supply"]["files"][0], "train": 12, "held_out": 20}]
        },
        teacher={"sampling": {"n": 2, "max_tokens": 64}},
        lessons={"constitutions": []},
        pairs={"source": "judge", "minimum": 1000, "guided": 0},
        train={"objective": "dpo"},
        gate={"min_items": 10},
    )
    with pytest.raises(RoundStopped, match="pairs can be learned from"):
        place.run(recipe)
    assert set(place.ask("select distinct source from pairs")) == {("judge",)}
    round_id = place.one("select id from rounds where name = 'steered'")
    sql = "select report from stages where round_id = ? and name = 'compare'"
    compared = json.loads(place.one(sql, round_id))
    # It is held against the cases that it never saw.
    assert set(compared["certified"]) == {"careful", "calm"}
    assert "of 16" in compared["certified"]["careful"]
    assert place.one("select weights from judges where id = ?", compared["judge"]) == trained(place)
    # What the judge round compared is no part of what an edit changes.
    edited = constitution(place.root, {**CAREFUL, "weight": 2.0}, CALM, name="edited")
    found = told("constitution", "preview", str(edited), "--json").json
    assert (found["exact"], found["comparisons"]) == (True, compared["comparisons"])
    every = "select count(*) from comparisons where source = 'round'"
    assert found["comparisons"] < place.one(every)


def test_a_judge_round_alone_leaves_nothing_to_preview(place: Place, told: Cli) -> None:
    edited = str(place.root / "tested.yaml")
    assert "No round has been judged" in told.refused("constitution", "preview", edited)


def test_the_command_line_shows_what_it_passes(place: Place, told: Cli) -> None:
    said = told("run", str(place.recipe()), "--serve").out
    assert "100% [81%, 100%] of 16" in said
    assert 'judge: {weights: "checkpoint:own-judge", kind: follows}' in said
    assert "nothing new is served: what was trained is no student" in said
    checkpoint = report(place, "certify")["checkpoint"]
    status = told("status")
    assert f"judge own-judge: {checkpoint[:16]} (certified)" in status.out
    assert "champion: none yet" in status.out
    assert told("status", "--json").json["judges"][0]["name"] == "own-judge"
    checked = told("recipe", "check", str(place.recipe())).out
    assert "trains: a judge from " in checked
    assert "prompts: up to 24, 2 guided answers each" in checked


def test_a_judge_is_not_called_champion(place: Place, told: Cli) -> None:
    refused = told.refused("recipe", "check", str(place.recipe(name="champion")))
    assert "a judge or a reward model needs another name" in refused
