"""Two students as adapters on the real vLLM with the packaged model, as on a GPU.

All of it happens to one server, because a start takes up to a minute on two cores.
"""

import asyncio
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest

from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from pipelines.store.connection import connect, transaction
from pipelines.training.job import RunFolder
from service.adapters import Adapted, Adapters, adapted
from service.seat import Seat
from teachers.engine import EngineSettings
from teachers.errors import SyncMismatch
from teachers.files import sha256_of
from teachers.progress import Silent
from teachers.weights import Weights, child_environment, fingerprint
from tests.served import add_student

STUDENTS = {"near": "0.03", "far": "0.031"}

pytestmark = [pytest.mark.engine, pytest.mark.fault]


@pytest.fixture(scope="module")
def home(packaged: Weights, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    for name, scale in STUDENTS.items():
        run = RunFolder(home.runs / name)
        run.root.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.adapter", str(packaged.path), str(run.root), scale]
        subprocess.run(command, env=child_environment(), check=True)
        _store(home, name, run)
    return home


def _store(home: Home, name: str, run: RunFolder) -> None:
    sha256 = sha256_of(run.adapter / "adapter_model.safetensors")
    made = Checkpoint(name, name, 1, run.adapter, sha256, run.merged, fingerprint(run.merged))
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        add_student(db, made, run.job.read_text())
        checkpoints.move_alias(db, CHAMPION, name, "test")


def test_students_are_told_apart_on_one_server(home: Home) -> None:
    asyncio.run(_asked(home))


async def _asked(home: Home) -> None:
    settings = EngineSettings(device="cpu", max_num_seqs=8, kv_cache_gib=1)
    adapters = Adapters(home.root, settings, Silent(), 120.0)
    near, far = (_one(home, name) for name in STUDENTS)
    seats = [await adapters.seat(one) for one in (near, far)]
    try:
        assert seats[0].engine is seats[1].engine
        alone = [await _says(seat) for seat in seats]
        assert alone[0] != alone[1]
        assert await asyncio.gather(*map(_says, seats)) == alone
        # One's adapter under the other's id is not what the other was trained to be.
        with pytest.raises(SyncMismatch):
            await adapters.seat(far._replace(folder=near.folder))
        await seats.pop(0).stop()
        assert await _says(seats[0]) == alone[1]
    finally:
        for seat in seats:
            await seat.stop()
    assert not adapters.has_server(far)


def _one(home: Home, identity: str) -> Adapted:
    found = adapted(home, identity, "cpu", Silent())
    assert found is not None
    return found


async def _says(seat: Seat) -> str:
    """How its likeliest answer begins: further on rounding decides, which a batch changes."""
    asked = [{"role": "user", "content": "Write a poem about a ship, a storm and a lighthouse."}]
    body: dict[str, Any] = {"messages": asked, "temperature": 0.0, "max_tokens": 4}
    async with await seat.send("/v1/chat/completions", body, "id") as answer:
        said = await answer.json()
    return str(said["choices"][0]["message"]["content"])
