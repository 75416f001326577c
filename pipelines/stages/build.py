"""Verified answers become a frozen dataset; what does not is kept with its reason."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from judges.records import VerificationState
from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.freeze import freeze, held_out_of
from pipelines.hygiene.dedup import Seen
from pipelines.stages import label
from pipelines.store import datasets
from pipelines.store.connection import transaction
from pipelines.store.datasets import Rejection
from teachers.errors import RoundStopped
from teachers.records import Message, Prompt, Sample

NAME = "build"


async def run(context: Context) -> dict[str, Any]:
    """Freeze the dataset; the report is the yield table.

    Raises:
        RoundStopped: too few answers are left to learn from.
    """
    answered = label.answers(context)
    states = await check(context, answered, "strict", "verify answers")
    kept: list[Answered] = []
    rejected: list[Rejection] = []
    for outcome in _judge(context, answered, states):
        if isinstance(outcome, Rejection):
            rejected.append(outcome)
        else:
            kept.append(outcome)
    with transaction(context.db) as db:
        datasets.add_rejections(db, context.round_id, rejected)
    table = _yield_table(answered, kept, rejected)
    if len(kept) < context.recipe.build.minimum:
        raise RoundStopped(
            f"Only {len(kept)} answers can be learned from; the recipe asks for "
            f"{context.recipe.build.minimum} (build.minimum).\n{show(table)}",
            hint=_advice(table["rejected"]),
        )
    rows = [_row(context, *item) for item in kept]
    dataset = freeze(context, "sft", rows, [item.sample.id for item in kept])
    return {"dataset": dataset.id, "rows": dataset.rows, "path": str(dataset.path), **table}


def _judge(
    context: Context, answered: Iterable[Answered], states: dict[str, VerificationState]
) -> Iterator[Answered | Rejection]:
    """Each sample, or why it is out. The cheapest reasons come first."""
    seen = Seen()
    per_prompt: Counter[str] = Counter()
    held_out = held_out_of(context.db, context.round_id)
    for item in answered:
        sample, prompt = item
        state = states.get(sample.id, "error")
        if sample.finish_reason == "length":
            yield Rejection(sample.id, "truncated", "the answer was cut at max_tokens")
        elif state != "verified":
            yield Rejection(sample.id, state)
        elif not seen.add(prompt.question, sample.text):
            yield Rejection(sample.id, "duplicate")
        elif hit := held_out.find(prompt.question, sample.text):
            yield Rejection(sample.id, "contaminated", f"{hit.rule} of held-out {hit.item_id}")
        elif per_prompt[prompt.id] == context.recipe.build.per_prompt:
            yield Rejection(sample.id, "surplus", "its prompt has enough answers (per_prompt)")
        else:
            per_prompt[prompt.id] += 1
            yield item


def _row(context: Context, sample: Sample, prompt: Prompt) -> dict[str, Any]:
    """The student is asked without examples."""
    question = context.recipe.template.zero_shot(prompt)
    return demonstration(question, sample.text, sample.thinking)


def demonstration(
    question: Sequence[Message], text: str, thinking: str | None = None
) -> dict[str, Any]:
    """TRL's conversational prompt-completion columns: what sft learns from."""
    before = f"<think>\n{thinking}\n</think>\n" if thinking else ""
    return {
        "prompt": [message.model_dump() for message in question],
        "completion": [{"role": "assistant", "content": before + text}],
    }


def _yield_table(
    answered: list[Answered], kept: list[Answered], rejected: list[Rejection]
) -> dict[str, Any]:
    kept_by_task = Counter(item.prompt.task for item in kept)
    return {
        "samples": len(answered),
        "kept": len(kept),
        "kept_by_task": dict(sorted(kept_by_task.items())),
        "rejected": dict(Counter(rejection.reason for rejection in rejected).most_common()),
    }


def show(table: dict[str, Any]) -> str:
    """The yield table as text."""
    rows = [("samples", table["samples"]), ("kept", table["kept"]), *table["rejected"].items()]
    return "\n".join(f"  {name:<16}{count:>7}" for name, count in rows)


def _advice(rejected: dict[str, int]) -> str:
    """What to do about the most common reason."""
    advice = {
        "unparsed": "The teacher does not end with `Answer: X`: show it worked examples "
        "(teacher.examples) or say so in student.instruction.",
        "refuted": "The teacher is mostly wrong: easier tasks, more samples a prompt "
        "(teacher.sampling.n) or a stronger teacher.",
        "truncated": "Answers are cut: raise teacher.sampling.max_tokens.",
    }
    most = next(iter(rejected), "")
    return advice.get(most, "preceptor query 'select reason, count(*) from rejections group by 1'")
