"""Whether a judge may label: figures by hand, and habits that must not pass."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from judges.certify import Certificate, Criteria, Outcome, certificate
from judges.constitution import Case, Principle
from judges.records import Comparison, ComparisonState, Judgement
from pipelines.certification import CONSTRUCTED, case_pair, measure, require
from pipelines.gold import Known, known, read_gold
from pipelines.store import judgements
from pipelines.store.connection import transaction
from teachers.errors import ConfigError, Uncertified
from tests.judged import PRINCIPLE, Bench, asked, balanced, case, comparison
from tests.scripted.running import running

PAIR = comparison("short", "a longer one")


def outcome(state: ComparisonState, p: float | None = None, *, first: bool = True) -> Outcome:
    return Outcome(PAIR, first, Judgement(state=state, p=p))


# --- Figures ------------------------------------------------------------------------------------


def test_the_figures_are_those_of_a_calculation_by_hand() -> None:
    outcomes = [
        *[outcome("win", 0.9)] * 4,  # right
        *[outcome("loss", 0.1, first=False)] * 3,  # right
        outcome("loss", 0.1),  # wrong
        outcome("flip", 0.6),
        outcome("unparsed"),
    ]
    found = certificate(outcomes)
    assert (found.n, found.accuracy) == (10, 0.7)
    # Wilson, z = 1.959964: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, n, p = 1.959964, 10, 0.7
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert found.high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)
    # The truth is first in 7 of 10; said first 4, second 4: expected 0.7 * 0.4 + 0.3 * 0.4 = 0.4
    assert found.kappa == pytest.approx((0.7 - 0.4) / (1 - 0.4))
    assert found.flips == 0.1
    assert found.unread == 0.1
    assert found.states == {"flip": 1, "loss": 4, "unparsed": 1, "win": 4}
    # The longer one is the second: picked in 4 of 8 decided pairs, better in 3 of those 8.
    assert found.picks_longer == 0.5
    assert found.longer_is_better == 0.375
    # Eight at confidence 0.9, seven of them right; one at 0.6, right: (|7.2 - 7| + |0.6 - 1|) / 9
    assert found.calibration_error == pytest.approx((0.2 + 0.4) / 9)
    assert found.first_slot is None


def test_whatever_cannot_be_read_is_counted() -> None:
    states: list[ComparisonState] = ["unparsed", "refused", "abstain", "error"]
    assert certificate([outcome(state) for state in states]).unread == 1.0
    decided: list[ComparisonState] = ["win", "loss", "tie", "flip"]
    assert certificate([outcome(state, 0.6) for state in decided]).unread == 0.0


def test_each_tenth_of_confidence_is_held_against_its_own_share() -> None:
    """0.7 twice, right twice; 0.95 twice, right once: (|1.4 - 2| + |1.9 - 1|) / 4."""
    outcomes = [*[outcome("win", 0.7)] * 2, outcome("win", 0.95), outcome("loss", 0.05)]
    assert certificate(outcomes).calibration_error == pytest.approx((0.6 + 0.9) / 4)


def test_the_temperature_is_the_likeliest_one() -> None:
    """At p = 0.9 throughout and 75 % right, log-odds ln 9 should have been ln 3: T = 2."""
    sure = [*[outcome("win", 0.9)] * 3, outcome("loss", 0.1)]
    # The last one is wrong: it says the second with 0.9, and the first is better.
    found = certificate(sure * 5)
    assert found.temperature == pytest.approx(2.0, abs=0.01)
    assert found.calibration_error == pytest.approx(0.15)
    assert found.calibration_error_scaled == pytest.approx(0.0, abs=1e-3)


def test_the_first_slot_rate_counts_orders() -> None:
    both = [outcome("flip")._replace(chose_shown_first=(True, True))] * 3
    one = outcome("win")._replace(chose_shown_first=(True, False))
    assert certificate([*both, one]).first_slot == 7 / 8


def test_nothing_can_be_measured_on_nothing() -> None:
    with pytest.raises(ValueError, match="share of nothing"):
        certificate([])
    found = certificate([outcome("unparsed")] * 3)
    assert (found.accuracy, found.unread, found.calibration_error) == (0.0, 1.0, None)
    assert found.temperature is None


@pytest.mark.parametrize(
    ("right", "wrong", "flips", "faults"),
    [
        (16, 4, 0, []),
        (14, 6, 0, ["its interval begins at 48%, not above 50%"]),
        (60, 40, 0, ["accuracy 60% is below 65%"]),
        (66, 3, 31, ["flips 31% exceed 30%"]),
        (70, 0, 30, []),
    ],
)
def test_criteria(right: int, wrong: int, flips: int, faults: list[str]) -> None:
    outcomes = [outcome("win")] * right + [outcome("loss")] * wrong + [outcome("flip")] * flips
    assert certificate(outcomes).faults(Criteria()) == faults


def test_a_few_cases_certify_nothing() -> None:
    assert certificate([outcome("win")] * 9).faults(Criteria()) == ["9 pairs are fewer than 10"]
    assert certificate([outcome("win")] * 10).faults(Criteria()) == []
    assert certificate([outcome("win")] * 4).faults(Criteria(min_cases=4)) == []


def test_the_interval_has_to_lie_above_its_bar() -> None:
    found = certificate([outcome("win")] * 20)
    assert found.model_copy(update={"low": 0.501}).faults(Criteria()) == []
    assert found.model_copy(update={"low": 0.5}).faults(Criteria()) == [
        "its interval begins at 50%, not above 50%"
    ]


def test_a_judge_whose_replies_cannot_be_read_is_told_so() -> None:
    read = [outcome("win")] * 79
    enough = certificate([*read, *[outcome("refused")] * 20, outcome("loss")])
    assert enough.faults(Criteria()) == []
    lost = certificate([*read, *[outcome("refused")] * 21])
    assert lost.faults(Criteria()) == ["21% of its replies could not be read"]


# --- A judge's habits ---------------------------------------------------------------------------


def certified(
    folder: Path, habit: str, principle: Principle, kind: str = "compare"
) -> tuple[Certificate, Bench]:
    with running(folder, "--judge", habit) as server:
        bench = Bench.at(folder, server.url, kind)

        async def run() -> Certificate:
            pairs = [case_pair(case) for case in principle.cases]
            async with bench.open() as workbench:
                return await measure(workbench, bench.seat, principle, pairs, "cases")

        return asyncio.run(run()), bench


@pytest.mark.parametrize("kind", ["compare", "score"])
@pytest.mark.parametrize("habit", ["first", "longer", "shorter", "length"])
def test_a_mere_habit_does_not_pass(tmp_path: Path, habit: str, kind: str) -> None:
    principle = PRINCIPLE.model_copy(update={"cases": balanced(20)})
    found, _ = certified(tmp_path, habit, principle, kind)
    assert found.faults(Criteria())
    assert found.accuracy == (0.0 if habit == "first" else 0.5)
    if habit == "first":
        assert (found.flips, found.first_slot) == ((1.0, 1.0) if kind == "compare" else (0.0, None))
    else:
        assert found.picks_longer == (0.0 if habit == "shorter" else 1.0)
        assert found.longer_is_better == 0.5


def test_no_habit_passes_where_six_of_ten_are_longer(tmp_path: Path) -> None:
    cases = tuple(case(number, longer_is_better=number % 10 < 6) for number in range(20))
    principle = PRINCIPLE.model_copy(update={"cases": cases})
    found, _ = certified(tmp_path, "longer", principle)
    assert found.accuracy == 0.6
    assert "accuracy 60% is below 65%" in found.faults(Criteria())


def test_a_judge_that_knows_passes_and_its_certificate_is_kept(tmp_path: Path) -> None:
    principle = PRINCIPLE.model_copy(update={"cases": balanced(20)})
    found, bench = certified(tmp_path, "keyword:good", principle)
    assert found.faults(Criteria()) == []
    assert (found.accuracy, found.flips, found.first_slot) == (1.0, 0.0, 0.5)

    async def stored() -> list[tuple[Any, ...]]:
        async with bench.open() as workbench:
            sql = "select judge_id, principle_id, gold, passed, figures from certificates"
            return list(workbench.db.execute(sql))

    ((judge_id, principle_id, gold, passed, figures),) = asyncio.run(stored())
    assert (judge_id, principle_id) == (bench.seat.judge.id, principle.text_id)
    assert (gold, passed) == ("cases", 1)
    assert Certificate.model_validate_json(figures) == found


def test_open_and_sealed_cases_have_figures_of_their_own(tmp_path: Path) -> None:
    """Right about every open case and about none of the sealed ones: fitted to what was seen."""
    sealed = [one.model_copy(update={"sealed": True}) for one in turned(balanced(18)[12:])]
    principle = PRINCIPLE.model_copy(update={"cases": (*balanced(12), *sealed)})
    found, _ = certified(tmp_path, "keyword:good", principle)
    assert (found.n, found.accuracy) == (18, 12 / 18)
    assert found.open is not None
    assert found.sealed is not None
    assert (found.open.n, found.open.accuracy, found.open.flips) == (12, 1.0, 0.0)
    assert (found.sealed.n, found.sealed.accuracy, found.sealed.low) == (6, 0.0, 0.0)
    assert found.open.low == certificate([outcome("win")] * 12).low
    # Pairs that are no cases have no halves.
    other = certificate([outcome("win")] * 12)
    assert (other.open, other.sealed) == (None, None)


def test_who_has_not_passed_is_refused_with_figures_and_advice(tmp_path: Path) -> None:
    good = PRINCIPLE.model_copy(update={"cases": balanced(20)})
    bad = good.model_copy(update={"id": "odd", "text": "Odd.", "cases": turned(balanced(20))})
    with running(tmp_path, "--judge", "keyword:good") as server:
        bench = Bench.at(tmp_path, server.url)

        async def run(*principles: Principle) -> dict[str, Certificate]:
            async with bench.open() as workbench:
                return await require(workbench, bench.seat, principles, Criteria())

        assert set(asyncio.run(run(good))) == {"short"}
        with pytest.raises(Uncertified, match="may not label with 1 of 2 principles") as refused:
            asyncio.run(run(good, bad))
    assert "\n  odd, cases: accuracy 0.0%" in refused.value.message
    assert "its interval begins at 0%" in refused.value.message
    assert "train.objective: judge" in refused.value.hint


def test_what_counts_as_passed_is_what_was_asked_for(tmp_path: Path) -> None:
    principle = PRINCIPLE.model_copy(update={"cases": balanced(20)})
    lenient = Criteria(min_lower=0.2, min_accuracy=0.5)
    with running(tmp_path, "--judge", "longer") as server:
        bench = Bench.at(tmp_path, server.url)

        async def run() -> list[tuple[int]]:
            async with bench.open() as workbench:
                await require(workbench, bench.seat, [principle], lenient)
                return list(workbench.db.execute("select passed from certificates"))

        assert asyncio.run(run()) == [(1,)]


def turned(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Cases with the two answers the wrong way round."""
    return tuple(one.model_copy(update={"better": one.worse, "worse": one.better}) for one in cases)


