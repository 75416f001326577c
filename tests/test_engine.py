"""The engine's life with the scripted server in vLLM's place: starts, deaths, swaps, no orphans."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from teachers.engine import MAX_RESTARTS, Engine, EngineSettings, sweep
from teachers.errors import EngineDied, EngineError, SyncMismatch
from teachers.process import started_at
from teachers.records import Call, Message, Sampling
from teachers.sync import Probe
from teachers.weights import Weights, fingerprint
from tests.scripted.running import COMMAND

TOKENS = tuple(range(100, 700))
CALL = Call(weights="w", messages=(Message(role="user", content="1 + 1"),), sampling=Sampling())


def make_weights(folder: Path, content: str) -> Weights:
    """A folder that the scripted server takes for a model."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    return Weights(folder, fingerprint(folder))


def make_probe(folder: Path, *weights: Weights) -> Probe:
    """What a trainer would have measured on these weights, kept where the scripted server looks."""
    rows = {
        one.fingerprint: [-((token * (7 + at) + at) % 97) / 20 for token in TOKENS[1:]]
        for at, one in enumerate(weights)
    }
    path = folder / "probe.json"
    path.write_text(json.dumps({"tokens": TOKENS, "logprobs": rows}))
    return Probe.read(path)


def with_engine(
    tmp_path: Path,
    do: Callable[[Engine], Awaitable[None]],
    *flags: str,
    program: tuple[str, ...] = COMMAND,
) -> None:
    """Start an engine on some base weights, use it, stop it; nothing may be left."""
    base = make_weights(tmp_path / "base", "base")
    command = (*program, "--probes", str(tmp_path), *flags)
    settings = EngineSettings(command=command, device="cpu")

    async def run() -> None:
        async with Engine(base, tmp_path / "home", settings=settings) as engine:
            await engine.start()
            await do(engine)

    try:
        asyncio.run(run())
    finally:
        left = processes(tmp_path)
        assert left == []
    assert list((tmp_path / "home" / "engines").iterdir()) == []


