"""Verifiers in child processes that can be killed: nothing they do can hang or hurt the service."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

from judges.records import Parser, Verdict, Verification, reference_of
from judges.verifiers import versioned
from teachers.errors import VerifierError
from teachers.process import die_with_parent
from teachers.records import Prompt, Sample

DEADLINE_S = 5.0
START_S = 60.0
# A worker can be killed for what others did (the machine's memory): one more try tells whose
# fault it was.
TRIES = 2
# An entry of a generator may be long; a line that is longer than this is no finding.
LINE_BYTES = 4 * 1024 * 1024


class Pool:
    """A few worker processes, one job each at a time. Use it as an async context manager.

    Args:
        workers: processes; each needs about 150 MB.
        deadline_s: longest one verification may take before its worker is killed.
    """

    def __init__(self, workers: int = 1, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._idle: asyncio.Queue[asyncio.subprocess.Process | None] = asyncio.Queue()
        for _ in range(workers):
            self._idle.put_nowait(None)  # started when first needed
        self._size = workers

    async def __aenter__(self) -> "Pool":
        return self

    async def __aexit__(self, *_error: object) -> None:
        for _ in range(self._size):
            await _end(await self._idle.get())

    async def verify(self, sample: Sample, prompt: Prompt, parser: Parser) -> Verdict:
        """Check one sample against its prompt. A worker that hangs or dies is a state as well.

        Raises:
            VerifierError: the prompt names a verifier that does not exist, or no worker can start.
        """
        name = versioned(prompt.verifier)
        job = {
            "text": sample.text,
            "verifier": prompt.verifier,
            "parser": parser,
            "reference": prompt.reference,
            "entry": prompt.entry,
        }
        found = await self._run(job)
        return Verdict(
            sample_id=sample.id,
            verifier=name,
            parser=parser,
            reference=reference_of(prompt),
            **found.model_dump(),
        )

    async def _run(self, job: dict[str, Any]) -> Verification:
        for _ in range(TRIES):
            worker = await self._idle.get()
            try:
                if worker is None or worker.returncode is not None:
                    worker = await _start()
                return await self._ask(worker, job)
            except TimeoutError:
                await _end(worker)
                reason = f"no result within {self._deadline_s:g} s"
                return Verification(state="timeout", reason=reason)
            except (OSError, ValueError, EOFError):
                await _end(worker)
            except BaseException:
                await _end(worker)  # cancelled in mid-job: its answer must not meet another job
                raise
            finally:
                self._idle.put_nowait(worker)
        return Verification(state="error", reason=f"the verifier's process died {TRIES} times")

    async def _ask(self, worker: asyncio.subprocess.Process, job: dict[str, Any]) -> Verification:
        assert worker.stdin is not None
        assert worker.stdout is not None
        async with asyncio.timeout(self._deadline_s):
            worker.stdin.write(json.dumps(job).encode() + b"\n")
            await worker.stdin.drain()
            line = await worker.stdout.readline()
        if not line:
            raise EOFError
        return Verification.model_validate_json(line)


async def _start() -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "judges.verifiers.worker",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=LINE_BYTES,
        # No key of a teacher reaches a verifier.
        env={
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ
        },
        preexec_fn=die_with_parent(os.getpid()),
        start_new_session=True,
    )
    assert worker.stdout is not None
    ready = b""
    try:
        async with asyncio.timeout(START_S):
            ready = await worker.stdout.readline()
    except TimeoutError:
        pass
    finally:
        if not ready:
            await _end(worker)
    if not ready:
        raise VerifierError(
            "The verifier's process cannot start.",
            hint="python -m judges.verifiers.worker shows why.",
        )
    return worker


async def _end(worker: asyncio.subprocess.Process | None) -> None:
    if worker is None:
        return
    if worker.returncode is None:
        worker.kill()
    await worker.wait()
