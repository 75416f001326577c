"""What a reward model has to show on held-out pairs, worked by hand."""

import math
from collections.abc import Sequence

import pytest

from pipelines.appraisal import HeldOut, appraised
from pipelines.store.pairs import Authority, StoredPair

SCORES = [-1.0, 0.0, 1.0, 2.0]


def held_out(
    chosen: float,
    lengths: tuple[int, int] = (50, 50),
    source: Authority = "judge",
    principle: str | None = "short",
) -> HeldOut:
    """A pair whose rejected side scores 0."""
    long, short = ("x" * length for length in lengths)
    return HeldOut(StoredPair("p", "c", long, "r", short, source, 0.9, principle), chosen, 0.0)


def told(right: Sequence[float], shorter: Sequence[float] = ()) -> list[str]:
    """The faults; pairs whose chosen side is longer, then those whose chosen side is shorter."""
    pairs = [held_out(lead, (60, 40)) for lead in right]
    pairs += [held_out(lead, (40, 60)) for lead in shorter]
    return appraised(pairs, SCORES).faults(0.01)


def test_its_figures() -> None:
    pairs = [
        held_out(math.log(3), (60, 40)),
        held_out(math.log(3), (40, 60), "human", None),
        held_out(math.log(3), (50, 52), "human"),
        held_out(-math.log(3), (60, 40)),
    ]
    found = appraised(pairs, SCORES)
    assert (found.accuracy.hits, found.accuracy.n) == (3, 4)
    assert found.longer.hits == 2
    # The second and the third against the fourth.
    assert (found.gained, found.lost) == (2, 1)
    # It was sure at 75 % of each, and right three times of four.
    assert found.calibration_error == pytest.approx(0.0)
    by = {name: {one: n[:2] for one, n in groups.items()} for name, groups in found.by.items()}
    assert by == {
        "source": {"human": (2, 2), "judge": (1, 2)},
        "principle": {"none": (1, 1), "short": (2, 3)},
        "length": {"about the same": (1, 1), "chosen longer": (1, 2), "chosen shorter": (1, 1)},
    }
    assert (found.norm.mean, found.norm.samples) == (0.5, 4)
    assert found.norm.deviation == pytest.approx(math.sqrt(1.25))
    assert found.norm.apply(0.5) == 0


def test_one_that_is_right_whatever_the_length_passes() -> None:
    assert told([1.0] * 20, [1.0] * 20) == []


def test_one_that_takes_the_longer_answer_does_not() -> None:
    (fault,) = told([1.0] * 40, [-1.0] * 10)
    assert fault == (
        "always the longer answer is right on 80%, and its own 80% are not clearly more"
        " (p = 1, and it takes 0.01)"
    )


def test_one_that_is_worse_than_length_does_not_whatever_p_is() -> None:
    (fault,) = told([1.0] * 40 + [-1.0] * 15)
    assert fault.startswith("always the longer answer is right on 100%, and its own 73%")


def test_a_guess_does_not_pass() -> None:
    faults = told([1.0, -1.0] * 10, [1.0, -1.0] * 10)
    assert faults[0] == "its interval begins at 35%, not above 50%"


def test_one_that_scores_everything_alike_does_not() -> None:
    found = appraised([held_out(1.0, (40, 60))] * 40, [1.0, 1.0])
    assert found.faults(0.01) == ["it scores all answers alike"]


def test_equal_scores_are_not_right() -> None:
    assert appraised([held_out(0.0)] * 4, SCORES).accuracy.hits == 0


def test_leads_without_measure_have_a_probability() -> None:
    pairs = [held_out(1e6, (40, 60)), held_out(-1e6, (40, 60))]
    assert appraised(pairs, SCORES).calibration_error == pytest.approx(0.5, abs=1e-3)
