"""Starting and finding the process that serves: in the foreground, or left behind."""

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from pipelines.home import Home
from teachers.engine import EngineSettings, tail
from teachers.errors import ConfigError, PreceptorError
from teachers.files import write_whole
from teachers.process import alive, started_at
from teachers.progress import Progress, step

TOKEN_VARIABLE = "PRECEPTOR_TOKEN"
START_LIMIT_S = 600.0
STOP_LIMIT_S = 15.0


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
    home: Home, host: str, port: int, progress: Progress, settings: EngineSettings | None = None
) -> None:
    """Serve the champion until the process is told to stop.

    Args:
        settings: how its model server is started.

    Raises:
        ConfigError: there is nothing to serve, the port is taken, or the address needs a token.
    """
    token = _token(host)
    _refuse_taken(home, host, port)
    place = home.root / "locks" / "serve.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            asyncio.run(_serve(home, host, port, token, progress, settings))
    except Timeout as held:
        raise ConfigError("Another process is about to serve this home.") from held


async def _serve(
    home: Home,
    host: str,
    port: int,
    token: str | None,
    progress: Progress,
    settings: EngineSettings | None,
) -> None:
    import uvicorn

    from service.champion import Champion
    from service.gateway import create_app

    champion = Champion(home, progress, settings)
    try:
        await champion.start()
        app = create_app(champion, token)
        config = uvicorn.Config(
            app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=8
        )
        server = uvicorn.Server(config)
        watching = asyncio.create_task(champion.watch())
        announcing = asyncio.create_task(_announce(home, host, port, server, progress))
        try:
            await server.serve()
        finally:
            for task in (watching, announcing):
                task.cancel()
    finally:
        _record(home).unlink(missing_ok=True)
        await champion.stop()


async def _announce(home: Home, host: str, port: int, server: object, progress: Progress) -> None:
    """Write down where we are, once the address really answers."""
    while not getattr(server, "started", False):  # noqa: ASYNC110 (uvicorn has a flag, no event)
        await asyncio.sleep(0.05)
    me = Server(os.getpid(), started_at(os.getpid()) or 0.0, host, port)
    write_whole(_record(home), json.dumps(me._asdict()))
    progress.say(f"serving at {me.url}")


def serve_in_background(home: Home, host: str, port: int, progress: Progress) -> Server:
    """Leave a serving process behind and return once it answers; an existing one is kept.

    Raises:
        PreceptorError: it ended instead; its log's last lines are in the hint.
    """
    if (server := running(home)) is not None:
        return server
    _token(host)
    _refuse_taken(home, host, port)
    log = home.logs / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--host", host, "--port", str(port)],
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


def _token(host: str) -> str | None:
    """The token that callers need; beyond loopback there must be one.

    Raises:
        ConfigError: the address can be reached from elsewhere and there is no token.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = ipaddress.ip_address(host).is_loopback
    if token is None and not loopback:
        raise ConfigError(
            f"{host} can be reached from other machines, and no token is set.",
            hint=f"Set {TOKEN_VARIABLE} to a long random text, or serve on 127.0.0.1.",
        )
    return token


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
