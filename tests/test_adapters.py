"""Students that answer from one server as adapters, with the scripted server in its place."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from pipelines.home import Home
from pipelines.store.connection import connect, transaction
from service.adapters import LEAST_RANK, Adapted, Adapters, adapted
from service.options import Options
from service.seat import BASE, Seat
from teachers.engine import EngineSettings
from teachers.errors import CallRefused, SyncMismatch, WeightsError
from teachers.progress import Silent
from tests.scripted.running import COMMAND
from tests.served import HELLO, Gateway, make_home, serving_process, wait_for

AS_ADAPTERS = Options(served_as="adapter")


class Place:
    """A home, and what its model servers were asked."""

    def __init__(self, root: Path, *flags: str) -> None:
        self.home = make_home(root)
        self.log = root / "requests.jsonl"
        command = (*COMMAND, "--log", str(self.log), "--probes", str(root), *flags)
        settings = EngineSettings(command=command, device="cpu")
        self.adapters = Adapters(self.home.root, settings, Silent(), 20.0)

    def one(self, identity: str) -> Adapted:
        found = adapted(self.home, identity, "gpu", Silent())
        assert found is not None
        return found

    def asked(self, path: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [one for one in lines if one["event"] == "arrived" and one["path"] == path]

    def run(self, act: Callable[[], Awaitable[None]]) -> None:
        """Act, and see that nothing is left running."""
        asyncio.run(_to_its_end(act))
        assert [one for one in psutil.Process().children(recursive=True) if _serves(one)] == []


async def _to_its_end(act: Callable[[], Awaitable[None]]) -> None:
    await act()


def _serves(process: psutil.Process) -> bool:
    return "tests.scripted" in process.cmdline()


async def says(seat: Seat) -> tuple[int, Any]:
    """What a seat answers to a greeting: the status and the body."""
    body = {name: value for name, value in HELLO.items() if name != "model"}
    async with await seat.send("/v1/chat/completions", body, "id") as answer:
        return answer.status, await answer.json()


def told(home: Home, name: str, **changed: Any) -> None:
    """Have a student's training job say something else."""
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        for field, value in changed.items():
            db.execute(
                f"update training_runs set job = json_set(job, '$.{field}', ?) where id = ?",
                (value, f"run {name}"),
            )


def test_students_of_one_base_answer_from_one_server(tmp_path: Path) -> None:
    with serving_process(tmp_path, options=AS_ADAPTERS) as gateway:
        for name, identity, folder in (
            ("two", "two", "two"),
            (BASE, BASE, "base"),
            ("champion", "one", "one"),
            ("two", "two", "two"),
        ):
            answer = gateway.chat(model=name)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-preceptor-checkpoint"] == identity
            served = Path(gateway.events("answered")[-1]["weights"])
            assert folder in (served.name, served.parent.name)
        # The champion's, that of the adapters, and on a CPU the base's.
        assert servers(gateway) == 3


def servers(gateway: Gateway) -> int:
    """How many model servers run: the champion's and others."""
    return sum(_serves(one) and "--model" in one.cmdline() for one in gateway.servers()) // 2


def test_a_dead_server_is_followed_by_another(tmp_path: Path) -> None:
    with serving_process(tmp_path, options=AS_ADAPTERS) as gateway:
        assert gateway.chat(model="two").status_code == 200
        (server,) = (one for one in gateway.servers() if _of_base(one, tmp_path / "base"))
        server.kill()
        wait_for(lambda: gateway.chat(model="two").status_code == 200)
        assert gateway.chat(model="two").headers["x-preceptor-checkpoint"] == "two"


def _of_base(process: psutil.Process, base: Path) -> bool:
    """Whether it is the server, not its keeper, of a base."""
    words = process.cmdline()
    return _serves(process) and "teachers.keeper" not in words and str(base) in words


