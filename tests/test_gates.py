"""The statistics against published and hand-computed figures, the decision, and its picture."""

import json
import struct
from pathlib import Path

import pytest

from judges.records import VerificationState
from judges.share import share
from pipelines.gates.decision import BASE, FEW_SHOT, STUDENT, decide
from pipelines.gates.evaluation import Evaluation
from pipelines.gates.picture import draw
from pipelines.gates.statistics import mcnemar
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
    draw(report, [(1, 3.0), (2, 2.5), (3, 1.0)], pictures[0])
    draw(report, [], pictures[1])
    for path in pictures:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 1000
        assert height > 400
        assert len(content) > 10_000
    assert pictures[0].read_bytes() != pictures[1].read_bytes()
