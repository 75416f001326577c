"""Students that answer from one model server together: their base's, with an adapter for each."""

import json
import secrets
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipelines import copies
from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.connection import connect
from pipelines.training.job import RunFolder
from service.seat import BASE, LOST, Seat, found
from teachers.engine import Engine, EngineSettings, load_adapter, unload_adapter
from teachers.errors import PreceptorError, WeightsError
from teachers.progress import Progress
from teachers.sync import Probe, agree
from teachers.weights import Weights, checked

LEAST_RANK = 64
"""Servers have room for adapters of this rank, so that a student of another rank finds one."""


class Adapted(NamedTuple):
    """A student as a server of its base is given it."""

    base: Weights
    folder: Path | None
    """Of the adapter; None: the base itself is asked."""
    rank: int
    probe: Probe
    weights: str
    """What the trainer measured it as: the fingerprint of its merged copy, or of the base."""
    identity: str


def adapted(home: Home, identity: str, device: str, progress: Progress) -> Adapted | None:
    """A student by its id, or the base; None if it has to have a server of its own.

    What a base in 4 bits stands for is in the merged copy alone. And a CPU's server answers for the
    base through its last adapter when both are in one batch: -1, for none, is taken for a place
    (vllm-project/vllm#48421).

    Args:
        device: what servers run on.

    Raises:
        ConfigError: there is no such checkpoint.
        WeightsError: its base is gone, or its adapter is not what was trained.
    """
    if identity == BASE:
        return _base(home, progress) if device == "gpu" else None
    with closing(connect(home.store)) as db:
        checkpoint = checkpoints.checkpoint(db, identity)
        job = json.loads(checkpoints.job_of(db, checkpoint))
        if job.get("adapter") != "lora":
            return None
        base = checked(copies.base_of(db, Path(job["base"]), job["base_weights"], progress))
    if base.fingerprint != job["base_weights"]:
        raise WeightsError(f"{base.path} is not what {identity[:16]} was trained on.")
    if not copies.has_its_adapter(checkpoint):
        raise WeightsError(
            f"{checkpoint.adapter} is not what was trained: it has changed, or is gone.",
            hint="Put its files back, or train the round again.",
        )
    probe = Probe.read(RunFolder(checkpoint.merged.parent).probe)
    return Adapted(base, checkpoint.adapter, job["rank"], probe, checkpoint.weights, checkpoint.id)


def _base(home: Home, progress: Progress) -> Adapted | None:
    if (served := found(home, None, progress)) is None:
        return None
    weights = served.weights
    return Adapted(weights, None, 0, served.probe, weights.fingerprint, served.identity)


class _Server(NamedTuple):
    """A model server of a base."""

    engine: Engine
    names: set[str]
    """Of the models that are asked there."""

    def fits(self, one: Adapted) -> bool:
        same = self.engine.weights.fingerprint == one.base.fingerprint
        return same and self.engine.running and one.rank <= self.engine.settings.lora_rank


class Adapters:
    """Model servers of bases, and the students that answer there.

    Args:
        root: folder of the home, for logs and records.
        settings: how servers are started.
        progress: who is told about it.
        limit_s: longest that an answer may take.
    """

    def __init__(
        self, root: Path, settings: EngineSettings, progress: Progress, limit_s: float
    ) -> None:
        self._root, self._settings = root, settings
        self._progress, self._limit_s = progress, limit_s
        self._servers: list[_Server] = []

    def has_server(self, one: Adapted) -> bool:
        """Whether a server runs that takes it."""
        return any(server.fits(one) for server in self._servers)

    async def seat(self, one: Adapted) -> Seat:
        """Have a student answer, under a name that was never used before.

        Raises:
            EngineError: the server did not start, or does not serve what was trained.
            CallRefused: the server does not take this adapter.
        """
        server = next((it for it in self._servers if it.fits(one)), None) or await self._start(one)
        base = server.engine.name
        name = f"{one.identity[:12]}-{secrets.token_hex(4)}" if one.folder else base
        server.names.add(name)
        try:
            await self._give(server.engine, name, one)
        except BaseException:
            await self._leave(server, name)
            raise
        end = partial(self._leave, server, name)
        return Seat(server.engine, one.identity, self._limit_s, model=name, end=end)

    async def _start(self, one: Adapted) -> _Server:
        engine = Engine(
            one.base,
            self._root,
            settings=self._settings._replace(lora_rank=max(one.rank, LEAST_RANK)),
            name=BASE,
            progress=self._progress,
        )
        try:
            await engine.start()
        except BaseException:
            await engine.stop()
            raise
        self._servers.append(server := _Server(engine, set()))
        return server

    async def _give(self, engine: Engine, name: str, one: Adapted) -> None:
        """Load an adapter, and see that what answers to its name is what was trained."""
        tokens, logprobs = one.probe.tokens, one.probe.logprobs
        if one.folder is None:
            said = await engine.client.logprobs(tokens)
            agree(name, logprobs[one.weights], None, None, said)
            return
        before = await engine.client.logprobs(tokens)
        await load_adapter(engine.client, name, one.folder)
        after = await engine.client.logprobs(tokens, model=name)
        base = logprobs.get(one.base.fingerprint)
        agree(one.identity[:12], logprobs[one.weights], base, before, after)

    async def _leave(self, server: _Server, name: str) -> None:
        """Take a student away; whoever was the last stops the server."""
        server.names.discard(name)
        if not server.names:
            self._servers.remove(server)
            await server.engine.stop()
        elif name != server.engine.name and server.engine.running:
            with suppress(PreceptorError, *LOST):
                await unload_adapter(server.engine.client, name)
