"""Whole preference rounds: real store, pairs and DPO, the scripted server as student and judge.

The same pairs are the same training run, so rounds that differ in something else find it done.
"""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from judges.aggregate import MOST_SURE
from judges.records import Comparison
from pipelines.labelling import record
from pipelines.ranking import next_to_rank, record_ranking
from pipelines.stages.sample import AGAINST, UNDER
from pipelines.store import judgements
from pipelines.store.connection import connect, transaction
from teachers.errors import RoundStopped, Uncertified
from tests.commands import Cli
from tests.places import Place
from tests.scripted.running import Scripted, running
from tests.steered import CALM, CAREFUL, CASES, WORD, constitution, principle, requests
from tests.tiny import tiny_model

TRAIN, HELD_OUT, N, SUMS = 20, 30, 3, 6
JUDGED = "select count(*) from calls where purpose = 'judge'"
TAUGHT = "select count(*) from calls where purpose = 'teach'"
ENOUGH = {"minimum": 1000}
"""More pairs than there are: the round stops before it trains, and its pairs can be looked at."""

pytestmark = pytest.mark.usefixtures("one_thread")


def usual(root: Path) -> dict[str, Any]:
    """What the recipes of this file say."""
    open_ = {"path": "open.jsonl", "name": "open", "verifier": "none"}
    sums = {"generator": "chain_sum", "name": "sums", "train": SUMS, "held_out": 20}
    return {
        "name": "steered",
        "student": {"weights": str(root / "model")},
        "constitution": "tested.yaml",
        "judge": {"weights": str(root / "model")},
        "supply": {
            "files": [{**open_, "train": TRAIN, "held_out": HELD_OUT}],
            "generators": [sums],
        },
        "teacher": {"sampling": {"n": N, "max_tokens": 64}, "concurrency": 8},
        "pairs": {"minimum": 10},
        "train": {"objective": "dpo", "rank": 4, "epochs": 1, "max_length": 400},
        "gate": {"max_tokens": 64, "min_items": 20, "length": "longer", "max_loss": 0.3},
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One whole round, start to end, which later tests come back to."""
    root = tmp_path_factory.mktemp("preference")
    tiny_model(root / "model")
    requests(root, 4 * (TRAIN + HELD_OUT))
    constitution(root, CAREFUL, CALM)
    student = ("--right-after", "0.5", "--opening-after", f"Here is {WORD} answer that I give. ")
    place = Place(root, usual(root), "--right", "0.5", *student, "--judge", f"keyword:{WORD}")
    place.run(place.recipe())
    place.keep()
    return place


@pytest.fixture
def place(first: Place) -> Place:
    """The first round, just done."""
    first.back()
    constitution(first.root, CAREFUL, CALM)
    return first


def stopped_at_pairs(place: Place, *flags: str, **changes: Any) -> str:
    """Run a round up to its pairs; returns its id."""
    changes["pairs"] = {**changes.get("pairs", {}), **ENOUGH}
    with pytest.raises(RoundStopped, match=r"pairs can be learned from; the recipe asks for 1000"):
        place.run(place.recipe(*flags, **changes))
    return str(place.ask("select id from rounds order by started_at")[-1][0])


# --- The first round ----------------------------------------------------------------------------


def test_a_steered_student_is_promoted(place: Place) -> None:
    again = place.run(place.recipe())
    gate = again.reports["gate"]
    assert again.promoted
    assert gate["items"] == HELD_OUT
    assert {one["name"]: one["passed"] for one in gate["conditions"]} == {
        "length": True,
        "judge": True,
        "accuracy": True,
    }
    # The student says seven words more, and every one of its answers has the judge's word.
    before, after = gate["lengths"]["base"], gate["lengths"]["student"]
    assert [new - old for old, new in zip(before, after, strict=True)] == [7] * HELD_OUT
    assert gate["verdicts"]["loss"] == gate["verdicts"]["undecided"] == 0
    assert gate["verdicts"]["win"] + gate["verdicts"]["tie"] == HELD_OUT
    assert gate["accuracy"][0] == 0.0
    assert Path(again.reports["promote"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert place.ask("select name, checkpoint_id from aliases") == [
        ("champion", gate["checkpoint"])
    ]
    assert place.ask("select name from stages order by started_at") == [
        (name,) for name in ("supply", "sample", "compare", "pair", "train", "gate", "promote")
    ]
    assert place.one("select count(*) from metrics where name = 'rewards/margins'") > 0
    # What it was steered by is kept, though nobody has committed it.
    ((name,),) = place.ask(
        "select name from constitutions where id = ?", again.reports["compare"]["constitution"]
    )
    assert name == "tested"


def test_its_pairs_say_who_decided_and_why(place: Place) -> None:
    rows = place.ask("select source, p, decisions, vetoed_by from pairs order by source")
    report = json.loads(place.one("select report from stages where name = 'pair'"))
    assert len(rows) == report["kept"] == sum(report["kept_by_source"].values())
    assert set(report["kept_by_source"]) == {"judge", "verifier"}
    for source, p, decisions, vetoed_by in rows:
        assert vetoed_by is None
        if source == "verifier":
            assert (p, decisions) == (1.0, "[]")
            continue
        assert p == pytest.approx(0.95)
        careful, calm = json.loads(decisions)
        assert (careful["principle"], calm["principle"]) == ("careful", "calm")
        assert careful["p"] == calm["p"] == pytest.approx(0.95)
        assert careful["pull"] == pytest.approx(2 * calm["pull"])
    # One pair a prompt, and each comparison is a pair or is rejected with a reason.
    assert place.one(
        "select count(distinct prompt_id) from pairs join comparisons c on c.id = comparison_id"
    ) == len(rows)
    assert len(rows) + sum(report["rejected"].values()) == report["comparisons"]
    assert (
        place.one("select count(*) from comparisons where source = 'round'")
        == (report["comparisons"])
    )
    reasons = dict(place.ask("select reason, count(*) from pair_rejections group by 1"))
    assert reasons == report["rejected"]
    assert {"tie", "surplus"} <= set(reasons)


def test_a_verifier_outranks_the_judge_and_the_judge_may_veto(place: Place) -> None:
    states = (
        "select a.state, b.state from pairs join verdicts a on a.sample_id = chosen_sample"
        " join verdicts b on b.sample_id = rejected_sample where source = 'verifier'"
        " and a.parser = 'strict' and b.parser = 'strict'"
    )
    assert set(place.ask(states)) == {("verified", "refuted")}
    texts = {
        name: (first, second)
        for name, first, second in place.ask("select id, first, second from comparisons")
    }
    right = dict(
        place.ask(
            "select text, state from samples join verdicts v"
            " on v.sample_id = samples.id where parser = 'strict'"
        )
    )
    vetoed = place.ask("select comparison_id from pair_rejections where reason='vetoed-by-judge'")
    assert vetoed
    for (name,) in vetoed:
        good, bad = sorted(texts[name], key=lambda text: right[text] != "verified")
        assert (right[good], right[bad]) == ("verified", "refuted")
        assert WORD in bad
        assert WORD not in good


def test_the_frozen_dataset_and_its_lineage(place: Place) -> None:
    ((path, kind, rows),) = place.ask("select path, kind, rows from datasets")
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert (kind, len(found)) == ("preference", rows)
    sides = place.ask(
        "select text, split from dataset_rows join samples on samples.id = sample_id"
        " join prompts on prompts.id = prompt_id order by dataset_rows.position"
    )
    assert [text for text, _ in sides] == [
        row[side][0]["content"] for row in found for side in ("chosen", "rejected")
    ]
    assert {split for _, split in sides} == {"train"}
    assert all(0.5 <= row["p"] <= 1.0 for row in found)
    chosen = place.ask("select chosen_sample, rejected_sample from pairs order by chosen_sample")
    pairs = place.ask("select sample_id from dataset_rows order by position")
    names = [name for (name,) in pairs]
    assert sorted(zip(names[::2], names[1::2], strict=True)) == chosen


def test_a_second_run_makes_no_call(place: Place) -> None:
    before = place.log.read_text()
    began = time.monotonic()
    place.run(place.recipe())
    assert time.monotonic() - began < 5
    assert place.log.read_text() == before


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ({"max_margin": 0.4}, "too-clear"),
        ({"length_ratio": 1.1}, "length-ratio"),
        ({"min_margin": 0.46}, "tie"),
    ],
)
def test_the_recipe_says_which_pairs_are_kept(
    place: Place, pairs: dict[str, Any], reason: str
) -> None:
    sql = "select count(*) from pair_rejections where reason = ? and round_id = ?"
    before = str(place.one("select id from rounds"))
    after = stopped_at_pairs(place, pairs=pairs)
    assert place.one(sql, reason, after) > place.one(sql, reason, before)


def test_a_prompt_may_have_several_pairs(place: Place) -> None:
    round_id = stopped_at_pairs(place, pairs={"per_prompt": 3})
    sql = "select count(*) from pair_rejections where reason = 'surplus' and round_id = ?"
    assert place.one(sql, round_id) == 0
    kept = "select count(*) from pairs where round_id = ?"
    assert place.one(kept, round_id) > place.one("select count(*) from pairs") / 2


def test_guided_answers_are_judged_beside_plain_ones(place: Place) -> None:
    place.empty()
    stopped_at_pairs(place, pairs={"guided": 1, "comparisons": 8})
    asked = (
        "select distinct purpose from comparisons"
        " join samples on samples.id in (first_sample, second_sample)"
        " join calls on calls.id = call_id where comparisons.source = 'round'"
    )
    assert {purpose for (purpose,) in place.ask(asked)} == {"teach", UNDER, AGAINST}
    # Five answers make ten pairs; the recipe wants eight of them.
    counts = "select distinct count(*) from comparisons where source = 'round' group by prompt_id"
    assert place.ask(counts) == [(8,)]


def test_prompts_that_no_principle_is_about_make_no_pairs(place: Place) -> None:
    both = [{**one, "scope": {"tags": ["sums"]}} for one in (CAREFUL, CALM)]
    constitution(place.root, *both)
    place.empty()  # else its comparisons are stored already
    after = stopped_at_pairs(place)
    rejected = (
        "select distinct reason from pair_rejections"
        " join comparisons on comparisons.id = comparison_id"
        " join prompts on prompts.id = prompt_id where round_id = ? and task = 'open'"
    )
    assert place.ask(rejected, after) == [("no-principle",)]


def test_a_constitution_that_is_about_nothing_here_stops_the_round(place: Place) -> None:
    constitution(place.root, {**CAREFUL, "scope": {"tags": ["cooking"]}})
    recipe = place.recipe(supply={"generators": []}, principles=["careful"])
    with pytest.raises(RoundStopped, match=r"No principle is about any.*careful: tags: cooking"):
        place.run(recipe)


# --- Editing the constitution -------------------------------------------------------------------


def test_reweighting_asks_nobody(place: Place) -> None:
    before = place.log.read_text()
    constitution(place.root, {**CAREFUL, "weight": 3.0}, {**CALM, "veto": True})
    outcome = place.run(place.recipe())
    assert place.one("select count(*) from rounds where state = 'done'") == 2
    assert place.log.read_text() == before
    decided = place.ask(
        "select distinct vetoed_by from pairs where round_id = ? and source = 'judge'",
        outcome.round_id,
    )
    assert decided == [("calm",)]


def test_rewording_asks_about_the_new_text_alone(place: Place) -> None:
    compared = "select count(*) from comparisons where source in ('round', 'gate')"
    identical = " and trim(first) = trim(second)"
    count = place.one(compared) - place.one(compared + identical)
    before = place.one(JUDGED), place.one(TAUGHT)
    constitution(place.root, CAREFUL, {**CALM, "text": "The answer keeps its calm."})
    outcome = place.run(place.recipe())
    new = place.ask("select purpose, request from calls where round_id = ?", outcome.round_id)
    assert {purpose for purpose, _ in new} == {"judge"}
    assert all("The answer keeps its calm." in request for _, request in new)
    assert len(new) == 2 * (count + CASES)
    assert (place.one(JUDGED), place.one(TAUGHT)) == (before[0] + len(new), before[1])


# --- Judges that may not label ------------------------------------------------------------------


def test_an_uncertified_judge_stops_the_round_and_nothing_is_lost(place: Place) -> None:
    place.empty()
    with running(place.root, "--judge", "first") as server:
        judge = {"weights": None, "url": server.url, "model": "first"}
        with pytest.raises(Uncertified) as refused:
            place.run(place.recipe(judge=judge))
    assert "may not label with 2 of 2 principles" in refused.value.message
    assert "\n  careful, cases: accuracy 0.0%" in refused.value.message
    assert "flips 100%" in refused.value.message
    assert "labels by construction" in refused.value.hint
    ((state, note),) = place.ask("select state, note from rounds")
    assert state == "stopped"
    assert "may not label" in note
    assert place.one("select count(*) from pairs") == 0
    taught = place.one(TAUGHT)
    assert taught == TRAIN + SUMS
    stopped_at_pairs(place)
    assert place.one("select count(*) from pairs") > 10
    assert place.one(TAUGHT) == taught


def test_a_judge_that_always_says_a_makes_no_pair(place: Place, told: Cli) -> None:
    """Not even one that had passed before: each of its verdicts is a flip, and labels nothing."""
    place.empty()
    told("constitution", "test", "tested.yaml", "--recipe", str(place.recipe()))
    round_id = stopped_at_pairs(place, "--judge", "first", supply={"generators": []})
    compared = json.loads(place.one("select report from stages where name = 'compare'"))
    for states in compared["verdicts"].values():
        assert states.pop("flip") > TRAIN
        assert set(states) <= {"tie"}, "of identical answers, about which nobody is asked"
    assert place.one("select count(*) from pairs") == 0
    assert place.ask("select reason, count(*) from pair_rejections group by 1") == [
        ("tie", compared["comparisons"])
    ]
    assert place.ask("select state from rounds where id = ?", round_id) == [("stopped",)]


def test_a_judge_for_the_gate_alone_is_refused_before_training_too(place: Place) -> None:
    with running(place.root, "--judge", "first") as server:
        judge = {"weights": None, "url": server.url, "model": "first"}
        how = {"source": "construction", "guided": 2}
        with pytest.raises(Uncertified, match="may not label with 2 of 2"):
            place.run(place.recipe(judge=judge, pairs=how))
    assert place.ask("select name from stages where state != 'done'") == [("compare",)]


def test_only_principles_that_can_decide_have_to_be_passed(place: Place) -> None:
    """The judge knows nothing about `odd`: measured only, or about other prompts, it may be."""
    weightless = principle("odd", "The answer is odd.", "Nowhere", weight=0.0)
    elsewhere = principle("odd", "The answer is odd.", "Nowhere", scope={"tags": ["poetry"]})
    for harmless in (weightless, elsewhere):
        constitution(place.root, CAREFUL, CALM, harmless)
        stopped_at_pairs(place)
    constitution(place.root, CAREFUL, CALM, {**weightless, "weight": 0.1})
    with pytest.raises(Uncertified, match="may not label with 1 of 3"):
        place.run(place.recipe())


def test_verdicts_that_cannot_be_had_stop_the_round_if_they_are_many(place: Place) -> None:
    """The judges take every case; the one half of the pairs, the other all but the longest."""

    def judge(server: Scripted, name: str) -> dict[str, Any]:
        return {"weights": None, "url": server.url, "model": name}

    habit = ("--judge", f"keyword:{WORD}", "--longest")
    with (
        running(place.root, *habit, "610") as server,
        pytest.raises(RoundStopped, match=r"\d+ of \d+ verdicts could not be had"),
    ):
        place.run(place.recipe(judge=judge(server, "short")))
    assert (
        place.one(
            "select count(*) from pairs join rounds on rounds.id = round_id where state = 'stopped'"
        )
        == 0
    )
    with running(place.root, *habit, "700") as server:
        round_id = stopped_at_pairs(place, judge=judge(server, "long"))
    report = "select report from stages where name = 'compare' and round_id = ?"
    verdicts = json.loads(place.one(report, round_id))["verdicts"]
    assert verdicts["careful"]["error"] > 0


def test_construction_needs_no_judge(place: Place) -> None:
    place.empty()
    how = {"source": "construction", "guided": 2}
    round_id = stopped_at_pairs(place, judge=None, pairs=how)
    assert place.one("select count(*) from judges") == 0
    purposes = dict(place.ask("select purpose, count(*) from calls group by 1"))
    assert purposes == {UNDER: TRAIN + SUMS, AGAINST: TRAIN + SUMS}
    decided = "select distinct decisions from pairs where source = 'construction'"
    # Only this principle says how to ask for it.
    assert [json.loads(one) for (one,) in place.ask(decided)] == [
        [{"principle": "careful", "p": 1.0, "pull": 0.0}]
    ]
    labels = (
        "select source, a.purpose, b.purpose, count(*) from pairs"
        " join samples x on x.id = chosen_sample join calls a on a.id = x.call_id"
        " join samples y on y.id = rejected_sample join calls b on b.id = y.call_id"
        " where pairs.round_id = ? and source = 'construction' group by 1, 2, 3"
    )
    ((source, under, against, count),) = place.ask(labels, round_id)
    assert (source, under, against) == ("construction", UNDER, AGAINST)
    assert count == TRAIN
    asked = place.ask("select request from calls where purpose = ?", AGAINST)
    assert all(" Be careless." in request for (request,) in asked)


# --- People, and an older model -----------------------------------------------------------------


def label(place: Place, comparison_id: str, choice: Any, who: str = "ann") -> None:
    with closing(connect(place.home.store)) as db:
        known = {one.comparison.id: one.comparison for one in judgements.comparisons(db, "round")}
        comparison: Comparison = known[comparison_id]
        record(db, comparison, who, None, choice, 1.0)


@pytest.mark.parametrize("source", ["judge", "verifier"])
def test_people_outrank_everybody(place: Place, source: str) -> None:
    sql = (
        "select comparison_id, chosen_sample, rejected_sample, chosen_sample = first_sample"
        " from pairs join comparisons c on c.id = comparison_id"
        " where pairs.source = ? order by comparison_id limit 1"
    )
    ((name, chosen, rejected, first_was_chosen),) = place.ask(sql, source)
    label(place, name, "second" if first_was_chosen else "first")
    round_id = stopped_at_pairs(place)
    found = "select source, p, chosen_sample, rejected_sample from pairs where comparison_id = ?"
    assert place.ask(found + " and round_id = ?", name, round_id) == [
        ("human", MOST_SURE, rejected, chosen)
    ]
    # Three against one, and one who sees no difference: p is the share of votes.
    word = "second" if first_was_chosen else "first"
    others = {"bob": "first" if word == "second" else "second", "cy": word, "di": word, "ed": "tie"}
    for who, choice in others.items():
        label(place, name, choice, who)
    split = stopped_at_pairs(place)
    assert place.ask(found + " and round_id = ?", name, split) == [
        ("human", 3.5 / 5, rejected, chosen)
    ]
    for who in others:
        label(place, name, "skip", who)
    # They change their mind: that is another round, and this one is as it was.
    label(place, name, "tie")
    again = stopped_at_pairs(place)
    assert again != round_id
    assert place.ask(found + " and round_id = ?", name, again) == []
    assert len(place.ask(found + " and round_id = ?", name, round_id)) == 1
    reason = "select reason, detail from pair_rejections where comparison_id = ? and round_id = ?"
    assert place.ask(reason, name, again) == [("tie", "people see no better one")]


def test_people_are_heard_whichever_answer_they_saw_as_the_first(place: Place) -> None:
    sql = (
        "select comparison_id, chosen_sample, rejected_sample, chosen_sample = first_sample"
        " from pairs join comparisons c on c.id = comparison_id"
        " where pairs.source = 'judge' order by comparison_id limit 1"
    )
    ((name, chosen, rejected, first_was_chosen),) = place.ask(sql)
    with closing(connect(place.home.store)) as db:
        known = {one.comparison.id: one for one in judgements.comparisons(db, "round")}
        stored = known[name]
        turned = stored._replace(
            comparison=stored.comparison.swap(), samples=(stored.samples[1], stored.samples[0])
        )
        with transaction(db):
            judgements.add_comparisons(db, [turned])
    label(place, turned.comparison.id, "first" if first_was_chosen else "second")
    round_id = stopped_at_pairs(place)
    found = "select source, chosen_sample, rejected_sample from pairs where round_id = ?"
    said = " and comparison_id = ?"
    assert place.ask(found + said, round_id, name) == [("human", rejected, chosen)]


def test_every_pair_that_people_ranked_counts(place: Place) -> None:
    """Also those about which a judge is not asked."""
    with closing(connect(place.home.store)) as db:
        ranked = next_to_rank(db, "ann", None, "round")
        assert ranked is not None
        assert len(ranked.answers) == N
        record_ranking(db, ranked, "ann", None, [[one] for one in ranked.answers], 9.0)
    round_id = stopped_at_pairs(place, pairs={"comparisons": 1, "per_prompt": N})
    sql = "select count(*), count(distinct prompt_id) from pairs join comparisons c"
    sql += " on c.id = comparison_id where round_id = ? and pairs.source = 'human'"
    assert place.ask(sql, round_id) == [(N * (N - 1) // 2, 1)]


def test_a_teacher_that_says_the_same_twice_makes_one_pair_of_it(place: Place) -> None:
    first = "select text from samples s where s.call_id = samples.call_id and s.position = 0"
    with closing(connect(place.home.store)) as db:
        db.execute(f"update samples set text = ({first}) where position = 1")
    round_id = stopped_at_pairs(place, pairs={"per_prompt": N})
    counts = (
        "select count(*), count(distinct c.first || c.second), count(distinct c.prompt_id)"
        " from pairs join comparisons c on c.id = comparison_id where round_id = ?"
    )
    ((pairs, texts, prompts),) = place.ask(counts, round_id)
    assert pairs == texts == prompts > 10
    identical = "select count(*) from pair_rejections where reason = 'identical' and round_id = ?"
    assert place.one(identical, round_id) == TRAIN + SUMS


def test_an_older_models_answers_are_the_rejected_sides(place: Place) -> None:
    older = tiny_model(place.root / "older", seed=1)
    round_id = stopped_at_pairs(place, pairs={"anchor": str(older)})
    asked = (
        "select distinct a.purpose, b.purpose from pairs"
        " join samples x on x.id = chosen_sample join calls a on a.id = x.call_id"
        " join samples y on y.id = rejected_sample join calls b on b.id = y.call_id"
        " where pairs.round_id = ?"
    )
    assert place.ask(asked, round_id) == [("teach", "anchor")]
    reasons = dict(
        place.ask(
            "select reason, count(*) from pair_rejections where round_id = ? group by 1", round_id
        )
    )
    # The scripted server says the same whatever its weights are: one is as often better.
    assert reasons["anchor-preferred"] > 0


# --- A student that is kept aside ---------------------------------------------------------------


def test_a_student_that_moves_the_wrong_way_is_kept_aside(place: Place) -> None:
    before = place.log.read_text()
    outcome = place.run(place.recipe(gate={"length": "shorter"}))
    assert not outcome.promoted
    assert outcome.reports["gate"]["reason"].startswith("length: median ")
    assert "needs shorter, p below 0.01" in outcome.reports["gate"]["reason"]
    decided = "select decision from promotions order by rowid"
    assert [one for (one,) in place.ask(decided)][-1] != "promoted"
    # The pairs were learned from before, and all was said before.
    assert place.log.read_text() == before


def test_without_one_answer_that_could_be_checked_the_gate_stops(place: Place) -> None:
    with closing(connect(place.home.store)) as db:
        db.execute(
            "update verdicts set state = 'not_applicable' where sample_id in (select samples.id"
            " from samples join calls on calls.id = call_id where purpose like 'eval %')"
        )
    with pytest.raises(RoundStopped, match="checks of all 20 held-out answers failed"):
        place.run(place.recipe(gate={"length": "shorter"}))


# --- The next round -----------------------------------------------------------------------------


def test_the_champion_is_trained_on(place: Place) -> None:
    (champion,) = place.ask("select checkpoint_id from aliases")[0]
    merged = place.one("select merged_path from checkpoints where id = ?", champion)
    base = str(place.root / "model")
    recipe = place.recipe(student={"weights": "checkpoint:champion"}, teacher={"weights": base})
    outcome = place.run(recipe)
    gate = outcome.reports["gate"]
    assert gate["incumbent"] == "champion"
    assert gate["incumbent_id"] == champion
    job = "select json_extract(job, '$.base') from training_runs where round_id = ?"
    assert place.one(job, outcome.round_id) == merged
    # It answers as the champion does.
    assert not outcome.promoted
    assert "length: median 1.00 of the incumbent's, needs longer" in gate["reason"]
    assert "judge: 0 wins, 0 losses" in gate["reason"]
    before = place.log.read_text()
    assert place.run(recipe).round_id == outcome.round_id
    assert place.log.read_text() == before


def test_too_few_open_requests_are_told_before_anything_is_asked(place: Place) -> None:
    place.empty()
    with pytest.raises(RoundStopped, match="30 open held-out prompts; the gate wants at least 31"):
        place.run(place.recipe(gate={"min_items": 31}))
    assert place.requests("arrived") == []


# --- The command line ---------------------------------------------------------------------------


def test_run_shows_how_the_answers_have_moved(place: Place, told: Cli) -> None:
    said = told("run", str(place.recipe()))
    assert said.code == 0
    assert "30 held-out requests, length of the answers in tokens" in said.out
    assert "the student's answers, by the judge: win" in said.out
    assert "promoted: " in said.out
    assert "compare done" in told("status").out


def test_recipe_check_tells_what_is_judged_by_whom(place: Place, told: Cli) -> None:
    said = told("recipe", "check", str(place.recipe(principles=["calm"]))).out
    assert "objective: dpo, sigmoid" in said
    assert "constitution: tested" in said
    assert "(calm)" in said
    assert f"judge: {place.root / 'model'} (compare)" in said
    assert "pairs: labelled by judge" in said
    missing = told.refused("recipe", "check", str(place.recipe(principles=["clam"])))
    assert "tested has no principle 'clam'" in missing
    assert "Did you mean 'calm'?" in missing
    nowhere = told.refused("recipe", "check", str(place.recipe(constitution="nowhere.yaml")))
    assert "nowhere.yaml" in nowhere


def test_a_preview_of_other_weights_is_exact_and_free(place: Place, told: Cli) -> None:
    rounds = "select count(*) from comparisons where source = 'round'"
    sums = {"tags": ["sums"]}
    edited = constitution(place.root, {**CAREFUL, "scope": sums}, {**CALM, "weight": 0.0})
    before = place.log.read_text()
    began = time.monotonic()
    found = told("constitution", "preview", str(edited), "--json").json
    assert time.monotonic() - began < 2
    # Of sums, a verifier decides: a judge has a say where that tells two answers apart.
    open_ = " and prompt_id in (select id from prompts where verifier = 'none')"
    assert place.log.read_text() == before
    assert found["exact"]
    assert place.one(rounds + open_) < found["comparisons"] < place.one(rounds)
    assert {name: one["edits"] for name, one in found["by_principle"].items()} == {
        "careful": ["rescoped"],
        "calm": ["reweighted"],
    }
    effects = found["effects"]
    assert (effects["flips"], effects["appears"]) == (0, 0)
    assert {one["after"]["state"] for one in found["changed"]} == {"undecided"}
    assert len(found["changed"]) == effects["vanishes"] > 10
    assert all("thing" in one["request"] for one in found["changed"])
    shown = told("constitution", "preview", str(edited), "--show", "1").out
    assert f"{found['comparisons']} stored comparisons, exact" in shown
    assert "vanishes: " in shown
    assert f"{effects['vanishes'] - 1} more (--show)" in shown


def test_a_preview_of_other_words_says_what_it_costs_and_judges_a_sample(
    place: Place, told: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = str(constitution(place.root, CAREFUL, {**CALM, "text": "It is not agitated."}))
    before = place.one(JUDGED)
    # Nobody is there to agree, so nothing is spent.
    refused = told("constitution", "preview", edited, "--sample", "10")
    assert refused.code == 1
    assert " calls to the judge are missing for this, about " in refused.out
    assert place.one(JUDGED) == before
    said = told("constitution", "preview", edited, "--sample", "10", "--yes", "--json")
    assert said.code == 0
    found = said.json
    assert not found["exact"]
    # Whole prompts are judged, of at most three comparisons each.
    n = found["comparisons"]
    assert 8 <= n <= 10
    assert n <= place.one(JUDGED) - before <= 2 * n
    calm = found["by_principle"]["calm"]
    assert (calm["edits"], calm["pairs"]["same"], calm["verdicts"]["same"]) == (["reworded"], n, n)
    hits, prompts, low, high = found["affected"]
    assert found["affected"] == calm["affected"]
    assert (hits, low) == (0, 0.0)
    assert prompts >= n / 3
    assert 0.2 < high < 0.7
    # The same sample again costs nothing, and is a sample all the same.
    spent = place.one(JUDGED)
    again = told("constitution", "preview", edited, "--sample", "10")
    assert f"{n} stored comparisons, judged on a sample" in again.out
    assert "share of prompts whose pairs change: 0.0% [0.0%, " in again.out
    assert f"calm, reworded: same {n}" in again.out
    assert place.one(JUDGED) == spent


def test_judges_are_tested_listed_and_read_again(place: Place, told: Cli) -> None:
    recipe = str(place.recipe())
    before = place.one(JUDGED)
    said = told("constitution", "test", "tested.yaml", "--recipe", recipe, "--json").json
    assert {name: one["accuracy"] for name, one in said["principles"].items()} == {
        "careful": 1.0,
        "calm": 1.0,
    }
    assert place.one(JUDGED) == before
    assert "passed" in told("constitution", "test", "tested.yaml", "--recipe", recipe).out
    listed = told("judge", "list", "--json").json
    assert {(row["kind"], row["principle"], row["passed"], row["n"]) for row in listed} == {
        ("compare", CAREFUL["text"], 1, CASES),
        ("compare", CALM["text"], 1, CASES),
    }
    assert "0 verdicts changed" in told("judge", "reparse").out
    with closing(connect(place.home.store)) as db:
        db.execute("update judgements set state = 'unparsed', value = null where rowid % 2 = 0")
    changed = place.one("select count(*) from judgements where state = 'unparsed'")
    assert f"{changed} verdicts changed" in told("judge", "reparse", listed[0]["judge"][:6]).out
    assert place.one("select count(*) from judgements where state = 'unparsed'") == 0
    assert "No judge's id begins with 'nobody'" in told.refused("judge", "reparse", "nobody")
    assert place.one(JUDGED) == before


def test_without_a_judged_round_a_preview_says_so(place: Place, told: Cli) -> None:
    place.empty()
    assert "No round has been judged" in told.refused("constitution", "preview", "tested.yaml")