def processes(tmp_path: Path) -> list[psutil.Process]:
    """This test's keepers and servers, known by the weights on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != "zombie" and str(tmp_path / "base") in words:
            found.append(process)
    return found


def keeper_and_server(tmp_path: Path) -> tuple[psutil.Process, psutil.Process]:
    keeper, server = sorted(processes(tmp_path), key=lambda p: p.create_time())
    assert "teachers.keeper" in keeper.cmdline()
    return keeper, server


def gone(tmp_path: Path, seconds: float) -> bool:
    """Whether all of this test's processes end within a time."""
    end = time.monotonic() + seconds
    while processes(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    return not processes(tmp_path)


def test_it_starts_answers_and_stops(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        assert len((await engine.client.chat(CALL)).samples) == 1
        assert len(processes(tmp_path)) == 2
        await engine.stop()
        assert processes(tmp_path) == []
        with pytest.raises(EngineError, match="not running"):
            _ = engine.client

    with_engine(tmp_path, use)


def test_only_the_engines_own_key_opens_it(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{engine.port}") as stranger:
            assert (await stranger.get("/v1/models")).status_code == 401

    with_engine(tmp_path, use)


@pytest.mark.fault
@pytest.mark.parametrize("victim", ["keeper", "server"])
def test_after_a_kill_ensure_starts_it_again(tmp_path: Path, victim: str) -> None:
    async def use(engine: Engine) -> None:
        keeper, server = keeper_and_server(tmp_path)
        (keeper if victim == "keeper" else server).kill()
        assert gone(tmp_path, 5)
        await engine.ensure()
        assert len((await engine.client.chat(CALL)).samples) == 1
        again = processes(tmp_path)
        await engine.ensure()
        assert processes(tmp_path) == again

    with_engine(tmp_path, use)


@pytest.mark.fault
def test_what_a_killed_keepers_server_had_started_does_not_stay(tmp_path: Path) -> None:
    # vLLM's core and worker are children of the server, and the kernel does not end those.
    spawn = "import subprocess as s, sys; s.call([sys.executable, '-m', *sys.argv[1:]])"

    async def use(engine: Engine) -> None:
        keeper, _, core = sorted(processes(tmp_path), key=lambda process: process.create_time())
        keeper.kill()
        await asyncio.sleep(0.5)
        assert processes(tmp_path) == [core]
        await engine.ensure()
        assert len(processes(tmp_path)) == 3
        assert core not in processes(tmp_path)

    with_engine(tmp_path, use, program=(sys.executable, "-c", spawn, "tests.scripted"))


@pytest.mark.fault
def test_a_server_that_hangs_is_ended_with_it(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        _, server = keeper_and_server(tmp_path)
        server.suspend()
        began = time.monotonic()
        await engine.stop()
        assert time.monotonic() - began < 5

    with_engine(tmp_path, use)


@pytest.mark.fault
def test_it_gives_up_after_too_many_deaths_and_shows_the_log(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        for _ in range(MAX_RESTARTS):
            keeper_and_server(tmp_path)[1].kill()
            await engine.ensure()
        keeper_and_server(tmp_path)[1].kill()
        with pytest.raises(EngineDied, match="died 4 times") as died:
            await engine.ensure()
        assert "server ended with -9" in died.value.hint

    with_engine(tmp_path, use)


@pytest.mark.fault
def test_work_between_deaths_brings_patience_back(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        for _ in range(MAX_RESTARTS + 1):
            keeper_and_server(tmp_path)[1].kill()
            await engine.ensure()
            engine.worked()

    with_engine(tmp_path, use)


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    program = "import sys; sys.exit('no memory for ' + sys.argv[2])"
    settings = EngineSettings(command=(sys.executable, "-c", program))
    engine = Engine(make_weights(tmp_path / "base", "b"), tmp_path / "home", settings=settings)

    async def start() -> None:
        async with engine:
            with pytest.raises(EngineError, match="ended while starting") as failed:
                await engine.start()
            assert f"no memory for {tmp_path / 'base'}" in failed.value.hint

    asyncio.run(start())


@pytest.mark.fault
@pytest.mark.parametrize("also", ["", "os.fork() or time.sleep(60)"])
def test_nothing_outlives_a_killed_owner(tmp_path: Path, also: str) -> None:
    program = f"""if True:
        import asyncio, time
        from pathlib import Path
        from tests.test_engine import *
        async def main():
            base = make_weights(Path({str(tmp_path / "base")!r}), "base")
            settings = EngineSettings(command=COMMAND, device="cpu")
            engine = Engine(base, Path({str(tmp_path / "home")!r}), settings=settings)
            await engine.start()
            print("up", flush=True)
            {also}
            await asyncio.sleep(60)
        asyncio.run(main())"""
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "up\n"
        assert len(processes(tmp_path)) == 2
        forked = [
            child for child in psutil.Process(owner.pid).children() if child.cmdline()[1] == "-c"
        ]
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    assert len(forked) == (1 if "fork" in also else 0)
    assert gone(tmp_path, 5)
    for child in forked:
        child.kill()


@pytest.mark.fault
def test_sweep_kills_what_a_killed_owner_and_a_killed_keeper_left(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    records = tmp_path / "engines"
    records.mkdir()
    dead = {"owner": 1, "owner_started": 0.0}
    alive = {"owner": os.getpid(), "owner_started": started_at(os.getpid())}
    group = {"group": sleeper.pid, "started": started_at(sleeper.pid)}
    (records / "broken.json").write_text("{")
    for name, record in {
        "ours": {**group, **alive},
        "reused": {**group, **dead, "started": 12.0},
    }.items():
        (records / f"{name}.json").write_text(json.dumps(record))
    sweep(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.3)
    assert [path.name for path in records.iterdir()] == ["ours.json"]
    (records / "ours.json").write_text(json.dumps({**group, **dead}))
    sweep(tmp_path)
    assert sleeper.wait(5) == -signal.SIGKILL
    assert list(records.iterdir()) == []


def test_a_swap_is_proven(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        student = make_weights(tmp_path / "run" / "merged", "student")
        probe = make_probe(tmp_path / "run", engine.weights, student)
        base = engine.weights
        await engine.load(student, probe)
        assert engine.weights == student
        await engine.load(base, probe)
        assert engine.weights == base
        assert await engine.client.logprobs(TOKENS) == list(probe.logprobs[base.fingerprint])

    with_engine(tmp_path, use)


def test_a_server_that_keeps_the_old_weights_is_caught_and_not_trusted_later(
    tmp_path: Path,
) -> None:
    async def use(engine: Engine) -> None:
        student = make_weights(tmp_path / "run" / "merged", "student")
        probe = make_probe(tmp_path / "run", engine.weights, student)
        for _ in range(2):
            with pytest.raises(SyncMismatch, match="does not serve"):
                await engine.load(student, probe)
            assert engine.weights.path == tmp_path / "base"

    with_engine(tmp_path, use, "--stuck")


def test_weights_that_nobody_measured_are_not_proven(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        student = make_weights(tmp_path / "run" / "merged", "student")
        probe = make_probe(tmp_path / "run", engine.weights)
        with pytest.raises(SyncMismatch, match="measured nothing"):
            await engine.load(student, probe)

    with_engine(tmp_path, use)


def test_a_swap_that_fails_is_tried_again_and_not_taken_for_done(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        student = make_weights(tmp_path / "student", "student")
        away = student.path.rename(tmp_path / "away")
        with pytest.raises(Exception, match="no such folder"):
            await engine.load(student)
        away.rename(student.path)
        await engine.load(student)
        models = await engine.client.models()
        assert models.data[0].root == str(student.path)

    with_engine(tmp_path, use)


@pytest.mark.fault
def test_calls_in_flight_end_when_the_server_is_killed(tmp_path: Path) -> None:
    async def use(engine: Engine) -> None:
        calls = [asyncio.create_task(engine.client.chat(CALL)) for _ in range(8)]
        await asyncio.sleep(0.3)
        keeper_and_server(tmp_path)[1].kill()
        began = time.monotonic()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 3
        assert {type(outcome).__name__ for outcome in outcomes} == {"CallUncertain"}

    with_engine(tmp_path, use, "--delay-ms", "30000")
