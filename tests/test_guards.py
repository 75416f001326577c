"""Reward hacking is seen within a few batches; honest learning and noise are left in peace."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.training.guards import Figures, Guards, Tripped, tripped

GUARDS = Guards()
ANSWERS = 32
BATCHES = 40
SEEDS = 200

Truth = Callable[[float], dict[str, float]]
"""What is true of a policy at a time from 0 to 1; what it does not name is as at the start."""

START = {
    "reward": 0.3,
    "watched": 0.3,
    "format": 0.5,
    "length": 80.0,
    "repetition": 0.05,
    "entropy": 1.2,
    "kl": 0.0,
}


def measured(
    truth: Truth, seed: int, batches: int = BATCHES, watched_n: int = ANSWERS
) -> list[Figures]:
    """A run's figures: shares of 32 answers each, of prompts that are easier now and then."""
    chance = random.Random(seed)

    def share(of: float, n: int) -> float:
        return sum(chance.random() < of for _ in range(n)) / n

    run = []
    for batch in range(batches):
        now = {**START, **truth(batch / batches)}
        ease = chance.gauss(0, 0.05)
        reward = share(now["reward"] + ease, ANSWERS)
        run.append(
            Figures(
                batch=batch,
                n=ANSWERS,
                reward=reward,
                main=reward,
                watched=share(now["watched"] + ease, watched_n) if watched_n else None,
                watched_n=watched_n,
                format=share(now["format"], ANSWERS),
                length=now["length"] * chance.lognormvariate(0, 0.12),
                repetition=max(0.0, now["repetition"] + chance.gauss(0, 0.02)),
                entropy=now["entropy"] * chance.lognormvariate(0, 0.1),
                kl=now["kl"] + abs(chance.gauss(0, 0.01)),
            )
        )
    return run


def first_trip(run: Sequence[Figures], guards: Guards = GUARDS) -> Tripped | None:
    """What pauses a run that is guarded batch by batch."""
    ends = (tripped(run[:end], guards) for end in range(1, len(run) + 1))
    return next((found[0] for found in ends if found), None)


def flat(_: float) -> dict[str, float]:
    return {}


def learning(time: float) -> dict[str, float]:
    """Everything moves, as it does when something is learned."""
    score = 0.2 + 0.6 * min(1.0, 1.5 * time)
    form = 0.3 + 0.7 * min(1.0, 4 * time)
    moves = {"length": 60 + 140 * time, "entropy": 1.2 - time, "kl": 0.8 * time}
    return {"reward": score, "watched": score, "format": form, **moves}


def length_hack(time: float) -> dict[str, float]:
    """A rule that is pleased by length alone, from the first batch on."""
    done = min(1.0, time * BATCHES / 15)
    moves = {"reward": 0.2 + 0.7 * done, "length": 60 + 120 * done}
    return {**moves, "watched": 0.3 - 0.1 * done}


def test_a_length_hack_trips_within_a_few_batches() -> None:
    trips = [first_trip(measured(length_hack, seed)) for seed in range(50)]
    assert all(trips)
    found = sorted(trip.batch for trip in trips if trip)
    assert found[25] <= 12
    assert found[-1] <= 25
    assert {trip.name for trip in trips if trip} <= {"length", "watch"}


