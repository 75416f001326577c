"""The adaptive limit: never more in flight than allowed, and nobody is passed over."""

import asyncio

import pytest

from teachers.limit import COOLDOWN_S, GOOD_BEFORE_RAISE, AdaptiveLimit


class Clock:
    """A time of our own for the limit's cooldown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("teachers.limit.time.monotonic", lambda: self.now)


def test_it_starts_at_the_most() -> None:
    assert AdaptiveLimit(8).allowed == 8


def test_a_burst_of_overloads_counts_once() -> None:
    limit = AdaptiveLimit(16)
    for _ in range(10):
        limit.overloaded()
    assert limit.allowed == 12


def test_it_shrinks_once_per_cooldown_down_to_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limit, seen = Clock(monkeypatch), AdaptiveLimit(8, least=2), []
    for _ in range(8):
        limit.overloaded()
        seen.append(limit.allowed)
        clock.now += COOLDOWN_S
    assert seen == [6, 4, 3, 2, 2, 2, 2, 2]


def test_it_grows_back_by_one_after_many_good_answers_and_no_further() -> None:
    limit = AdaptiveLimit(4)
    limit.overloaded()
    assert limit.allowed == 3
    for _ in range(GOOD_BEFORE_RAISE - 1):
        limit.succeeded()
    assert limit.allowed == 3
    limit.succeeded()
    assert limit.allowed == 4
    for _ in range(3 * GOOD_BEFORE_RAISE):
        limit.succeeded()
    assert limit.allowed == 4


def test_an_overload_starts_the_count_of_good_answers_again() -> None:
    limit = AdaptiveLimit(4)
    limit.overloaded()
    for _ in range(GOOD_BEFORE_RAISE - 1):
        limit.succeeded()
    limit.overloaded()
    limit.succeeded()
    assert limit.allowed == 3


async def _hold(limit: AdaptiveLimit, order: list[int], name: int) -> None:
    async with limit.slot():
        order.append(name)
        await asyncio.sleep(0)


def test_places_are_given_in_order_of_arrival() -> None:
    async def scenario() -> list[int]:
        limit, order = AdaptiveLimit(3), list[int]()
        async with asyncio.TaskGroup() as group:
            for name in range(50):
                group.create_task(_hold(limit, order, name))
                if name % 7 == 0:
                    await asyncio.sleep(0)
        return order

    assert asyncio.run(scenario()) == list(range(50))


def test_never_more_than_allowed_while_it_shrinks_and_grows() -> None:
    async def scenario() -> None:
        limit, inside = AdaptiveLimit(6), 0

        async def work(number: int) -> None:
            nonlocal inside
            async with limit.slot():
                inside += 1
                # A cut does not throw out who is in already.
                assert inside <= 6
                await asyncio.sleep(0.0005)
                if number == 30:
                    limit.overloaded()
                limit.succeeded()
                inside -= 1

        await asyncio.gather(*(work(number) for number in range(200)))
        assert inside == 0

    asyncio.run(scenario())


def test_cancelled_waiters_lose_no_place() -> None:
    async def scenario() -> int:
        limit, order = AdaptiveLimit(2), list[int]()
        async with limit.slot(), limit.slot():
            tasks = [asyncio.create_task(_hold(limit, order, name)) for name in range(20)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        # Cancelled in the very turn in which they are given the place.
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1), limit.slot(), limit.slot():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), limit.slot():
                    pytest.fail("there was a third place")
            return len(order)

    assert asyncio.run(scenario()) == 9
