"""Asking a model many things, so that no finished call is ever made again."""

import time
from collections.abc import Callable, Iterator, Sequence

from sqlite_utils import Database

from pipelines.source import Source
from pipelines.store import calls
from pipelines.store.calls import Asked
from pipelines.workbench import Workbench, together
from teachers.errors import BadAnswer, CallUncertain, CallUnfit, EndpointBusy, EndpointError
from teachers.progress import step
from teachers.records import Sample

# A call is made again by itself this often when its answer was lost or unusable.
TRIES = 3
# So many refused calls without one answer, and it is not the questions' fault.
MOST_UNFIT = 16


Keep = Callable[[Database, str, Sequence[Sample]], None]
"""Given a call's id and its answers, in the very transaction that marks the call done."""


async def ask(
    bench: Workbench,
    source: Source,
    wanted: Sequence[Asked],
    what: str,
    *,
    before: int = 0,
    keep: Keep | None = None,
) -> int:
    """Make the calls that are not done yet, each once; returns how many were made.

    Every answer is on disk before the next call takes its place. What is refused or cannot be
    answered after a few tries stays a row in state `failed` or `uncertain`.

    Args:
        before: answers of the same kind that there are already and that are not among the wanted.
        keep: what else becomes of an answer.

    Raises:
        EndpointError: the endpoint refuses everything, cannot be reached, or answers nonsense only.
    """
    distinct = {asked.call.id: asked for asked in wanted}
    done = calls.done_calls(bench.db, distinct)
    todo = [asked for call_id, asked in distinct.items() if call_id not in done]
    if not todo:
        return 0
    queue = iter(todo)
    total = before + len(distinct)
    meter = _Meter(bench, before + len(done), total)
    with step(bench.progress, what, total):
        many = min(source.client.endpoint.concurrency, len(todo))
        await together(lambda: _worker(bench, source, queue, meter, keep), many)
    return len(todo)


class _Meter:
    """Counts finished calls and the speed of their answers."""

    def __init__(self, bench: Workbench, done: int, wanted: int) -> None:
        self._progress, self._done, self._tokens = bench.progress, done, 0
        self._unfit, self._wanted = 0, wanted
        self._began = time.monotonic()

    @property
    def nothing(self) -> bool:
        """Whether not one call was ever answered: then it is not the question's fault."""
        return self._done == 0

    def unfit(self) -> bool:
        """Count a call that the endpoint refuses; True if it refuses all that it is asked."""
        self._unfit += 1
        return self.nothing and self._unfit >= min(MOST_UNFIT, self._wanted)

    def add(self, tokens: int) -> None:
        self._done += 1
        self._tokens += tokens
        speed = self._tokens / (time.monotonic() - self._began)
        self._progress.update(self._done, f"{speed:.0f} tokens/s")


async def _worker(
    bench: Workbench, source: Source, queue: Iterator[Asked], meter: _Meter, keep: Keep | None
) -> None:
    for asked in queue:
        for attempt in range(1, TRIES + 1):
            try:
                tokens = await _once(bench, source, asked, keep)
            except CallUnfit as unfit:
                if meter.unfit():
                    raise
                bench.progress.say(f"left out: {unfit.message}")
                break
            except BadAnswer as useless:
                bench.progress.say(f"unusable answer: {useless.message}")
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


async def _once(bench: Workbench, source: Source, asked: Asked, keep: Keep | None) -> int:
    """One attempt: intent, call, result. Returns the tokens it cost."""
    attempt = 0

    async def intend() -> None:
        nonlocal attempt
        attempt = await bench.writer.commit(lambda db: calls.send(db, bench.round_id, asked))

    try:
        completion = await source.client.chat(asked.call, before=intend)
    except EndpointError as error:
        state: calls.Unanswered = "uncertain" if isinstance(error, CallUncertain) else "failed"
        why = error.message
        await bench.writer.commit(lambda db: calls.give_up(db, asked.call.id, attempt, state, why))
        raise

    def done(db: Database) -> None:
        calls.finish(db, asked, attempt, completion)
        if keep is not None:
            keep(db, asked.call.id, completion.samples)

    await bench.writer.commit(done)
    return completion.usage.completion_tokens
