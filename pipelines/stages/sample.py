"""The teacher answers: n samples a training prompt."""

from typing import Any

from pipelines.ask import Remote, Source, ask
from pipelines.context import Context
from pipelines.store import calls
from pipelines.store.calls import Asked
from teachers.client import Client, Endpoint
from teachers.errors import RoundStopped
from teachers.records import Call
from teachers.weights import prepare

NAME = "sample"
PURPOSE = "teach"


async def run(context: Context) -> dict[str, Any]:
    """Make the teacher's calls that are not done; the report counts what was asked and answered.

    Raises:
        RoundStopped: not one call was answered.
    """
    asked = wanted(context)
    done = calls.done_calls(context.db, [one.call.id for one in asked])
    if len(done) < len(asked):
        await _answer(context, asked)
        done = calls.done_calls(context.db, [one.call.id for one in asked])
    if not done:
        raise RoundStopped("The teacher did not answer a single call.")
    return {"calls": len(asked), "answered": len(done), "weights": weights(context)}


def wanted(context: Context) -> list[Asked]:
    """Every call that the teacher is to answer in this round."""
    recipe = context.recipe
    teacher_weights = weights(context)
    return [
        Asked(
            Call(
                weights=teacher_weights,
                messages=recipe.template.few_shot(prompt),
                sampling=recipe.teacher.sampling,
            ),
            prompt.id,
            PURPOSE,
        )
        for prompt, split in calls.prompts_of(context.db, context.round_id)
        if split == "train"
    ]


def weights(context: Context) -> str:
    """What the teacher's calls are filed under: its fingerprint, or its name and revision."""
    teacher = context.recipe.teacher
    if teacher.url:
        return f"{teacher.url} {teacher.model}@{teacher.revision}"
    if teacher.weights is None:
        return context.base.fingerprint
    return prepare(teacher.weights, context.home.root, context.progress).fingerprint


async def _answer(context: Context, asked: list[Asked]) -> None:
    teacher = context.recipe.teacher
    if teacher.url and teacher.model:
        endpoint = Endpoint(
            url=teacher.url,
            model=teacher.model,
            api_key_env=teacher.api_key_env,
            concurrency=teacher.concurrency,
            timeout_s=teacher.timeout_s,
        )
        async with Client(endpoint) as client:
            await ask(context, Remote(client), asked, "teacher answers")
        return
    base = context.base
    if teacher.weights is not None:
        base = prepare(teacher.weights, context.home.root, context.progress)
    engine: Source = await context.engine(base)
    await ask(context, engine, asked, "teacher answers")
