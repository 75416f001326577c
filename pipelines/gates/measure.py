"""Models on the gate's engine: each answers from its own weights, proven, and only if it has to."""

from pipelines import copies
from pipelines.context import Context
from pipelines.gates.evaluation import Evaluation, Subject, calls_for, evaluate
from pipelines.source import Source
from pipelines.store import calls, checkpoints
from pipelines.store.checkpoints import Checkpoint
from teachers.errors import RoundStopped
from teachers.records import Prompt


async def measure(
    context: Context,
    subject: Subject,
    prompts: list[Prompt],
    checkpoint: Checkpoint | None,
    name: str,
) -> Evaluation:
    """Evaluate one subject; the engine is only started and swapped if an answer is missing."""
    source = await source_for(context, subject, prompts, checkpoint)
    evaluation = await evaluate(context, subject, prompts, source, name)
    if len(evaluation.prompts) < len(prompts):
        raise RoundStopped(
            f"{len(prompts) - len(evaluation.prompts)} held-out prompts got no answer from {name}.",
            hint="preceptor query \"select error, count(*) from calls where state = 'failed'"
            ' group by 1" says why; the same command asks those again.',
        )
    return evaluation


async def source_for(
    context: Context, subject: Subject, prompts: list[Prompt], checkpoint: Checkpoint | None
) -> Source | None:
    """Who answers for a subject; None if every answer is stored, so that nobody is started."""
    asked = [one.call.id for one in calls_for(context, subject, prompts)]
    if len(calls.done_calls(context.db, asked)) == len(asked):
        return None
    if checkpoint is None:
        return await context.serving(context.base)
    return await context.serving(copies.merged(context.db, checkpoint, context.progress))


def champion_before(context: Context, candidate: Checkpoint) -> Checkpoint | None:
    """The checkpoint that is served now, unless that is the base or the candidate itself."""
    champion = checkpoints.champion_id(context.db)
    if champion in (None, candidate.id):
        return None
    return checkpoints.checkpoint(context.db, str(champion))
