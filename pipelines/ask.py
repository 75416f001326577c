"""Asking a model many things, so that no finished call is ever made again."""

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from pipelines.context import Context, together
from pipelines.store import calls
from pipelines.store.calls import Asked
from teachers.client import Client
from teachers.errors import BadAnswer, CallUncertain, CallUnfit, EndpointBusy, EndpointError
from teachers.progress import step

# A call is made again by itself this often when its answer was lost or unusable.
TRIES = 3


class Source(Protocol):
    """Somebody who answers: an engine of ours, or an endpoint elsewhere."""

    @property
    def client(self) -> Client: ...

    async def ensure(self) -> None:
        """Bring it back, if that is in our power."""

    def worked(self) -> None:
        """It gave a whole answer."""


class Remote:
    """An endpoint that is not ours to restart."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def ensure(self) -> None:
        return None

    def worked(self) -> None:
        return None


async def ask(context: Context, source: Source, wanted: Sequence[Asked], what: str) -> int:
    """Make the calls that are not done yet; returns how many were made.

    Every answer is on disk before the next call takes its place. What is refused or cannot be
    answered after a few tries stays a row in state `failed` or `uncertain`.

    Raises:
        EndpointError: the endpoint refuses everything, cannot be reached, or answers nonsense only.
    """
    done = calls.done_calls(context.db, [asked.call.id for asked in wanted])
    todo = [asked for asked in wanted if asked.call.id not in done]
    if not todo:
        return 0
    queue = iter(todo)
    meter = _Meter(context, len(done))
    with step(context.progress, what, len(wanted)):
        many = min(source.client.endpoint.concurrency, len(todo))
        await together(lambda: _worker(context, source, queue, meter), many)
    return len(todo)


class _Meter:
    """Counts finished calls and the speed of their answers."""

    def __init__(self, context: Context, done: int) -> None:
        self._progress, self._done, self._tokens = context.progress, done, 0
        self._began = time.monotonic()

    @property
    def nothing(self) -> bool:
        """Whether not one call was ever answered: then it is not the question's fault."""
        return self._done == 0

    def add(self, tokens: int) -> None:
        self._done += 1
        self._tokens += tokens
        speed = self._tokens / (time.monotonic() - self._began)
        self._progress.update(self._done, f"{speed:.0f} tokens/s")


async def _worker(context: Context, source: Source, queue: Iterator[Asked], meter: _Meter) -> None:
    for asked in queue:
        for attempt in range(1, TRIES + 1):
            try:
                tokens = await _once(context, source, asked)
            except CallUnfit as unfit:
                if meter.nothing:
                    raise
                context.progress.say(f"left out: {unfit.message}")
                break
            except BadAnswer as useless:
                context.progress.say(f"unusable answer: {useless.message}")
                if attempt == TRIES and meter.nothing:
                    raise
            except (CallUncertain, EndpointBusy):
                await source.ensure()
                if attempt == TRIES:
                    raise
            else:
                source.worked()
                meter.add(tokens)
                break


async def _once(context: Context, source: Source, asked: Asked) -> int:
    """One attempt: intent, call, result. Returns the tokens it cost."""
    attempt = 0

    async def intend() -> None:
        nonlocal attempt
        attempt = await context.writer.commit(lambda db: calls.send(db, context.round_id, asked))

    try:
        completion = await source.client.chat(asked.call, before=intend)
    except EndpointError as error:
        state: calls.Unanswered = "uncertain" if isinstance(error, CallUncertain) else "failed"
        why = error.message
        await context.writer.commit(
            lambda db: calls.give_up(db, asked.call.id, attempt, state, why)
        )
        raise
    await context.writer.commit(lambda db: calls.finish(db, asked, attempt, completion))
    return completion.usage.completion_tokens
