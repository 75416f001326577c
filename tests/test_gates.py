"""The statistics against published and hand-computed figures, the decision, and its picture."""

import json
import math
import struct
from pathlib import Path

import pytest

from judges.records import VerificationState
from judges.share import share
from pipelines.gates.conditions import (
    Condition,
    is_preferred,
    keeps_accuracy,
    moves_length,
)
from pipelines.gates.decision import BASE, FEW_SHOT, STUDENT, decide
from pipelines.gates.evaluation import Evaluation
from pipelines.gates.picture import draw
from pipelines.gates.statistics import Change, change, even, mcnemar, median_ratio, moved
from pipelines.recipe import Gate
from teachers.records import Prompt

N = 200
GATE = Gate(min_gain=0.15, min_gain_lenient=0.10, beat_few_shot=True, alpha=0.01)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    found = share([True] * hits + [False] * (n - hits))
    assert found[:2] == (hits, n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 2**5),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (6, 6, 1.0),
        (10, 0, 2 / 2**10),
    ],
)
def test_mcnemars_exact_test(gained: int, lost: int, p: float) -> None:
    first = [False] * gained + [True] * lost + [True, False] * 10
    second = [True] * gained + [False] * lost + [True, False] * 10
    found = mcnemar(first, second)
    assert found.p == pytest.approx(p)
    assert found[:3] == (gained, lost, gained + lost + 20)
    assert found.difference == pytest.approx((gained - lost) / (gained + lost + 20))


def test_nothing_is_compared_with_nothing() -> None:
    with pytest.raises(ValueError, match="a share of nothing"):
        share([])
    with pytest.raises(ValueError, match="a comparison of nothing"):
        mcnemar([], [])
    with pytest.raises(ValueError, match=r"longer|shorter"):
        mcnemar([True], [True, False])


def test_a_change_of_paired_shares_by_hand() -> None:
    """Agresti and Min 2005: half an item more in each cell, then Wald's interval."""
    before = [True] * 9 + [False] * 3 + [True, False] * 14
    after = [False] * 9 + [True] * 3 + [True, False] * 14
    found = change(before, after)
    assert found.value == pytest.approx(-6 / 40)
    middle, spread = -6 / 42, 1.96 * math.sqrt(13 - 36 / 42) / 42
    assert (found.low, found.high) == pytest.approx((middle - spread, middle + spread))
    assert str(found) == "-15.0% [-30.5%, +2.0%]"


def test_a_change_keeps_a_width_where_nothing_changed() -> None:
    found = change([True, False] * 50, [True, False] * 50)
    assert found.value == 0.0
    assert (found.low, found.high) == pytest.approx((-1.96 / 102, 1.96 / 102))


def test_whether_items_have_moved() -> None:
    before = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]
    # All on one side: one of 2^8 signs, and two-sided.
    shorter = [one - place for place, one in enumerate(before, start=1)]
    assert moved(before, shorter) == pytest.approx(2 / 2**8)
    assert moved(shorter, before) == pytest.approx(2 / 2**8)
    assert moved(before, before) == 1.0
    # The ranks of the falls are 1 and 2, which 3 of 2^8 signs reach or fall short of, twice.
    mixed = [9.0, 18.0, *(one + place for place, one in enumerate(before[2:], start=3))]
    assert moved(before, mixed) == pytest.approx(2 * 5 / 2**8)


def test_one_item_that_moved_among_many_is_no_news() -> None:
    assert moved([5.0] * 30, [5.0] * 29 + [6.0]) > 0.05


def test_medians_are_held_against_each_other() -> None:
    before = [100.0, 200.0, 300.0, 400.0, 500.0] * 20
    # Items are drawn in pairs: what halves each of them halves every median.
    assert median_ratio(before, [one / 2 for one in before]) == (0.5, 0.5, 0.5)
    spread = [float(37 * place % 100) for place in range(100)]
    found = median_ratio(before, spread)
    assert found.low < found.value == 49.5 / 300 < found.high
    assert found == median_ratio(before, spread)
    assert median_ratio(before, before) == (1.0, 1.0, 1.0)
    # An empty answer counts as one token.
    assert median_ratio([0.0] * 5, [3.0] * 5).value == 3.0


def test_the_sign_test() -> None:
    assert even(0, 0) == 1.0
    assert even(6, 6) == 1.0
    assert even(8, 2) == even(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 2**10)


# --- The conditions of preference rounds --------------------------------------------------------


SHIFTED = Gate(length="shorter", alpha=0.01, max_loss=0.05)


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        (moves_length(SHIFTED, Change(0.5, 0.4, 0.6), 0.001), True),
        # the wrong direction, however sure; no direction; not sure
        (moves_length(SHIFTED, Change(1.5, 1.4, 1.6), 0.001), False),
        (moves_length(SHIFTED, Change(1.0, 1.0, 1.0), 0.001), False),
        (moves_length(SHIFTED, Change(0.5, 0.4, 0.6), 0.01), False),
        (moves_length(Gate(length="longer"), Change(1.5, 1.4, 1.6), 0.001), True),
        (moves_length(Gate(length="longer"), Change(0.5, 0.4, 0.6), 0.001), False),
        (is_preferred(SHIFTED, 40, 10), True),
        # the judge finds it worse, surely; as good; better, perhaps
        (is_preferred(SHIFTED, 10, 40), False),
        (is_preferred(SHIFTED, 0, 0), False),
        (is_preferred(SHIFTED, 8, 2), False),
        (keeps_accuracy(SHIFTED, Change(0.0, -0.04, 0.04)), True),
        # accuracy may be lost: by the interval, not by the value
        (keeps_accuracy(SHIFTED, Change(-0.01, -0.05, 0.03)), False),
        (keeps_accuracy(SHIFTED, Change(-0.2, -0.3, -0.1)), False),
    ],
)
def test_a_condition_is_met_or_not(condition: Condition, passed: bool) -> None:
    assert condition.passed == passed