def test_what_trained_a_judge_does_not_certify_it(tmp_path: Path) -> None:
    """Nor what trained the judge that it was trained on from; a swapped case is the same case."""
    pairs = [case_pair(one) for one in balanced(12)]
    first, second, *rest = (pair.compared.comparison for pair in pairs)
    with running(tmp_path, "--judge", "keyword:good") as server:
        bench = Bench.at(tmp_path, server.url)
        weights = bench.seat.judge.weights

        async def run(*lessons: tuple[str, str, list[Comparison]]) -> Certificate:
            async with bench.open() as workbench:
                with transaction(workbench.db) as db:
                    for judge, base, seen in lessons:
                        judgements.add_seen(db, judge, base, seen)
                return await measure(workbench, bench.seat, PRINCIPLE, pairs, "cases")

        parent, other = ("parent", "base", [first]), ("another model", "base", rest)
        assert asyncio.run(run(parent, other, (weights, "parent", [second.swap()]))).n == 10
        assert len(server.events("arrived")) == 20
        with pytest.raises(ConfigError, match="nothing to measure") as nothing:
            asyncio.run(run((weights, "base", rest)))
        assert "mark half of its cases sealed" in nothing.value.hint


def test_a_first_look_is_no_certificate(tmp_path: Path) -> None:
    pairs = [case_pair(one) for one in balanced(20)]
    with running(tmp_path, "--judge", "keyword:good") as server:
        bench = Bench.at(tmp_path, server.url)

        async def run(store: bool) -> tuple[int, int]:
            async with bench.open() as workbench:
                some = pairs[:6]
                found = await measure(workbench, bench.seat, PRINCIPLE, some, "cases", store=store)
                rows = workbench.db.execute("select count(*) from certificates").fetchone()
                return found.n, rows[0]

        assert asyncio.run(run(store=False)) == (6, 0)
        assert asyncio.run(run(store=True)) == (6, 1)


