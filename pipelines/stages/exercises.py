"""The prompts that a policy is to practise on, frozen with how often it was right so far."""

from typing import Any

from judges.rewards import main_term
from pipelines.context import Context
from pipelines.freeze import freeze, held_out_of
from pipelines.store import calls, rollouts
from pipelines.training.curriculum import Curriculum, Task
from teachers.errors import RoundStopped
from teachers.records import Prompt

NAME = "exercises"


async def run(context: Context) -> dict[str, Any]:
    """Freeze the list; the report counts the prompts by how they stand.

    Raises:
        RoundStopped: there are fewer than a batch takes.
    """
    recipe = context.recipe
    known = _known(context)
    held_out = held_out_of(context.db, context.round_id)
    prompts = [
        prompt
        for prompt, split in calls.prompts_of(context.db, context.round_id)
        if split == "train" and not held_out.find(prompt.question)
    ]
    if len(prompts) < recipe.rollouts.prompts:
        raise RoundStopped(
            f"There are {len(prompts)} prompts to practise on, and a batch takes "
            f"{recipe.rollouts.prompts} (rollouts.prompts).",
            hint="Raise train of the supply's sources.",
        )
    tasks = [known.get(prompt.id, Task(prompt.id)) for prompt in prompts]
    rows = [_row(context, prompt, task) for prompt, task in zip(prompts, tasks, strict=True)]
    dataset = freeze(context, "prompts", rows, [])
    counts = Curriculum(tasks, recipe.train.seed, recipe.pacing).standings()
    told = {str(name): count for name, count in counts.items()}
    return {"dataset": dataset.id, "rows": dataset.rows, "path": str(dataset.path), **told}


def _known(context: Context) -> dict[str, Task]:
    """How earlier rounds of this recipe went, by prompt."""
    recipe = context.recipe
    term, newest = main_term(recipe.rewards), recipe.pacing.remember
    rates = rollouts.pass_rates(context.db, context.round_id, term, newest)
    return {task.prompt_id: task for task in rates}


def _row(context: Context, prompt: Prompt, task: Task) -> dict[str, Any]:
    """As `pipelines.training.collecting.Exercise` reads it."""
    question = context.recipe.template.zero_shot(prompt)
    return {
        "prompt": prompt.model_dump(mode="json"),
        "messages": [message.model_dump() for message in question],
        "tries": task.tries,
        "hits": task.hits,
        "rounds_ago": task.rounds_ago,
    }
