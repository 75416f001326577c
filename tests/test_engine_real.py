"""The engine with the real vLLM and the packaged model: answers, proven swaps, deaths, no orphans.

All of it happens to one engine, because a start takes up to a minute on two cores. Its owner is a
child process (`python -m tests.test_engine_real BASE RUN HOME`), which is killed at the end.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from teachers.engine import Engine, EngineSettings
from teachers.errors import SyncMismatch
from teachers.records import Call, Message, Sampling
from teachers.sync import MIN_TOKENS, Probe, mean_difference
from teachers.weights import Weights, checked, child_environment

# Two different students, both further from the base than rounding, and neither broken.
STUDENT, OTHER = "0.05", "0.051"
GONE_S = 5.0


@pytest.fixture(scope="module")
def run(packaged: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a training run leaves it: merged copies and a probe."""
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "tests.nudge", str(packaged.path), str(folder), STUDENT, OTHER]
    subprocess.run(command, env=child_environment(), check=True)
    return folder


@pytest.mark.engine
@pytest.mark.fault
def test_a_server_answers_swaps_comes_back_and_does_not_outlive_its_owner(
    packaged: Weights, run: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.test_engine_real", str(packaged.path), str(run)]
    owner = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    said = ""
    try:
        while (line := owner.stdout.readline()) and line != "waiting\n":
            said += line
        assert line == "waiting\n", f"{said}exit status {owner.wait()}"
        print(said)
        (record,) = (tmp_path / "engines").glob("*.json")
        session = int(record.stem)
        # Keeper, server, engine core, worker: whoever is missing here is not looked for below.
        assert len(members(session)) >= 4
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    end = time.monotonic() + GONE_S
    while members(session) and time.monotonic() < end:
        time.sleep(0.1)
    assert members(session) == []


def members(session: int) -> list[str]:
    """Every process of a session that still runs, by name."""
    return [p.name() for p in psutil.process_iter() if _session_of(p) == session]


def _session_of(process: psutil.Process) -> int | None:
    try:
        # After the name in brackets: state, parent, group, session.
        state, _, _, session = (
            Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[:4]
        )
    except OSError:
        return None
    return None if state == "Z" else int(session)


async def live(base: Weights, run: Path, home: Path) -> None:
    """What the owner does: everything a round does to an engine, and then it waits."""
    settings = EngineSettings(device="cpu", max_num_seqs=8, kv_cache_gib=1)
    async with Engine(base, home, settings=settings) as engine:
        await engine.start()
        await answers(engine)
        await swaps(engine, run)
        await comes_back(engine, run)
        print("waiting", flush=True)
        await asyncio.sleep(600)


async def answers(engine: Engine) -> None:
    message = Message(role="user", content="What is 2 + 3?")
    sampling = Sampling(n=3, max_tokens=24)
    call = Call(weights=engine.weights.fingerprint, messages=(message,), sampling=sampling)
    completion = await engine.client.chat(call)
    assert len({sample.text for sample in completion.samples}) == 3
    assert completion.usage.prompt_tokens > 5
    assert 3 <= completion.usage.completion_tokens <= 3 * 24


async def swaps(engine: Engine, run: Path) -> None:
    probe = Probe.read(run / "probe.json")
    assert len(probe.tokens) >= MIN_TOKENS
    base, student, other = engine.weights, *(checked(run / f"merged-{s}") for s in (STUDENT, OTHER))
    await agrees(engine, probe)
    for weights in (student, other, base):
        await engine.load(weights, probe)
        await agrees(engine, probe)
    # The server is told another student's folder, and then its own, under the student's name.
    for lie in (other.path, base.path):
        try:
            await engine.load(Weights(lie, student.fingerprint), probe)
        except SyncMismatch as caught:
            print(f"caught: {caught.message}")
        else:
            raise AssertionError(f"{lie} was taken for {student.path}")


async def comes_back(engine: Engine, run: Path) -> None:
    """The server is killed after a swap; the next one serves the same weights."""
    probe = Probe.read(run / "probe.json")
    await engine.load(checked(run / f"merged-{STUDENT}"), probe)
    (keeper,) = psutil.Process().children()
    (server,) = keeper.children()
    server.kill()
    await engine.ensure()
    await agrees(engine, probe)


async def agrees(engine: Engine, probe: Probe) -> None:
    """The engine's values are the trainer's, and nearer than the proof asks for."""
    served = await engine.client.logprobs(probe.tokens)
    off = mean_difference(served, probe.logprobs[engine.weights.fingerprint])
    print(f"{engine.weights.path.name}: {off:.4f} nats a token off")
    assert off < 0.07


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:]]
    asyncio.run(live(checked(folders[0]), *folders[1:]))
