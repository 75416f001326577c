"""The best of several answers: which they are, and what choosing among more of them comes to."""

from itertools import combinations
from statistics import fmean

import pytest

from pipelines import overoptimised
from pipelines.overoptimised import curve, mean_best_of
from pipelines.rating import Rated, best_of
from pipelines.store.answers import StoredAnswer


def _rated(sample: str, prompt: str, score: float, ended: str = "stop") -> Rated:
    return Rated(StoredAnswer(sample, prompt, "r", sample, None, ended), (), score)


ANSWERS = [
    _rated("a", "p", 1.0),
    _rated("b", "p", 3.0, "length"),
    _rated("c", "p", 2.0),
    _rated("d", "p", 2.5),
    _rated("e", "q", -1.0),
]


@pytest.mark.parametrize(
    ("n", "at_least", "chosen"),
    [(1, None, "ae"), (2, None, "ce"), (9, None, "de"), (9, 0.0, "d"), (1, 1.5, "")],
)
def test_the_best_that_came_to_its_end(n: int, at_least: float | None, chosen: str) -> None:
    found = best_of(ANSWERS, n, at_least)
    assert "".join(one.answer.sample_id for one in found) == chosen


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_mean_of_the_best_is_that_over_every_choice(n: int) -> None:
    proxy, gold = [0.3, -1.0, 2.0, 0.9, 1.1], [1.0, 0.0, 0.25, 1.0, 0.5]
    every = [max(chosen, key=lambda at: proxy[at]) for chosen in combinations(range(len(proxy)), n)]
    assert mean_best_of(gold, proxy, n) == pytest.approx(fmean(gold[at] for at in every))
    assert mean_best_of(proxy, proxy, n) == pytest.approx(fmean(proxy[at] for at in every))


def test_more_answers_than_there_are_cannot_be_chosen_from() -> None:
    with pytest.raises(ValueError, match="2 answers are fewer than 3"):
        mean_best_of([1.0, 2.0], [1.0, 2.0], 3)


def test_the_curve_shows_what_exploiting_comes_to() -> None:
    # The answer that scores most is the worst of all.
    exploited = [overoptimised.Rated(float(at), gold) for at, gold in enumerate([0.2, 0.6, 1.0, 0])]
    short = exploited[:2]
    points = curve([exploited, exploited, short, []])
    assert [point.n for point in points] == [1, 2, 4]
    assert [point.proxy for point in points] == sorted(point.proxy for point in points)
    assert points[0].gold == pytest.approx(0.45)
    assert points[1].gold == pytest.approx((1 * 0.6 + 2 * 1.0 + 3 * 0) / 6)
    assert points[2].gold == 0
    assert curve([[], short[:1]]) == []
