"""A worker process as its parent sees it: started when needed, asked, killed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable

from judges.records import Verification
from teachers.errors import VerifierError
from teachers.process import die_with_parent, kill_group

START_S = 60.0
# A line that is longer than this is no finding.
LINE_BYTES = 1024 * 1024
_INHERITED = ("PATH", "PYTHONPATH", "LANG")
# One job is one thread: arithmetic libraries would start one for each core.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Child:
    """One worker process, and what it has loaded. Started when first needed, and after its end."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._loaded: set[str] = set()

    async def prepare(self, verifiers: Iterable[str]) -> None:
        """See to it that it runs and has loaded these rules: no check pays for an import.

        Raises:
            VerifierError: it cannot start, or a rule takes too long to load.
            OSError: it died.
            EOFError: it died.
        """
        if self._process is None or self._process.returncode is not None:
            await self._start()
        for name in sorted(set(verifiers) - self._loaded):
            self.write([b'{"load": "%s"}\n' % name.encode()])
            await self._ready(f"The verifier {name!r} does not load.")
            self._loaded.add(name)

    def write(self, lines: Iterable[bytes]) -> None:
        """Hand it jobs. Nothing is waited for: a process that hangs must not stop its parent."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.writelines(lines)

    async def finding(self, deadline_s: float) -> Verification:
        """Its next finding.

        Raises:
            TimeoutError: there is none within the time.
            EOFError: it died.
            ValueError: what it said is no finding.
        """
        async with asyncio.timeout(deadline_s):
            return Verification.model_validate_json(await self._line())

    def kill(self) -> None:
        """Kill it and whatever it has started."""
        if self._process is not None and self._process.returncode is None:
            kill_group(self._process.pid)

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        self._process = None

    async def _start(self) -> None:
        self._loaded.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "judges.verifiers.worker",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            limit=LINE_BYTES,
            # No key of a teacher reaches a verifier.
            env={name: os.environ[name] for name in _INHERITED if name in os.environ}
            | _ENVIRONMENT,
            preexec_fn=die_with_parent(os.getpid()),
            start_new_session=True,
        )
        try:
            await self._ready("The verifier's process cannot start.")
        except EOFError:
            raise _broken("The verifier's process cannot start.") from None

    async def _ready(self, otherwise: str) -> None:
        try:
            async with asyncio.timeout(START_S):
                await self._line()
        except TimeoutError:
            raise _broken(otherwise) from None

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError
        return line


def _broken(message: str) -> VerifierError:
    return VerifierError(message, hint="python -m judges.verifiers.worker shows why.")
