"""Rounds with a panel of judges and with revised answers: the scripted server revises and judges.

What it revises says `Warmly` in the end, and that is what two of the three judges look for; the
third looks for another word.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from teachers.errors import ConfigError, RoundStopped, Uncertified
from tests.places import Heard, Place
from tests.scripted.running import Scripted, running
from tests.steered import WORD, constitution, principle, requests
from tests.tiny import tiny_model

WARM, N, ROUNDS = "Warmly", 2, 2
ADDED = f" {WARM}, with all of my heart."
OPEN, REFUSED, HELD_OUT = 12, 4, 24
SIDES = (
    " from pairs join comparisons c on c.id = comparison_id"
    " join samples x on x.id = chosen_sample join calls a on a.id = x.call_id"
    " join samples y on y.id = rejected_sample join calls b on b.id = y.call_id"
    " where pairs.round_id = ?"
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Scripted]]:
    """The judges beside the first: one of the same habit, one of another."""
    same, other = (tmp_path_factory.mktemp("judge") for _ in range(2))
    with (
        running(same, "--judge", f"keyword:{WARM}") as one,
        running(other, "--judge", f"keyword:{WORD}") as two,
    ):
        yield [one, two]


def at(server: Scripted) -> dict[str, Any]:
    return {"url": server.url, "model": "judge", "concurrency": 8}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, others: list[Scripted]) -> Place:
    """One whole round with panel and revisions, which later tests come back to."""
    root = tmp_path_factory.mktemp("panel")
    tiny_model(root / "model")
    tiny_model(root / "judge", seed=1)
    requests(root, 4 * (OPEN + HELD_OUT), mark=" [more]")
    requests(root, 4 * REFUSED, "refused", mark=" [refuse]")
    has_both = f"{WORD} {WARM}"
    constitution(root, principle("warm", "The answer is warm.", has_both))
    open_ = {"path": "open.jsonl", "verifier": "none", "train": OPEN, "held_out": HELD_OUT}
    refused = {"path": "refused.jsonl", "verifier": "none", "train": REFUSED, "held_out": 0}
    usual = {
        "name": "panel",
        "student": {"weights": str(root / "model")},
        "constitution": "tested.yaml",
        "judge": {"weights": str(root / "judge")},
        "panel": [at(server) for server in others],
        "supply": {"files": [open_, refused]},
        "teacher": {"sampling": {"n": N, "max_tokens": 64}, "concurrency": 8},
        "pairs": {"minimum": 10, "revisions": ROUNDS},
        "train": {"objective": "dpo", "rank": 4, "epochs": 1, "max_length": 400},
        "gate": {"max_tokens": 64, "min_items": 20, "length": "longer"},
    }
    student = ("--opening-after", f"{WARM} I say it all. ")
    place = Place(root, usual, "--judge", f"keyword:{WARM}", *student)
    place.run(place.recipe())
    place.keep()
    return place


@pytest.fixture
def place(first: Place) -> Place:
    """The first round, just done."""
    first.back()
    return first


def stopped_at_pairs(place: Place, **changes: Any) -> str:
    """Run a round up to its pairs; returns its id."""
    changes["pairs"] = {**changes.get("pairs", {}), "minimum": 1000}
    with pytest.raises(RoundStopped, match=r"the recipe asks for 1000"):
        place.run(place.recipe(**changes))
    return str(place.ask("select id from rounds order by started_at")[-1][0])


def report(place: Place, stage: str) -> dict[str, Any]:
    found = place.one("select report from stages where name = ?", stage)
    return dict(json.loads(found))


# --- The panel ----------------------------------------------------------------------------------


def test_every_judge_of_a_panel_is_certified_and_asked(place: Place) -> None:
    compared = report(place, "compare")
    judges = [compared["judge"], *compared["panel"]]
    assert len(set(judges)) == 3
    passed = place.ask("select judge_id from certificates where passed")
    assert sorted(passed) == sorted((judge,) for judge in judges)
    asked = dict(place.ask("select judge_id, count(*) from judgements group by 1"))
    assert asked.keys() == set(judges)
    assert len(set(asked.values())) == 1
    assert set(place.ask("select json_array_length(judges) from panel_judgements")) == {(3,)}
    settled = (
        "select count(*) from comparisons c left join panel_judgements p"
        " on p.comparison_id = c.id where c.source in ('round', 'gate') and p.id is null"
    )
    assert place.one(settled) == 0


def test_pairs_are_what_the_panel_settled(place: Place) -> None:
    # Two are sure, the third sees no difference, or the contrary: the mean of their p.
    means = {round((0.95 + 0.95 + third) / 3, 3) for third in (0.95, 0.5, 0.05)}
    found = {round(p, 3) for (p,) in place.ask("select p from pairs where source = 'judge'")}
    assert found <= means
    assert round((0.95 + 0.95 + 0.5) / 3, 3) in found
    # Where only the third sees a difference, one judge of three is no quorum.
    alone = (
        "select count(*) from panel_judgements join pair_rejections using (comparison_id)"
        " where state = 'abstain' and decided = 1 and reason = 'undecided'"
    )
    assert place.one(alone) > 0
    assert place.one("select max(disagreement) from panel_judgements") > 0.2
    assert place.one("select max(dissent) from panel_judgements") == pytest.approx(1 / 3)


def test_the_gate_goes_by_the_panel(place: Place) -> None:
    gate = report(place, "gate")
    assert gate["promoted"]
    assert gate["verdicts"] == {"win": HELD_OUT, "loss": 0, "tie": 0, "undecided": 0}
    judged = (
        "select state, count(*) from panel_judgements p join comparisons c"
        " on c.id = p.comparison_id where c.source = 'gate' group by 1"
    )
    assert place.ask(judged) == [("win", HELD_OUT)]


def test_the_quorum_decides_and_nobody_is_asked_again(place: Place, others: list[Scripted]) -> None:
    logs = [place.log, *(server.log for server in others)]
    before = [log.read_text() for log in logs]
    round_id = stopped_at_pairs(place, quorum=1)
    assert [log.read_text() for log in logs] == before
    alone = "select count(*) from pairs where round_id = ? and abs(p - 0.65) < 0.01"
    assert place.one(alone, round_id) > 0
    place.run(place.recipe())
    assert [log.read_text() for log in logs] == before


def test_a_judge_of_the_panel_that_has_not_passed_stops_the_round(
    place: Place, tmp_path: Path
) -> None:
    with (
        running(tmp_path, "--judge", "first") as server,
        pytest.raises(Uncertified, match=f"compare {server.url} judge@.* may not label"),
    ):
        place.run(place.recipe(panel=[at(server)]))


@pytest.mark.parametrize("panel", [True, False])
def test_a_judge_that_is_the_student_is_named(
    place: Place, others: list[Scripted], panel: bool
) -> None:
    heard = Heard()
    seats = [at(others[0])] if panel else []
    own = {"weights": str(place.root / "model")}
    recipe = place.recipe(judge=own, panel=seats, pairs={"minimum": 1000, "revisions": 0})
    with pytest.raises(RoundStopped):
        place.run(recipe, heard)
    kin = [line for line in heard.said if "judges its own" in line]
    assert len(kin) == 1
    assert "the weights are the same" in kin[0]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"judge": None}, "panel is for judges beside judge"),
        ({"panel": [], "quorum": 1}, "quorum is for a panel"),
        ({"quorum": 4}, "larger than the panel of 3"),
        ({"pairs": {"source": "construction", "guided": 1}}, "pairs, labelled by a judge"),
        ({"panel": [], "judge": None}, "pairs, labelled by a judge"),
        ({"train": {"objective": "sft"}}, "pairs, labelled by a judge"),
        ({"pairs": {"anchor": "older"}}, "one or the other"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    place: Place, changes: dict[str, Any], fault: str
) -> None:
    said = load(place.recipe()).model_dump()
    for name, value in changes.items():
        said[name] = {**said[name], **value} if isinstance(value, dict) else value
    with pytest.raises(ValidationError, match=fault):
        Recipe.model_validate(said)


def test_one_judge_is_not_a_panel_of_itself(place: Place) -> None:
    said = load(place.recipe()).model_dump()
    said["panel"] = [said["judge"]]
    with pytest.raises(ValidationError, match="the same judge twice"):
        Recipe.model_validate(said)


# --- Revisions ----------------------------------------------------------------------------------


def test_the_judge_prefers_revisions_and_they_are_learned_from(place: Place) -> None:
    names = [name for (name,) in place.ask("select name from stages order by started_at")]
    assert names[:4] == ["supply", "sample", "revise", "compare"]
    ((round_id,),) = place.ask("select id from rounds")
    rows = place.ask("select pairs.source, a.purpose, b.purpose, count(*)" + SIDES, round_id)
    assert rows == [("judge", "revise", "teach", OPEN)]
    ((path,),) = place.ask("select path from datasets")
    pairs = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(pairs) == OPEN
    for row in pairs:
        better, worse = (row[side][0]["content"] for side in ("chosen", "rejected"))
        assert better == worse + ADDED * ROUNDS


def test_an_evasive_revision_is_never_chosen(place: Place) -> None:
    assert report(place, "pair")["rejected"]["evasive"] == REFUSED * N
    texts = place.ask(
        "select first || second from pair_rejections join comparisons on id = comparison_id"
        " where reason = 'evasive'"
    )
    assert all("I can't help with that" in text for (text,) in texts)
    assert report(place, "revise")["evasive"] == REFUSED * N


def test_every_round_of_revision_is_stored(place: Place) -> None:
    revised = report(place, "revise")
    assert revised["drafts"] == revised["revised"] <= N * (OPEN + REFUSED)
    by_round = place.ask("select number, count(distinct sample_id) from revisions group by 1")
    assert by_round == [(0, revised["drafts"]), (1, revised["drafts"])]


def test_a_revision_that_the_judge_does_not_prefer_is_not_chosen(
    place: Place, others: list[Scripted]
) -> None:
    round_id = stopped_at_pairs(place, judge={"weights": None, **at(others[1])}, panel=[])
    purposes = {purpose for (purpose,) in place.ask("select a.purpose" + SIDES, round_id)}
    assert purposes == {"teach"}
    ties = "select count(*) from pair_rejections where reason = 'tie' and round_id = ?"
    assert place.one(ties, round_id) >= OPEN


def test_without_revisions_nothing_is_revised(place: Place) -> None:
    round_id = stopped_at_pairs(place, pairs={"revisions": 0})
    stages = "select name from stages where round_id = ? order by started_at"
    assert place.ask(stages, round_id) == [(n,) for n in ("supply", "sample", "compare", "pair")]
    assert place.ask("select distinct a.purpose" + SIDES, round_id) in ([], [("teach",)])


def test_who_revises_may_not_judge_by_any_name(place: Place) -> None:
    own = str(place.root / "model")
    for changes in (
        {"judge": {"weights": own}},
        {"teacher": {"weights": str(place.root / "judge")}},
    ):
        with pytest.raises(ConfigError, match="judges that are not the reviser"):
            load(place.recipe(**changes))
    load(place.recipe(judge={"weights": own}, pairs={"revisions": 0}))
    # The same weights in another folder are found out before anything is revised.
    shutil.copytree(own, place.root / "copy")
    revised = place.one("select count(*) from revisions")
    copied = place.recipe(judge={"weights": str(place.root / "copy")}, student={"instruction": "!"})
    with pytest.raises(RoundStopped, match="has the weights of who revises answers"):
        place.run(copied)
    assert place.one("select count(*) from revisions") == revised


def test_another_revision_of_an_endpoint_is_the_same_reviser(
    place: Place, others: list[Scripted]
) -> None:
    teacher = {**at(others[0]), "url": others[0].url + "/v1/", "revision": "2"}
    with pytest.raises(ConfigError, match="judges that are not the reviser"):
        load(place.recipe(teacher=teacher))
    load(place.recipe(teacher={**teacher, "model": "another"}))
