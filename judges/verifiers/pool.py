"""Verifiers in child processes that can be killed: nothing they do can hang or hurt the service."""

import asyncio
import json
from collections import deque
from typing import Any

from judges.records import Parser, Verdict, Verification, reference_of
from judges.verifiers import find, versioned
from judges.verifiers.child import Child
from teachers.errors import VerifierError
from teachers.records import Prompt, Sample

# A worker can be killed for what others did (the machine's memory): one more try tells whose
# fault it was.
TRIES = 2
# Jobs a worker is handed at once: it need not wait for us between two of them.
BATCH = 8


class Pool:
    """A few worker processes that share a queue. Use it as an async context manager.

    Args:
        workers: processes; each needs about 150 MB.
        deadline_s: longest one verification may take before its worker is killed, in seconds;
            each verifier's own limit if not given.
    """

    def __init__(self, workers: int = 1, deadline_s: float | None = None) -> None:
        self._size, self._deadline_s = workers, deadline_s
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._lanes: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Pool":
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(self._size)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait().future.cancel()

    async def verify(self, sample: Sample, prompt: Prompt, parser: Parser) -> Verdict:
        """Check one sample against its prompt. A worker that hangs or dies is a state as well.

        Raises:
            VerifierError: the prompt names a verifier that does not exist, or no worker can start.
        """
        found = await self.check(
            sample.text, prompt.verifier, parser, prompt.reference, prompt.entry
        )
        return Verdict(
            sample_id=sample.id,
            verifier=versioned(prompt.verifier),
            parser=parser,
            reference=reference_of(prompt),
            **found.model_dump(exclude={"score"}),
        )

    async def check(
        self,
        text: str,
        verifier: str,
        parser: Parser = "strict",
        reference: str | None = None,
        entry: dict[str, Any] | None = None,
    ) -> Verification:
        """Check one text; `judges.verifiers.verify` in a process that can be killed.

        Raises:
            VerifierError: there is no such verifier, or no worker can start.
        """
        rule = find(verifier)
        content = {
            "text": text,
            "verifier": verifier,
            "parser": parser,
            "reference": reference,
            "entry": entry or {},
        }
        try:
            line = json.dumps(content).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as wrong:
            return Verification(state="error", reason=f"no JSON: {wrong}"[:300])
        job = _Job(verifier, line, self._deadline_s or rule.deadline_s)
        self._queue.put_nowait(job)
        return await job.future

    async def _lane(self) -> None:
        """One worker at work until the pool closes."""
        child, jobs = Child(), deque[_Job]()
        try:
            while True:
                jobs.append(await self._queue.get())
                # Its share of what waits, so that no worker is idle beside another's batch.
                for _ in range(min(BATCH - 1, self._queue.qsize() // self._size)):
                    jobs.append(self._queue.get_nowait())
                jobs = deque(job for job in jobs if not job.future.done())
                if jobs:
                    await self._serve(child, jobs)
                # Those behind one that hung or killed its worker go back in line.
                while jobs:
                    self._queue.put_nowait(jobs.popleft())
        finally:
            for job in jobs:
                job.future.cancel()
            await child.end()

    async def _serve(self, child: Child, jobs: deque["_Job"]) -> None:
        """Have jobs done in order until all are done, or the worker is."""

        def given_up(future: asyncio.Future[Verification]) -> None:
            """A job that nobody waits for any more must not hold up the others."""
            if future.cancelled() and jobs and jobs[0].future is future:
                child.kill()

        try:
            await child.prepare(job.verifier for job in jobs)
            child.write(job.line for job in jobs)
            while jobs:
                jobs[0].future.add_done_callback(given_up)
                jobs[0].answer(await child.finding(jobs[0].deadline_s))
                jobs.popleft()
        except VerifierError as broken:
            while jobs:
                jobs.popleft().fail(broken)
            await child.end()
        except TimeoutError:
            reason = f"no result within {jobs[0].deadline_s:g} s"
            # Told at once: a process that has filled its memory takes a while to go.
            jobs.popleft().answer(Verification(state="timeout", reason=reason))
            await child.end()
        except (OSError, ValueError, EOFError):
            if jobs[0].killed():
                jobs.popleft()
            await child.end()


class _Job:
    """A check that somebody waits for."""

    def __init__(self, verifier: str, line: bytes, deadline_s: float) -> None:
        self.verifier, self.line, self.deadline_s = verifier, line, deadline_s
        self.future: asyncio.Future[Verification] = asyncio.get_running_loop().create_future()
        self._deaths = 0

    def answer(self, found: Verification) -> None:
        if not self.future.done():
            self.future.set_result(found)

    def fail(self, error: VerifierError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def killed(self) -> bool:
        """Its worker died while it was at work on this. Returns whether that settles it."""
        self._deaths += 1
        if self._deaths == TRIES:
            reason = f"the verifier's process died {TRIES} times"
            self.answer(Verification(state="error", reason=reason))
        return self.future.done()