def test_constructed_pairs_that_were_held_against_a_judge_have_to_be_passed(tmp_path: Path) -> None:
    good = PRINCIPLE.model_copy(update={"cases": balanced(20)})
    constructed = [case_pair(one) for one in turned(balanced(16))]
    with running(tmp_path, "--judge", "keyword:good") as server:
        bench = Bench.at(tmp_path, server.url)

        async def run() -> None:
            async with bench.open() as workbench:
                await require(workbench, bench.seat, [good], Criteria())
                await measure(workbench, bench.seat, good, constructed, CONSTRUCTED)
                with pytest.raises(Uncertified, match="may not label with 1 of 1") as refused:
                    await require(workbench, bench.seat, [good], Criteria())
                assert "\n  short, constructed: accuracy 0.0%" in refused.value.message
                assert "short, cases" not in refused.value.message

        asyncio.run(run())


def test_a_principle_without_cases_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to measure") as nothing:
        certified(tmp_path, "first", PRINCIPLE)
    assert "Write cases" in nothing.value.hint


# --- Gold files ---------------------------------------------------------------------------------


def gold(folder: Path, *rows: object) -> list[Known]:
    path = folder / "gold.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return read_gold(path)


def texts(pair: Known) -> tuple[str, str]:
    """The better answer and the worse one."""
    first, second = pair.compared.comparison.first, pair.compared.comparison.second
    return (first, second) if pair.first_is_better else (second, first)


