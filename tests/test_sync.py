"""The proof of a swap: right weights pass whatever the noise, wrong ones never do."""

import random
from pathlib import Path

import pytest

from teachers.errors import SyncMismatch
from teachers.sync import CLEAR_CHANGE, Probe, agree, prove

TOKENS = 600
# Half-normal noise of this width has the mean that was measured between two engines.
NOISE = 0.045 * 1.25


def row(seed: int) -> list[float]:
    drawn = random.Random(seed)
    return [-drawn.expovariate(0.4) for _ in range(TOKENS - 1)]


def moved(values: list[float], nats: float, seed: int) -> list[float]:
    """Values that differ from others by some nats a token on average."""
    drawn = random.Random(seed)
    return [value + drawn.gauss(0.0, nats * 1.25) for value in values]


def seen(values: list[float], seed: int) -> list[float]:
    """The values as another engine measures them."""
    return moved(values, NOISE / 1.25, seed)


BASE = row(1)


def swap(student: list[float], served: list[float]) -> None:
    probe = Probe(tuple(range(TOKENS)), {"old": tuple(BASE), "new": tuple(student)})
    prove(probe, seen(BASE, 2), served, old="old", new="new")


@pytest.mark.parametrize("nats", [0.06, 0.1, 0.2, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(10, 15))
def test_the_right_weights_pass(nats: float, seed: int) -> None:
    student = moved(BASE, nats, seed)
    swap(student, seen(student, seed + 100))


@pytest.mark.parametrize("nats", [0.06, 0.1, 0.2, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(10, 15))
def test_the_old_weights_are_caught(nats: float, seed: int) -> None:
    with pytest.raises(SyncMismatch):
        swap(moved(BASE, nats, seed), seen(BASE, 2))
    with pytest.raises(SyncMismatch):
        swap(moved(BASE, nats, seed), seen(BASE, 3))


@pytest.mark.parametrize("nats", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(10, 15))
def test_another_students_weights_are_caught(nats: float, seed: int) -> None:
    other = moved(BASE, nats, seed + 50)
    with pytest.raises(SyncMismatch):
        swap(moved(BASE, nats, seed), seen(other, seed))


def test_a_clear_change_of_another_shape_is_caught() -> None:
    # Every value is near enough, and the change still is not the one that was meant.
    student = moved(BASE, 0.9 * CLEAR_CHANGE, 7)
    student[0] -= 50.0
    served = [value + (40.0 if at == 1 else 0.0) for at, value in enumerate(student)]
    with pytest.raises(SyncMismatch, match="not as the trainer did"):
        swap(student, served)


def test_the_same_weights_again_need_no_change() -> None:
    swap(BASE, seen(BASE, 2))


def test_without_the_old_row_only_the_values_count() -> None:
    student = moved(BASE, 0.3, 5)
    probe = Probe(tuple(range(TOKENS)), {"new": tuple(student)})
    prove(probe, [], seen(student, 6), old="old", new="new")
    with pytest.raises(SyncMismatch, match="differ from the trainer's"):
        prove(probe, [], seen(BASE, 6), old="old", new="new")


def test_a_probe_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    path.write_text('{"tokens": [1, 2, 3], "logprobs": {"w": [-1.0, -2.5]}}')
    assert Probe.read(path) == Probe((1, 2, 3), {"w": (-1.0, -2.5)})


@pytest.mark.parametrize("seed", range(20, 40))
def test_a_step_too_small_to_see_is_neither_proven_nor_refused(seed: int) -> None:
    # The trainer's arithmetic is as rough as the server's, so both of its rows are off.
    new = moved(BASE, 0.005, seed)
    wanted, was = seen(new, seed + 1), seen(BASE, seed + 2)
    assert not agree("new", wanted, was, seen(BASE, seed + 3), seen(new, seed + 4))


@pytest.mark.parametrize("seed", range(20, 40))
def test_as_soon_as_it_can_be_seen_it_is_proven_or_refused(seed: int) -> None:
    new = moved(BASE, 0.06, seed)
    wanted, was = seen(new, seed + 1), seen(BASE, seed + 2)
    assert agree("new", wanted, was, seen(BASE, seed + 3), seen(new, seed + 4))
    with pytest.raises(SyncMismatch, match="nearer to the old"):
        agree("new", wanted, was, seen(new, seed + 3), seen(BASE, seed + 4))
