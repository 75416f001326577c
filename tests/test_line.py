"""The line in front of a model server."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.line import Full, Line


def played(play: Callable[[], Awaitable[None]]) -> None:
    async def within_a_second() -> None:
        async with asyncio.timeout(1):
            await play()

    asyncio.run(within_a_second())


async def waits(line: Line, caller: str, order: list[str]) -> None:
    await line.enter(caller)
    order.append(caller)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_callers_take_turns_however_much_one_of_them_asks() -> None:
    async def play() -> None:
        line, order = Line(1), list[str]()
        await line.enter("busy")
        tasks = [asyncio.create_task(waits(line, "busy", order)) for _ in range(3)]
        await settled()
        tasks += [asyncio.create_task(waits(line, "rare", order))]
        await settled()
        for _ in tasks:
            line.leave()
            await settled()
        assert order == ["busy", "rare", "busy", "busy"]

    played(play)


def test_no_more_than_the_places_are_inside() -> None:
    async def play() -> None:
        line, order = Line(2), list[str]()
        tasks = [asyncio.create_task(waits(line, str(at), order)) for at in range(5)]
        await settled()
        assert order == ["0", "1"]
        assert line.waiting == 3
        line.leave()
        await settled()
        assert order == ["0", "1", "2"]
        for task in tasks:
            task.cancel()

    played(play)


def test_who_would_wait_in_a_line_that_is_too_long_is_told() -> None:
    async def play() -> None:
        line, order = Line(1, waiting=1), list[str]()
        await line.enter("a")
        tasks = [asyncio.create_task(waits(line, name, order)) for name in "abcd"]
        await settled()
        with pytest.raises(Full):
            await line.enter("a")
        with pytest.raises(Full):
            await line.enter("somebody new")
        for task in tasks:
            task.cancel()

    played(play)


def test_a_shut_line_lets_nobody_in_and_waits_for_those_inside() -> None:
    async def play() -> None:
        line, order = Line(4), list[str]()
        await line.enter("inside")

        async def change() -> None:
            async with line.shut(empty=True):
                order.append("changed")

        changing = asyncio.create_task(change())
        await settled()
        late = asyncio.create_task(waits(line, "late", order))
        await settled()
        assert order == []
        line.leave()
        await asyncio.gather(changing, late)
        assert order == ["changed", "late"]

    played(play)


def test_a_change_to_a_dead_server_waits_for_nobody() -> None:
    async def play() -> None:
        line = Line(1)
        await line.enter("its answer never comes")
        async with line.shut(empty=False):
            pass
        assert line.busy

    played(play)


@pytest.mark.parametrize("let_in_first", [False, True])
def test_who_gives_up_leaves_no_place_taken(let_in_first: bool) -> None:
    async def play() -> None:
        line, order = Line(1), list[str]()
        await line.enter("inside")
        gone = asyncio.create_task(waits(line, "gone", order))
        await settled()
        if let_in_first:
            line.leave()
            gone.cancel()
        else:
            gone.cancel()
            await settled()
            line.leave()
        await settled()
        assert not line.busy
        assert order == []
        await line.enter("next")

    played(play)