def test_transcripts_are_read_turn_by_turn(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello: what is it?\n\nHuman: Why?\n\nAssistant:"
    (pair,) = gold(tmp_path, {"chosen": f"{start} Because.", "rejected": f"{start} No."})
    conversation = pair.compared.comparison.conversation
    assert [(turn.role, turn.content) for turn in conversation] == [
        ("user", "Hi"),
        ("assistant", "Hello: what is it?"),
        ("user", "Why?"),
    ]
    assert texts(pair) == ("Because.", "No.")
    assert pair.compared.origin == "gold"


def test_a_prompt_may_be_a_text_or_turns_and_may_be_said_again(tmp_path: Path) -> None:
    user = {"role": "user", "content": "Why?"}
    yes, no = ({"role": "assistant", "content": text} for text in ("Because.", "No."))
    pairs = gold(
        tmp_path,
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": [user], "chosen": [yes], "rejected": [no]},
        {"prompt": "Why?", "chosen": [user, yes], "rejected": [user, no]},
        {"chosen": [user, yes], "rejected": [user, no], "more": 1},
    )
    assert {texts(pair) for pair in pairs} == {("Because.", "No.")}
    assert {pair.compared.comparison.conversation for pair in pairs} == {asked("Why?")}
    assert len({pair.compared.comparison.id for pair in pairs}) == 1


def test_separators_inside_of_a_text_end_no_line(tmp_path: Path) -> None:
    (pair,) = gold(tmp_path, {"prompt": "Why?", "chosen": "a\u2028b\x85c", "rejected": "d\x0ce"})
    assert texts(pair) == ("a\u2028b\x85c", "d\x0ce")


@pytest.mark.parametrize(
    "row",
    [
        "{broken",
        "[1, 2]",
        '"prompt"',
        "7",
        "[" * 100_000,
        {"prompt": "Why?", "chosen": "Because."},
        {"prompt": None, "chosen": "a", "rejected": "b"},
        {"prompt": "Why?", "chosen": 3, "rejected": "b"},
        {"prompt": "Why?", "chosen": [], "rejected": []},
        {"chosen": [], "rejected": []},
        {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user"}]},
        {"chosen": "no turns", "rejected": "none"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"},
        '{"prompt": "Why?", "chosen": "\\ud800", "rejected": "b"}',
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object) -> None:
    fine = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    with pytest.raises(ConfigError, match="line 3 is no preference pair"):
        gold(tmp_path, fine, "", row, fine)


def test_an_empty_or_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no preference pair"):
        gold(tmp_path, "", "  ")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_gold(tmp_path / "nowhere.jsonl")
    (tmp_path / "latin").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        read_gold(tmp_path / "latin")


def test_the_better_answer_has_no_place_of_its_own() -> None:
    pairs = [known(asked(f"{number}?"), "good", "bad", "gold") for number in range(200)]
    first = sum(pair.first_is_better for pair in pairs)
    assert 70 < first < 130
    assert pairs[0] == known(asked("0?"), "good", "bad", "gold")