def test_a_condition_says_what_was_found_and_what_was_wanted() -> None:
    assert [
        str(moves_length(SHIFTED, Change(1.5, 1.4, 1.6), 0.001)),
        str(is_preferred(SHIFTED, 10, 40)),
        str(keeps_accuracy(SHIFTED, Change(-0.2, -0.3, -0.1))),
    ] == [
        "length: median 1.50 of the incumbent's, needs shorter, p below 0.01",
        "judge: 10 wins, 40 losses, needs more wins, p below 0.01",
        "accuracy: -20.0% [-30.0%, -10.0%], needs the interval above -5%",
    ]


# --- The decision -------------------------------------------------------------------------------


def measured(strict: int, lenient: int | None = None) -> Evaluation:
    """N items of two tasks, of which the first so many are right."""

    def states(right: int) -> tuple[VerificationState, ...]:
        return tuple("verified" if at < right else "refuted" for at in range(N))

    prompts = tuple(Prompt(task=f"task {at % 2}", question=f"{at}?") for at in range(N))
    return Evaluation(prompts, states(strict), states(strict if lenient is None else lenient))


def test_a_better_student_is_promoted() -> None:
    others = {BASE: measured(20, 40), FEW_SHOT: measured(60)}
    decision = decide(measured(100), others, BASE, GATE)
    assert decision.promoted
    assert decision.reason == "every bar is passed"
    assert decision.items == N
    assert [bar.name for bar in decision.bars] == [
        "strict against base",
        "lenient against base",
        "strict against base few-shot",
        "lenient against base few-shot",
    ]
    assert decision.bars[0].gain == pytest.approx(0.4)
    assert decision.shares[STUDENT]["strict"].hits == 100
    assert decision.by_task["task 0"][STUDENT]["strict"][:2] == (50, 100)


@pytest.mark.parametrize(
    ("student", "base", "few_shot", "missed"),
    [
        # gain too small, in one parser or both
        (measured(40), measured(20), measured(0), {"strict against base"}),
        (measured(60), measured(20, 50), measured(0), {"lenient against base"}),
        (measured(30), measured(30), measured(0), {"strict against base", "lenient against base"}),
        # worse than the base with examples, or as good
        (
            measured(100),
            measured(20),
            measured(120),
            {"strict against base few-shot", "lenient against base few-shot"},
        ),
        (
            measured(100),
            measured(20),
            measured(100, 20),
            {"strict against base few-shot"},
        ),
    ],
)
def test_every_bar_that_is_missed_is_said(
    student: Evaluation, base: Evaluation, few_shot: Evaluation, missed: set[str]
) -> None:
    decision = decide(student, {BASE: base, FEW_SHOT: few_shot}, BASE, GATE)
    assert not decision.promoted
    assert {bar.name for bar in decision.bars if not bar.passed} == missed
    for name in missed:
        assert name in decision.reason


def test_a_gain_that_may_be_luck_is_kept_and_the_reason_is_its_p_value() -> None:
    gate = Gate(min_gain=0.0, beat_few_shot=False, alpha=0.01)
    decision = decide(measured(55), {BASE: measured(50)}, BASE, gate)
    assert not decision.promoted
    assert decision.bars[0].p == pytest.approx(2 / 2**5)
    assert "p = 0.062" in decision.reason
    assert "p below 0.01" in decision.reason
    assert decide(measured(60), {BASE: measured(50)}, BASE, gate).promoted


def test_the_incumbent_may_be_a_champion() -> None:
    others = {BASE: measured(10), FEW_SHOT: measured(20), "champion": measured(95)}
    decision = decide(measured(100), others, "champion", GATE)
    assert not decision.promoted
    assert "strict against champion: +2.5%" in decision.reason
    assert set(decision.shares) == {BASE, FEW_SHOT, "champion", STUDENT}


def test_the_picture_is_drawn_from_the_decisions_json(tmp_path: Path) -> None:
    others = {BASE: measured(0), FEW_SHOT: measured(60)}
    decision = decide(measured(N), others, BASE, GATE)
    report = json.loads(json.dumps(decision.model_dump(mode="json")))
    pictures = [tmp_path / "deep" / name for name in ("with.png", "without.png")]
    draw(report, [(1, 3.0), (2, 2.5), (3, 1.0)], "training loss", pictures[0])
    draw(report, [], "training loss", pictures[1])
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 1000
        assert height > 400
        assert len(content) > 10_000
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


@pytest.mark.parametrize("verdicts", [{}, {"win": 9, "loss": 2, "tie": 1, "undecided": 0}])
def test_the_picture_of_a_shift(tmp_path: Path, verdicts: dict[str, int]) -> None:
    lengths = {"base": [12, 30, 25, 4], STUDENT: [6, 10, 9, 3]}
    report = {"kind": "preference", "promoted": True, "items": 4}
    path = tmp_path / "shift.png"
    draw(
        {**report, "lengths": lengths, "verdicts": verdicts},
        [(1, 0.7), (2, 0.5)],
        "training loss",
        path,
    )
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
