"""A preview against the pairs that rounds by both versions build, to the last one."""

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest
from filelock import FileLock

from pipelines.store.connection import connect, transaction
from teachers.errors import RoundStopped
from tests.commands import Cli
from tests.places import Place
from tests.scripted.running import Scripted, running
from tests.steered import CALM, CAREFUL, WORD, constitution, principle, requests
from tests.tiny import tiny_model

KIND = principle("kind", "The answer is kind.", weight=0.3)
EDITS: dict[str, tuple[dict[str, Any], ...]] = {
    "reweighted": (CAREFUL, {**CALM, "weight": 3.0}, KIND),
    "veto": (CAREFUL, CALM, {**KIND, "veto": True}),
    "rescoped": ({**CAREFUL, "scope": {"tags": ["sums"]}}, CALM, KIND),
}
OPINIONS = (0.97, 0.03, 0.6, 0.35, 0.8)
TOUCHED = {"reweighted": "calm", "veto": "kind", "rescoped": "careful"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A judge beside the first."""
    with running(tmp_path_factory.mktemp("judge"), "--judge", f"keyword:{WORD}") as server:
        yield server


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, other: Scripted) -> Place:
    """A round of which two judges have said anything and everything."""
    root = tmp_path_factory.mktemp("previewed")
    tiny_model(root / "model")
    requests(root, 40)
    constitution(root, CAREFUL, CALM, KIND)
    open_ = {"path": "open.jsonl", "name": "open", "verifier": "none"}
    sums = {"generator": "chain_sum", "name": "sums", "train": 6, "held_out": 10}
    usual = {
        "name": "previewed",
        "student": {"weights": str(root / "model")},
        "constitution": "tested.yaml",
        "judge": {"weights": str(root / "model")},
        "panel": [{"url": other.url, "model": "judge", "concurrency": 8}],
        "quorum": 1,
        "supply": {"files": [{**open_, "train": 24, "held_out": 8}], "generators": [sums]},
        "teacher": {"sampling": {"n": 3, "max_tokens": 64}, "concurrency": 8},
        # Enough never: the round stops before it trains, and its pairs can be looked at.
        "pairs": {"minimum": 1000, "max_margin": 0.4, "length_ratio": 1.5},
        "train": {"objective": "dpo", "rank": 4, "epochs": 1, "max_length": 400},
        "gate": {"max_tokens": 64, "min_items": 5, "max_loss": 0.9, "length": "longer"},
    }
    place = Place(root, usual, "--right", "0.5", "--judge", f"keyword:{WORD}")
    pairs_of(place)
    with_opinions(place)
    place.keep()
    return place


@pytest.fixture
def place(judged: Place) -> Place:
    judged.back()
    constitution(judged.root, CAREFUL, CALM, KIND)
    return judged


def pairs_of(place: Place, **changes: Any) -> dict[str, tuple[str, str]]:
    """The pairs that a round builds: the better answer and who says so, by comparison."""
    with pytest.raises(RoundStopped, match="the recipe asks for 1000"):
        place.run(place.recipe(**changes))
    ((round_id,),) = place.ask("select id from rounds order by rowid desc limit 1")
    rows = place.ask(
        "select comparison_id, iif(chosen_sample = first_sample, 'first', 'second'), pairs.source"
        " from pairs join comparisons c on c.id = comparison_id where round_id = ?",
        round_id,
    )
    return {name: (better, source) for name, better, source in rows}


def with_opinions(place: Place) -> None:
    """Have the judges say something else of each comparison by each principle, often clearly, and
    be of two minds now and then.
    """
    chance = Random(0)
    said: dict[tuple[str, str], float] = {}
    with closing(connect(place.home.store)) as db, transaction(db):
        rows = db.execute(
            'select j.id, comparison_id, principle_id, "order" from judgements j'
            " join comparisons c on c.id = comparison_id where source = 'round' order by j.id"
        ).fetchall()
        for name, comparison, principle, order in rows:
            p = said.setdefault((comparison, principle), chance.choice(OPINIONS))
            p = 1 - p if chance.random() < 0.1 else p
            value = p if order == "forward" else 1 - p
            db.execute("update judgements set value = ? where id = ?", (value, name))


def effects(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """What two rounds' pairs come to, by comparison."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {name: effect(name in before, name in after) for name in changed}


def effect(was: bool, is_: bool) -> str:
    if was and is_:
        return "flips"
    return "vanishes" if was else "appears"


@pytest.mark.parametrize("per_prompt", [1, 2])
@pytest.mark.parametrize("kind", EDITS)
def test_a_preview_is_what_rounds_do(place: Place, told: Cli, kind: str, per_prompt: int) -> None:
    rules = {"pairs": {"per_prompt": per_prompt}}
    before = pairs_of(place, **rules)
    assert {source for _, source in before.values()} == {"judge", "verifier"}
    edited = constitution(place.root, *EDITS[kind], name="edited")
    asked = place.log.read_text()
    recipe = str(place.recipe(**rules))
    found = told("constitution", "preview", str(edited), "--recipe", recipe, "--json").json
    assert found["exact"]
    assert place.log.read_text() == asked
    after = pairs_of(place, **rules, constitution=str(edited))
    told_of = {one["comparison"]: one["effect"] for one in found["changed"]}
    assert told_of == effects(before, after)
    assert len(told_of) > 3
    # The one principle that was edited decides all of it.
    assert found["by_principle"].keys() == {TOUCHED[kind]}
    touched = found["by_principle"][TOUCHED[kind]]
    assert touched["edits"] == [kind]
    assert sum(touched["pairs"].values()) - touched["pairs"]["same"] == len(told_of)
    assert {by["principle"] for one in found["changed"] for by in one["by"]} == {TOUCHED[kind]}
    assert all(one["reason"] or one["effect"] == "flips" for one in found["changed"])


def test_looking_needs_no_home_of_ones_own(place: Place, told: Cli) -> None:
    edited = str(constitution(place.root, *EDITS["veto"], name="edited"))
    reworded = {**CALM, "text": "It is not agitated."}
    dear = str(constitution(place.root, CAREFUL, reworded, KIND, name="dear"))

    locks = place.home.root / "locks"
    with FileLock(locks / "round.lock"):
        shown = told("constitution", "preview", edited)
        assert (shown.code, "stored comparisons, exact" in shown.out) == (0, True)
        assert "\nby kind: " in shown.out
        asked = told("constitution", "preview", dear, "--sample", "6")
        assert " calls to the judge are missing" in asked.out
        assert "Another process" in told.refused("constitution", "preview", dear, "--yes")
