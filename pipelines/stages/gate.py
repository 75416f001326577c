"""Base and student answer the same held-out prompts on the same engine; a paired test decides."""

from typing import Any

from pipelines.ask import Source
from pipelines.context import Context
from pipelines.gates.decision import BASE, FEW_SHOT, STUDENT, decide
from pipelines.gates.evaluation import Evaluation, Subject, calls_for, evaluate
from pipelines.stages import train
from pipelines.store import calls, checkpoints
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from teachers.errors import RoundStopped
from teachers.records import Prompt
from teachers.sync import Probe
from teachers.weights import Weights, checked

NAME = "gate"


async def run(context: Context) -> dict[str, Any]:
    """Measure everybody and decide; the report is the decision with all its figures.

    Raises:
        RoundStopped: a held-out prompt got no answer.
    """
    stored = calls.prompts_of(context.db, context.round_id)
    prompts = [prompt for prompt, split in stored if split == "held_out"]
    candidate = checkpoints.checkpoint(context.db, context.report(train.NAME)["checkpoint"])
    champion = _champion(context, candidate)
    base = Subject(context.base.fingerprint, "zero-shot")
    measured = {BASE: await _measure(context, base, prompts, None, BASE)}
    if context.recipe.gate.beat_few_shot:
        few_shot = Subject(context.base.fingerprint, "few-shot")
        measured[FEW_SHOT] = await _measure(context, few_shot, prompts, None, FEW_SHOT)
    if champion is not None:
        subject = Subject(champion.weights, "zero-shot", champion.id)
        measured[CHAMPION] = await _measure(context, subject, prompts, champion, CHAMPION)
    subject = Subject(candidate.weights, "zero-shot", candidate.id)
    student = await _measure(context, subject, prompts, candidate, STUDENT)
    incumbent = CHAMPION if champion else BASE
    undecided = student.undecided().union(*(one.undecided() for one in measured.values()))
    if len(prompts) - len(undecided) < context.recipe.gate.min_items:
        raise RoundStopped(
            f"The checks of {len(undecided)} held-out answers failed, which leaves too few.",
            hint="Run the same command again: only those are checked.",
        )
    others = {name: one.without(undecided) for name, one in measured.items()}
    decision = decide(student.without(undecided), others, incumbent, context.recipe.gate)
    return {
        "checkpoint": candidate.id,
        "incumbent": incumbent,
        "incumbent_id": champion.id if champion else None,
        "left_out": len(undecided),
        **decision.model_dump(mode="json"),
    }


async def _measure(
    context: Context,
    subject: Subject,
    prompts: list[Prompt],
    checkpoint: Checkpoint | None,
    name: str,
) -> Evaluation:
    """Evaluate one subject; the engine is only started and swapped if an answer is missing."""
    asked = [one.call.id for one in calls_for(context, subject, prompts)]
    source: Source | None = None
    if len(calls.done_calls(context.db, asked)) < len(asked):
        source = await _serving(context, checkpoint)
    evaluation = await evaluate(context, subject, prompts, source, name)
    if len(evaluation.prompts) < len(prompts):
        raise RoundStopped(
            f"{len(prompts) - len(evaluation.prompts)} held-out prompts got no answer from {name}.",
            hint="preceptor query \"select error, count(*) from calls where state = 'failed'"
            ' group by 1" says why; the same command asks those again.',
        )
    return evaluation


async def _serving(context: Context, checkpoint: Checkpoint | None) -> Source:
    """The engine, proven to answer from the checkpoint, or from the base."""
    if checkpoint is None:
        engine = await context.engine(context.base)
        await engine.load(context.base)
        return engine
    probe = Probe.read(train.probe_path(checkpoint))
    if context.base.fingerprint not in probe.logprobs:
        # A champion of another base may have another shape: no swap, a server of its own.
        return await context.engine(_merged(checkpoint))
    engine = await context.engine(context.base)
    await engine.load(_merged(checkpoint), probe)
    return engine


def _merged(checkpoint: Checkpoint) -> Weights:
    weights = checked(checkpoint.merged)
    if weights.fingerprint != checkpoint.weights:
        raise RoundStopped(
            f"{checkpoint.merged} is not what was trained: its files have changed.",
            hint="Put its files back, or change train.seed: that trains a new one.",
        )
    return weights


def _champion(context: Context, candidate: Checkpoint) -> Checkpoint | None:
    """The checkpoint that is served now, unless that is the base or the candidate itself."""
    champion = checkpoints.champion_id(context.db)
    if champion in (None, candidate.id):
        return None
    return checkpoints.checkpoint(context.db, str(champion))