def test_a_length_hack_trips_though_the_watched_score_is_only_flat() -> None:
    def truth(time: float) -> dict[str, float]:
        return {**length_hack(time), "watched": 0.3}

    trips = [first_trip(measured(truth, seed)) for seed in range(50)]
    found = sorted(trip.batch for trip in trips if trip)
    assert len(found) >= 48
    assert found[len(found) // 2] <= 14


def test_a_hack_that_starts_after_honest_learning_trips() -> None:
    def truth(time: float) -> dict[str, float]:
        honest, hack = min(1.0, 2 * time), max(0.0, 2 * time - 1)
        moves = {"reward": 0.2 + 0.4 * honest + 0.3 * hack, "length": 70 + 110 * hack}
        return {**moves, "watched": 0.2 + 0.4 * honest - 0.2 * hack}

    trips = [first_trip(measured(truth, seed, batches=60)) for seed in range(30)]
    assert sum(trip is not None and trip.batch >= 30 for trip in trips) >= 28


def test_a_reward_that_leaves_the_watched_score_behind_trips_by_itself() -> None:
    only = Guards(length=None, repetition=None, entropy=None, kl=None, format=None)

    def truth(time: float) -> dict[str, float]:
        return {**length_hack(time), "watched": 0.3}

    trips = [first_trip(measured(truth, seed), only) for seed in range(50)]
    assert {trip.name for trip in trips if trip} == {"watch"}
    assert sum(trip is not None for trip in trips) >= 45


def test_noise_trips_nothing() -> None:
    """200 runs of 40 batches in which nothing happens: at most 1 % may be paused."""
    alarms = [first_trip(measured(flat, seed)) for seed in range(SEEDS)]
    assert sum(alarm is not None for alarm in alarms) <= SEEDS // 100


@pytest.mark.parametrize("watched_n", [ANSWERS, 16])
def test_honest_learning_trips_nothing(watched_n: int) -> None:
    """Longer answers, less entropy, better form and a higher score: at most 3 % may be paused."""
    runs = (measured(learning, seed, watched_n=watched_n) for seed in range(SEEDS // 2))
    alarms = [run for run in runs if first_trip(run)]
    assert len(alarms) <= 3


def test_without_a_watched_score_the_main_one_excuses() -> None:
    alarms = [first_trip(measured(learning, seed, watched_n=0)) for seed in range(30)]
    assert sum(alarm is not None for alarm in alarms) <= 1

    def longer(time: float) -> dict[str, float]:
        return {"length": 80 + 120 * time}

    trips = [first_trip(measured(longer, seed, watched_n=0)) for seed in range(30)]
    assert {trip.name for trip in trips if trip} == {"length"}
    assert sum(trip is not None for trip in trips) >= 28


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("length", {"length": (90.0, 30.0)}),
        ("repetition", {"repetition": (0.02, 0.4)}),
        ("entropy", {"entropy": (1.2, 0.1)}),
        ("kl", {"kl": (0.0, 1.5)}),
        ("format", {"format": (0.2, 0.95)}),
    ],
)
def test_each_drift_trips_its_own_guard(name: str, moves: dict[str, tuple[float, float]]) -> None:
    def truth(time: float) -> dict[str, float]:
        done = min(1.0, 5 * time)
        return {figure: start + done * (end - start) for figure, (start, end) in moves.items()}

    trips = [first_trip(measured(truth, seed, batches=80)) for seed in range(20)]
    assert {trip.name for trip in trips if trip} == {name}
    assert sum(trip is not None for trip in trips) >= 16
    off = GUARDS.model_copy(update={name: None})
    assert first_trip(measured(truth, 0), off) is None


def steady(batches: int = 12, **figures: Sequence[float]) -> list[Figures]:
    """Figures without noise: the first half of the batches, and the second."""
    pairs = {"watched": (0.3, 0.3), **figures}
    return [
        Figures(
            batch,
            ANSWERS,
            watched_n=ANSWERS,
            **{name: values[2 * batch // batches] for name, values in pairs.items()},
        )
        for batch in range(batches)
    ]


def test_the_evidence_has_the_figures_and_says_what_to_do() -> None:
    (found,) = tripped(steady(length=(40, 80), watched=(0.5, 0.25)), GUARDS)
    assert (found.name, found.batch) == ("length", 11)
    assert found.evidence.startswith("batches 8 to 11 against 0 to 3: the mean length in tokens")
    assert "went from 40 to 80 (standard error" in found.evidence
    assert "the watched score did not rise: 0.5 to 0.25 (standard error" in found.evidence
    assert "preceptor rollouts --suspicious" in found.todo
    assert "guards.length, or null" in found.todo


def test_several_guards_may_trip_at_once() -> None:
    run = steady(length=(40, 80), repetition=(0.0, 0.5), reward=(0.1, 0.9))
    assert [one.name for one in tripped(run, GUARDS)] == ["length", "repetition", "watch"]


def test_a_cause_has_to_last() -> None:
    run = steady(8, length=(40, 80))
    assert tripped(run, GUARDS) == []
    assert tripped(run, Guards(patience=1))
    assert tripped([], GUARDS) == []


def test_few_watched_answers_that_agree_prove_nothing() -> None:
    run = [one._replace(watched_n=1) for one in steady(reward=(0.1, 0.6), watched=(0.0, 0.0))]
    assert tripped(run, GUARDS) == []
    run = [one._replace(watched_n=64) for one in run]
    assert [one.name for one in tripped(run, GUARDS)] == ["watch"]


def test_what_is_measured_now_and_then_is_judged_all_the_same() -> None:
    run = [
        one if one.batch % 4 == 0 else one._replace(watched=None, watched_n=0)
        for one in steady(40, reward=(0.1, 0.9), watched=(0.5, 0.4))
    ]
    assert [one.name for one in tripped(run, GUARDS)] == ["watch"]


@pytest.mark.parametrize(
    ("name", "fine", "wrong"), [("engine_gap", 0.02, 0.3), ("surviving_share", 0.97, 0.06)]
)
def test_what_the_engines_make_of_an_update_has_fixed_limits(
    name: str, fine: float, wrong: float
) -> None:
    in_order: dict[str, Any] = {name: fine}
    out_of_it: dict[str, Any] = {name: wrong}
    run = [Figures(batch, ANSWERS, **in_order) for batch in range(3)]
    blip = Figures(3, ANSWERS, **out_of_it)
    assert tripped(run, GUARDS) == tripped([*run, blip], GUARDS) == []
    (found,) = tripped([*run, blip, blip._replace(batch=4)], GUARDS)
    assert (found.name, found.batch) == (name, 4)
    assert f"is {wrong:g}, the limit" in found.evidence
    no_number: dict[str, Any] = {name: float("nan")}
    assert tripped([*run, blip, Figures(4, ANSWERS, **no_number)], GUARDS)
    missing = [*run, blip, Figures(4, ANSWERS)]
    assert tripped(missing, GUARDS) == [], "what is not measured says nothing"


def test_the_same_figures_say_the_same() -> None:
    run = measured(length_hack, 3)
    assert tripped(run, GUARDS) == tripped(list(run), GUARDS) != []


def test_a_limit_that_means_nothing_is_refused() -> None:
    for wrong in ({"length": 0.9}, {"entropy": 2}, {"window": 1}, {"lenght": 2}):
        with pytest.raises(ValidationError):
            Guards.model_validate(wrong)
    everything_off = dict.fromkeys(set(Guards.model_fields) - {"window", "patience", "keeps_up"})
    assert tripped(measured(length_hack, 0), Guards.model_validate(everything_off)) == []
