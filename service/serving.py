"""Starting and finding the process that serves: in the foreground, or left behind."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

from pipelines.home import Home
from pipelines.store import tokens
from pipelines.store.connection import connect
from service.auth import TOKEN_VARIABLE, Door, is_loopback
from service.options import USUAL, Options
from service.worker import environment
from teachers.engine import EngineSettings, tail
from teachers.errors import ConfigError, PreceptorError
from teachers.files import write_whole
from teachers.process import alive, die_with_parent, started_at
from teachers.progress import Progress, step

if TYPE_CHECKING:
    import uvicorn

START_LIMIT_S = 600.0
STOP_LIMIT_S = 15.0
WORKER_STOP_S = 9.0
WORKER_AGAIN_S = 5.0


class Server(NamedTuple):
    """A gateway that runs."""

    pid: int
    started: float
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"


def running(home: Home) -> Server | None:
    """The gateway of this home, if one runs."""
    try:
        server = Server(**json.loads(_record(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if alive(server.pid, server.started) else None


def serve(
    home: Home,
    host: str,
    port: int,
    progress: Progress,
    settings: EngineSettings | None = None,
    options: Options = USUAL,
) -> None:
    """Serve API and students until the process is told to stop.

    Args:
        settings: how model servers are started.

    Raises:
        ConfigError: the port is taken, or the address needs a token.
    """
    door = _door(home, host)
    _refuse_taken(home, host, port)
    place = home.root / "locks" / "serve.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            asyncio.run(_serve(home, host, port, door, progress, settings, options))
    except Timeout as held:
        raise ConfigError("Another process is about to serve this home.") from held


async def _serve(
    home: Home,
    host: str,
    port: int,
    door: Door,
    progress: Progress,
    settings: EngineSettings | None,
    options: Options,
) -> None:
    import uvicorn

    from service.app import create_app
    from service.rooms import Rooms

    rooms = Rooms.of(home, progress, settings, options)
    champion = rooms.fleet.champion
    try:
        await champion.start()
        app = create_app(home, rooms, door)
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=8
        )
        server = uvicorn.Server(config)
        watching = asyncio.create_task(rooms.watch())
        announcing = asyncio.create_task(_announce(home, host, port, server, progress))
        if champion.seat is None:
            progress.say("no checkpoint was promoted yet: `champion` answers once there is one")
        working = (
            asyncio.create_task(_keep_working(home, server, progress)) if options.works else None
        )
        try:
            await server.serve()
        finally:
            server.should_exit = True
            for task in (watching, announcing):
                task.cancel()
            if working is not None:
                await _to_its_end(working)
    finally:
        _record(home).unlink(missing_ok=True)
        await rooms.stop()


async def _keep_working(home: Home, server: "uvicorn.Server", progress: Progress) -> None:
    """A worker in a process of its own, started again whenever it ends before the server does."""
    log = home.logs / "worker.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    while not server.should_exit:
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.cli", "worker"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(home),
                process_group=0,
                preexec_fn=die_with_parent(os.getpid()),
            )
        ended = asyncio.create_task(process.wait())
        while not ended.done() and not server.should_exit:
            await asyncio.wait({ended}, timeout=0.25)
        if not ended.done():
            await _stop_worker(process)
            return
        progress.say(f"the worker ended with code {ended.result()}, and is started again: {log}")
        await asyncio.sleep(WORKER_AGAIN_S)


async def _to_its_end(task: "asyncio.Task[None]") -> None:
    """Wait for a task that is about to end by itself, also when we are to stop at once."""
    asked: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            asked = cancelled
    if asked is not None:
        raise asked


async def _stop_worker(process: asyncio.subprocess.Process) -> None:
    """Let a worker put down what it is at."""
    process.terminate()
    try:
        async with asyncio.timeout(WORKER_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _announce(
    home: Home, host: str, port: int, server: "uvicorn.Server", progress: Progress
) -> None:
    """Write down where we are, once the address really answers."""
    while not server.started:  # noqa: ASYNC110 (uvicorn has a flag, no event)
        await asyncio.sleep(0.05)
    me = Server(os.getpid(), started_at(os.getpid()) or 0.0, host, port)
    write_whole(_record(home), json.dumps(me._asdict()))
    progress.say(f"serving at {me.url}")


def serve_in_background(
    home: Home,
    host: str,
    port: int,
    progress: Progress,
    options: Options = USUAL._replace(works=True),  # noqa: B008 (nothing can change it)
) -> Server:
    """Leave a serving process behind and return once it answers; an existing one is kept.

    Raises:
        PreceptorError: it ended instead; its log's last lines are in the hint.
    """
    if (server := running(home)) is not None:
        return server
    _door(home, host)
    _refuse_taken(home, host, port)
    log = home.logs / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "service.cli", "serve", "--host", host, "--port", str(port)]
    with log.open("ab") as out:
        child = subprocess.Popen(
            [*command, *options.flags()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PRECEPTOR_HOME": str(home.root)},
        )
    began = time.monotonic()
    with step(progress, "start serving the champion"):
        while (server := running(home)) is None:
            waited = time.monotonic() - began
            if child.poll() is not None or waited > START_LIMIT_S:
                raise PreceptorError("Serving did not start.", hint=f"{log} ends:\n{tail(log, 12)}")
            progress.update(waited, "usually under a minute")
            time.sleep(0.25)
    return server


def stop(home: Home) -> bool:
    """End the serving process of this home; returns whether there was one."""
    server = running(home)
    if server is None:
        return False
    os.kill(server.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_LIMIT_S
    while alive(server.pid, server.started):
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
        time.sleep(0.1)
    return True


def _record(home: Home) -> Path:
    return home.root / "serve.json"


def _door(home: Home, host: str) -> Door:
    """Who may ask: beyond loopback nobody without a token.

    Raises:
        ConfigError: the address can be reached from elsewhere and there is no token.
    """
    master = os.environ.get(TOKEN_VARIABLE) or None
    if is_loopback(host):
        return Door(home, master, open_=master is None)
    if master is None:
        with contextlib.closing(connect(home.store)) as db:
            known = tokens.active(db)
        if not known:
            raise ConfigError(
                f"{host} can be reached from other machines, and no token is set.",
                hint=f"preceptor token create NAME --role admin; or set {TOKEN_VARIABLE} to a "
                "long random text; or serve on 127.0.0.1.",
            )
    return Door(home, master)


def _refuse_taken(home: Home, host: str, port: int) -> None:
    if (server := running(home)) is not None:
        raise ConfigError(
            f"This home is served already, at {server.url}.", hint="preceptor serve --stop ends it."
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as taken:
            raise ConfigError(
                f"{host}:{port} cannot be used: {taken.strerror}.",
                hint="Another program has it, or the address is not this machine's: "
                "try another --port.",
            ) from taken
