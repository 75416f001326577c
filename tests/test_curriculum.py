"""Which prompts are drawn: around half right, never the solved, and the same ones after a kill."""

from collections import Counter
from collections.abc import Sequence

import pytest

from pipelines.training.curriculum import (
    Curriculum,
    Group,
    Pacing,
    Standing,
    Task,
    draw,
    standing,
    weight,
)

PACING = Pacing()


def many(count: int, tries: int = 0, hits: int = 0, name: str = "p") -> list[Task]:
    return [Task(f"{name}{number}", tries, hits) for number in range(count)]


@pytest.mark.parametrize(
    ("tries", "hits", "rounds_ago", "found"),
    [
        (0, 0, 0, "open"),
        (7, 7, 0, "open"),  # not a whole group yet
        (8, 8, 0, "retired"),
        (8, 8, 9, "retired"),  # what is solved stays solved
        (10, 9, 0, "open"),  # 0.9 is not above 0.9
        (11, 10, 0, "retired"),
        (15, 0, 0, "open"),
        (16, 0, 0, "parked"),
        (16, 0, 2, "parked"),
        (16, 0, 3, "open"),  # two rounds sat out: tried again
        (400, 1, 0, "open"),
    ],
)
def test_standing(tries: int, hits: int, rounds_ago: int, found: Standing) -> None:
    assert standing(Task("p", tries, hits, rounds_ago), PACING) == found


def test_the_limits_can_be_set() -> None:
    pacing = Pacing(retire_above=0.5, retire_after=2, park_after=2, park_rounds=0)
    assert standing(Task("p", 4, 3), pacing) == "retired"
    assert standing(Task("p", 2, 0), pacing) == "parked"
    assert standing(Task("p", 2, 0, 1), pacing) == "open"


def test_half_right_weighs_most_and_an_untried_prompt_a_little_less() -> None:
    weights = [weight(Task("p", 16, hits)) for hits in range(17)]
    assert weights == pytest.approx(weights[::-1])
    assert max(weights) == weights[8]
    assert weights[:9] == sorted(weights[:9])
    untried = weight(Task("p"))
    assert untried == pytest.approx(1 / 6), "the mean of p(1 - p) for p anywhere from 0 to 1"
    assert weights[2] < untried < weights[8]


def test_prompts_are_drawn_in_proportion_to_their_weight() -> None:
    tasks = [Task("even", 16, 8), Task("hard", 16, 1)]
    firsts = Counter(draw(tasks, 1, (5, n), PACING)[0] for n in range(4000))
    wanted = weight(tasks[0]) / (weight(tasks[0]) + weight(tasks[1]))
    # Four standard errors of a share of 4000.
    assert firsts["even"] / 4000 == pytest.approx(wanted, abs=4 * (0.25 / 4000) ** 0.5)


def test_a_draw_has_no_prompt_twice_and_does_not_mind_the_order() -> None:
    tasks = many(50, 8, 4)
    found = draw(tasks, 20, (1, 2, 3), PACING)
    assert len(set(found)) == 20
    assert draw(tasks[::-1], 20, (1, 2, 3), PACING) == found
    assert draw(tasks, 10, (1, 2, 3), PACING) == found[:10]


def test_every_number_of_the_key_makes_another_draw() -> None:
    tasks = many(50)
    keys = [(1, 2, 3), (9, 2, 3), (1, 9, 3), (1, 2, 9)]
    assert len({draw(tasks, 5, key, PACING) for key in keys}) == 4


def test_solved_and_hopeless_prompts_come_last() -> None:
    tasks = [*many(3, 8, 4), *many(2, 8, 8, "solved"), *many(2, 16, 0, "hopeless")]
    found = draw(tasks, 99, (0,), PACING)
    assert set(found[:3]) == {"p0", "p1", "p2"}
    assert set(found) == {task.prompt_id for task in tasks}
    assert draw(tasks, 4, (0,), PACING) == found[:4]
    assert draw([], 4, (0,), PACING) == ()


def test_a_further_draw_of_a_batch_leaves_out_what_it_had() -> None:
    curriculum = Curriculum(many(10), seed=1)
    first = curriculum.draw(6, batch=0)
    second = curriculum.draw(6, batch=0, number=1, but=first)
    assert len(second) == 4
    assert not set(first) & set(second)


def test_a_prompt_is_retired_and_parked_while_the_run_goes_on() -> None:
    curriculum = Curriculum(many(4), seed=1)
    curriculum.update([Group("p0", 8, 8), Group("p1", 8, 0)])
    assert curriculum.standings() == {"open": 3, "retired": 1, "parked": 0}
    curriculum.update([Group("p1", 8, 0), Group("p2", 0, 0)])
    assert curriculum.standings() == {"open": 2, "retired": 1, "parked": 1}
    assert set(curriculum.draw(2, batch=5)) == {"p2", "p3"}


def test_a_parked_prompt_that_is_tried_again_in_vain_is_parked_at_once() -> None:
    curriculum = Curriculum([Task("p", 16, 0, rounds_ago=3)], seed=1)
    assert curriculum.standings()["open"] == 1
    curriculum.update([Group("p", 8, 0)])
    assert curriculum.standings()["parked"] == 1


def test_and_one_that_is_got_right_is_open() -> None:
    curriculum = Curriculum([Task("p", 16, 0)], seed=1)
    curriculum.update([Group("p", 8, 1)])
    assert curriculum.standings()["open"] == 1


def test_old_tries_are_forgotten() -> None:
    curriculum = Curriculum([Task("p", 32, 0, rounds_ago=9)], seed=1)
    for _ in range(4):
        assert curriculum.standings()["retired"] == 0
        curriculum.update([Group("p", 8, 8)])
    assert curriculum.standings()["retired"] == 1


def test_a_prompt_of_another_run_is_refused() -> None:
    with pytest.raises(KeyError):
        Curriculum(many(1), seed=1).update([Group("strange", 8, 4)])


def played(batches: Sequence[int], curriculum: Curriculum) -> list[tuple[str, ...]]:
    """Draws and updates of some batches, as a student does that gets even prompts right."""
    found = []
    for batch in batches:
        drawn = curriculum.draw(4, batch)
        found.append(drawn)
        curriculum.update(Group(prompt, 8, (int(prompt[1:]) * 3 + batch) % 9) for prompt in drawn)
    return found


def test_a_run_that_replays_its_updates_draws_what_it_would_have_drawn() -> None:
    straight = played(range(30), Curriculum(many(40), seed=7))
    again = Curriculum(many(40)[::-1], seed=7)
    assert played(range(17), again) == straight[:17]
    resumed = Curriculum(many(40), seed=7)
    for batch, drawn in enumerate(straight[:17]):  # nothing is drawn, only counted
        resumed.update(Group(prompt, 8, (int(prompt[1:]) * 3 + batch) % 9) for prompt in drawn)
    assert played(range(17, 30), resumed) == straight[17:]
    assert played(range(30), Curriculum(many(40), seed=8)) != straight
