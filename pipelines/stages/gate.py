"""Base and student answer the same held-out prompts on the same engine; a paired test decides."""

from typing import Any

from pipelines.context import Context
from pipelines.gates.conditions import stays_near
from pipelines.gates.decision import BASE, FEW_SHOT, STUDENT, decide
from pipelines.gates.evaluation import Subject
from pipelines.gates.measure import champion_before, measure
from pipelines.gates.preference import Incumbent, compare_answers
from pipelines.stages import train
from pipelines.store import calls, checkpoints
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from teachers.errors import RoundStopped

NAME = "gate"
LAST = 2
"""Figures of training that are asked how far a policy has gone: the last, and the one before."""


async def run(context: Context) -> dict[str, Any]:
    """Measure everybody and decide; the report is the decision with all its figures.

    Raises:
        RoundStopped: a held-out prompt got no answer.
    """
    report = await (_prefer if context.recipe.prefers else _verify)(context)
    return _bounded(context, report)


async def _verify(context: Context) -> dict[str, Any]:
    """Verifiable tasks: more right answers than before."""
    stored = calls.prompts_of(context.db, context.round_id)
    prompts = [prompt for prompt, split in stored if split == "held_out"]
    candidate = _candidate(context)
    champion = champion_before(context, candidate)
    base = Subject(context.base.fingerprint, "zero-shot")
    measured = {BASE: await measure(context, base, prompts, None, BASE)}
    if context.recipe.gate.beat_few_shot:
        few_shot = Subject(context.base.fingerprint, "few-shot")
        measured[FEW_SHOT] = await measure(context, few_shot, prompts, None, FEW_SHOT)
    if champion is not None:
        subject = Subject(champion.weights, "zero-shot", champion.id)
        measured[CHAMPION] = await measure(context, subject, prompts, champion, CHAMPION)
    subject = Subject(candidate.weights, "zero-shot", candidate.id)
    student = await measure(context, subject, prompts, candidate, STUDENT)
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


async def _prefer(context: Context) -> dict[str, Any]:
    """Open requests: answers that the constitution prefers, and nothing else lost."""
    stored = calls.prompts_of(context.db, context.round_id)
    prompts = [prompt for prompt, split in stored if split == "held_out"]
    candidate = _candidate(context)
    champion = champion_before(context, candidate)
    incumbent = Incumbent(context.base.fingerprint, None, BASE)
    if champion is not None:
        incumbent = Incumbent(champion.weights, champion, CHAMPION)
    shift = await compare_answers(context, prompts, incumbent, candidate)
    return {
        "checkpoint": candidate.id,
        "incumbent": incumbent.name,
        "incumbent_id": champion.id if champion else None,
        **shift.model_dump(mode="json"),
    }


def _bounded(context: Context, report: dict[str, Any]) -> dict[str, Any]:
    """The report, and whether the policy stayed as near to its base as the recipe says."""
    most = context.recipe.gate.max_kl
    if most is None:
        return report
    run = str(context.report(train.NAME)["training_run"])
    last = [value for _, value in checkpoints.metrics_of(context.db, run, "kl")[-LAST:]]
    found = stays_near(most, max(last))
    told = {**report, "kl": found.model_dump(mode="json")}
    if found.passed:
        return told
    reasons = [] if report["promoted"] else [report["reason"]]
    return {**told, "promoted": False, "reason": "; ".join([*reasons, str(found)])}


def _candidate(context: Context) -> Checkpoint:
    return checkpoints.checkpoint(context.db, context.report(train.NAME)["checkpoint"])
