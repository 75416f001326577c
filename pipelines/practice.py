"""What the service does while a policy is trained: it keeps a server for it, and its rollouts."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from pipelines.certification import require
from pipelines.context import Context
from pipelines.kinship import warn_of_kin
from pipelines.recipe import Place
from pipelines.seat import seated
from pipelines.source import endpoint_of, prepared
from pipelines.store import rollouts as store
from pipelines.training.grader import Charge
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.kept import NewBatches
from teachers.engine import Engine

POLL_S = 1.0


@contextlib.asynccontextmanager
async def beside(
    context: Context, job: PolicyJob, run_id: str, run: RunFolder
) -> AsyncIterator[None]:
    """A server for the policy if it wants one, and its rollouts into the store as they come."""
    async with contextlib.AsyncExitStack() as stack:
        engines = [] if run.result.is_file() else await _opened(context, job, run, stack)
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_watch(context, job, run_id, run, engines))
                try:
                    yield
                finally:
                    watching.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        finally:
            # All of them again: one may have been on its way when the watch ended.
            await _commit(context, job, run_id, NewBatches(run.rollouts))


async def _opened(
    context: Context, job: PolicyJob, run: RunFolder, stack: contextlib.AsyncExitStack
) -> list[Engine]:
    """Servers of ours that the trainer is told of: the judge's, and the one that samples."""
    engines = []
    if job.judged:
        engines += await _charge(context, run, stack)
    if job.rollouts.sampler == "engine":
        engines.append(await _sampling(context, job, stack))
        tell_where(run, engines[-1])
        stack.callback(run.engine.unlink, missing_ok=True)
    else:
        await context.stop_engine_on_gpu()
    return engines


async def _sampling(context: Context, job: PolicyJob, stack: contextlib.AsyncExitStack) -> Engine:
    """The server that samples from the policy."""
    if job.served_as == "merged":
        # It will serve the last policy, under the name of the base.
        stack.push_async_callback(context.stop_engine)
        return await context.serving(context.base)
    # The one that may be running was not started to take adapters.
    await context.stop_engine()
    engine = await stack.enter_async_context(
        context.another_engine(context.base, lora_rank=job.rank)
    )
    await engine.start()
    return engine


async def _charge(
    context: Context, run: RunFolder, stack: contextlib.AsyncExitStack
) -> list[Engine]:
    """Certify the recipe's judge and say where it is; returns its server if it is one of ours.

    Raises:
        Uncertified: it may not reward.
    """
    section = context.recipe.judge
    assert section is not None, "the recipe's own check"
    seat = await seated(context, section)
    warn_of_kin(context, [seat], Place(weights=context.recipe.student.weights))
    principles = context.deciding()
    await require(context, seat, principles, section.certify)
    engines, key, endpoint = [], None, endpoint_of(section)
    if endpoint is None:
        # Beside the one that samples, so that neither has to make room for the other.
        weights = prepared(str(section.weights), context.home, context.progress)
        engine = context.another_engine(weights, "judge")
        await stack.enter_async_context(engine)
        await engine.start()
        engines, endpoint, key = [engine], engine.client.endpoint, engine.key
    charge = Charge(judge=seat.judge, principles=tuple(principles), endpoint=endpoint, key=key)
    _write_privately(run.charge, charge.model_dump_json())
    stack.callback(run.charge.unlink, missing_ok=True)
    return engines


def tell_where(run: RunFolder, engine: Engine) -> None:
    """Leave the trainer a note of a server's address."""
    address = {
        "url": engine.client.endpoint.base,
        "model": engine.name,
        "key": engine.key,
        "takes_adapters": engine.settings.lora_rank > 0,
    }
    _write_privately(run.engine, json.dumps(address))


def _write_privately(path: Path, text: str) -> None:
    """A key is for this user's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.write_text(text)


async def _watch(
    context: Context, job: PolicyJob, run_id: str, run: RunFolder, engines: Sequence[Engine]
) -> None:
    """Store what comes, and start a server again that dies: the trainer gives it the policy."""
    fresh = NewBatches(run.rollouts)
    while True:
        came = await _commit(context, job, run_id, fresh)
        for engine in engines:
            if came:
                engine.worked()
            await engine.ensure()
        await asyncio.sleep(POLL_S)


async def _commit(context: Context, job: PolicyJob, run_id: str, fresh: NewBatches) -> int:
    """Store the new batches; returns how many there were."""
    watched = [term.name for term in job.watched]
    batches = fresh.read()
    for rollouts in batches:
        add = partial(store.add, run_id=run_id, rollouts=rollouts, watched=watched)
        await context.writer.commit(add)
    return len(batches)
