"""Verifying many samples: those that have a verdict keep it, the rest get one."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from sqlite_utils import Database

from judges.records import Parser, VerificationState, reference_of, verdict_id
from judges.verifiers import versioned
from pipelines.context import VERIFIER_PROCESSES, Context
from pipelines.store import calls
from pipelines.workbench import together
from teachers.progress import step
from teachers.records import Prompt, Sample


class Answered(NamedTuple):
    """A sample and the prompt that it answers."""

    sample: Sample
    prompt: Prompt


def checked(
    db: Database, answered: Sequence[Answered], parser: Parser
) -> dict[str, VerificationState]:
    """The state of every verdict that is stored, by sample id."""
    ids = {
        item.sample.id: verdict_id(
            item.sample.id, versioned(item.prompt.verifier), parser, reference_of(item.prompt)
        )
        for item in answered
    }
    stored = calls.verdict_states(db, list(ids.values()))
    return {sample: stored[verdict] for sample, verdict in ids.items() if verdict in stored}


async def check(
    context: Context, answered: Sequence[Answered], parser: Parser, what: str
) -> dict[str, VerificationState]:
    """The verdict's state of every sample, by sample id."""
    states = checked(context.db, answered, parser)
    todo = [item for item in answered if item.sample.id not in states]
    if not todo:
        return states
    queue = iter(todo)

    async def worker() -> None:
        for sample, prompt in queue:
            verdict = await context.pool.verify(sample, prompt, parser)
            await context.writer.commit(partial(calls.add_verdict, verdict=verdict))
            states[sample.id] = verdict.state
            context.progress.update(len(states))

    with step(context.progress, what, len(answered)):
        # Two jobs a process: one is being checked while the other's verdict is written.
        await together(worker, 2 * VERIFIER_PROCESSES)
    return states
