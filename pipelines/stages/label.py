"""Verifiers say which of the teacher's answers are right."""

from collections import Counter
from typing import Any

from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.stages import sample
from pipelines.store import calls

NAME = "label"


async def run(context: Context) -> dict[str, Any]:
    """Verify every sample of the round; the report counts the verdicts' states."""
    states = await check(context, answers(context), "strict", "verify answers")
    return {"verdicts": dict(Counter(states.values()))}


def answers(context: Context) -> list[Answered]:
    """The teacher's samples of this round with their prompts, in the prompts' order."""
    prompts = {prompt.id: prompt for prompt, _ in calls.prompts_of(context.db, context.round_id)}
    asked = sample.wanted(context)
    samples = calls.samples_of(context.db, [one.call.id for one in asked])
    return [
        Answered(answer, prompts[one.prompt_id])
        for one in asked
        for answer in samples.get(one.call.id, ())
    ]