def test_a_student_that_goes_is_unloaded_and_the_last_one_ends_the_server(tmp_path: Path) -> None:
    place = Place(tmp_path)

    async def act() -> None:
        one, two = [await place.adapters.seat(place.one(name)) for name in ("one", "two")]
        assert one.engine is two.engine
        assert (await says(one))[0] == (await says(two))[0] == 200
        await two.stop()
        assert one.engine.running
        assert (await says(one))[0] == 200
        again = await place.adapters.seat(place.one("two"))
        assert (await says(again))[0] == 200
        for seat in (one, again):
            await seat.stop()
        assert not place.adapters.has_server(place.one("two"))

    place.run(act)
    loaded = [one["adapter"] for one in place.asked("/v1/load_lora_adapter")]
    assert [name.split("-")[0] for name in loaded] == ["one", "two", "two"]
    assert len(set(loaded)) == 3, "no name may be used twice"
    assert [one["adapter"] for one in place.asked("/v1/unload_lora_adapter")] == [
        loaded[1],
        loaded[0],
    ]


def test_whoever_is_not_what_was_trained_is_not_asked(tmp_path: Path) -> None:
    place = Place(tmp_path, "--stuck")  # it takes an adapter, and serves the base under its name

    async def act() -> None:
        with pytest.raises(SyncMismatch):
            await place.adapters.seat(place.one("two"))

    place.run(act)


def test_a_student_that_lost_its_server_says_so_and_its_end_harms_nobody(tmp_path: Path) -> None:
    place = Place(tmp_path)

    async def act() -> None:
        lost = await place.adapters.seat(place.one("two"))
        (keeper,) = (
            one for one in psutil.Process().children() if "teachers.keeper" in one.cmdline()
        )
        keeper.kill()
        keeper.wait()
        with pytest.raises(aiohttp.ClientError):
            await says(lost)
        found = await place.adapters.seat(place.one("two"))
        assert found.engine is not lost.engine
        await lost.stop()
        assert (await says(found))[0] == 200
        await found.stop()

    place.run(act)


def test_a_higher_rank_than_the_server_has_room_for_gets_another(tmp_path: Path) -> None:
    place = Place(tmp_path)
    told(place.home, "two", rank=LEAST_RANK + 1)

    async def act() -> None:
        one, two = [await place.adapters.seat(place.one(name)) for name in ("one", "two")]
        assert one.engine is not two.engine
        assert two.engine.settings.lora_rank == LEAST_RANK + 1
        # What has room for more has room for less.
        third = await place.adapters.seat(place.one(BASE))
        for seat in (one, two, third):
            await seat.stop()

    place.run(act)


def test_an_adapter_that_changed_is_found_out(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (home.runs / "two" / "adapter" / "adapter_model.safetensors").write_text("other")
    with pytest.raises(WeightsError, match="is not what was trained"):
        adapted(home, "two", "gpu", Silent())


def test_one_whose_base_changed_is_found_out(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    told(home, "two", base_weights="0" * 64)
    with pytest.raises(WeightsError, match="is not what two was trained on"):
        adapted(home, "two", "gpu", Silent())


def test_who_was_trained_over_four_bits_is_served_merged(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    told(home, "two", adapter="qlora")
    assert adapted(home, "two", "gpu", Silent()) is None


def test_on_a_cpu_the_base_is_not_asked_beside_adapters(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    assert adapted(home, BASE, "cpu", Silent()) is None
    assert adapted(home, BASE, "gpu", Silent()) is not None


def test_an_adapter_that_the_server_refuses_is_served_merged(tmp_path: Path) -> None:
    with serving_process(tmp_path, "--no-lora", options=AS_ADAPTERS) as gateway:
        assert gateway.chat(model="two").headers["x-preceptor-checkpoint"] == "two"
        merged = gateway.home.runs / "two" / "merged"
        assert gateway.events("answered")[-1]["weights"] == str(merged)
    assert "two gets a server of its own" in (tmp_path / "serve.log").read_text()


def test_a_refused_adapter_leaves_no_server_behind(tmp_path: Path) -> None:
    place = Place(tmp_path, "--no-lora")

    async def act() -> None:
        with pytest.raises(CallRefused):
            await place.adapters.seat(place.one("two"))

    place.run(act)


@pytest.mark.parametrize(
    ("served_as", "device", "shared"),
    [
        ("auto", "cpu", False),
        ("auto", "gpu", True),
        ("adapter", "cpu", True),
        ("merged", "gpu", False),
    ],
)
def test_students_share_a_server_on_a_gpu(served_as: Any, device: str, *, shared: bool) -> None:
    assert Options(served_as=served_as).as_adapters(device) is shared
