"""One measurement: a model's answers to the held-out prompts, checked by both parsers."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from judges.records import Parser, VerificationState
from pipelines.ask import ask
from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.source import Source
from pipelines.store import calls, checkpoints
from pipelines.store.calls import Asked
from pipelines.store.connection import transaction
from teachers.records import Call, Prompt, Sampling, content_id

Prompting = Literal["zero-shot", "few-shot"]
# An answer that cannot be found in the text is a wrong one; a check that broke is none at all.
COUNTED: frozenset[VerificationState] = frozenset({"verified", "refuted", "unparsed"})


class Evaluation(NamedTuple):
    """Per held-out prompt, in order: what the verifier said of the answer found by each parser."""

    prompts: tuple[Prompt, ...]
    strict: tuple[VerificationState, ...]
    lenient: tuple[VerificationState, ...]

    def right(self, parser: Parser) -> list[bool]:
        states = self.strict if parser == "strict" else self.lenient
        return [state == "verified" for state in states]

    def undecided(self) -> set[str]:
        """Prompts whose check failed or did not apply: that says nothing about the model."""
        states = zip(self.prompts, self.strict, self.lenient, strict=True)
        return {prompt.id for prompt, *both in states if not COUNTED.issuperset(both)}

    def without(self, left_out: set[str]) -> "Evaluation":
        """The same, of the other prompts alone."""
        rows = zip(self.prompts, self.strict, self.lenient, strict=True)
        kept = [row for row in rows if row[0].id not in left_out]
        return Evaluation(*(tuple(column) for column in zip(*kept, strict=True)))


class Subject(NamedTuple):
    """What is measured: weights, and how they are asked."""

    weights: str
    prompting: Prompting
    checkpoint_id: str | None = None


def calls_for(context: Context, subject: Subject, prompts: Sequence[Prompt]) -> list[Asked]:
    """The calls of one measurement, one answer a prompt; tasks with a right answer are greedy."""
    template, gate = context.recipe.template, context.recipe.gate
    ask_as = template.zero_shot if subject.prompting == "zero-shot" else template.few_shot
    greedy = Sampling(n=1, temperature=0.0, max_tokens=gate.max_tokens)
    open_ = greedy.model_copy(update={"temperature": gate.temperature})
    return [
        Asked(
            Call(
                weights=subject.weights,
                messages=ask_as(prompt),
                sampling=open_ if prompt.verifier == "none" else greedy,
            ),
            prompt.id,
            f"eval {subject.prompting}",
        )
        for prompt in prompts
    ]


async def answers(
    context: Context, subject: Subject, prompts: Sequence[Prompt], source: Source | None, name: str
) -> list[Answered]:
    """A subject's answers to `prompts`, in order; a prompt without an answer is left out.

    Args:
        source: who answers; None if every answer is known to be stored.
        name: what progress calls it.
    """
    asked = calls_for(context, subject, prompts)
    if source is not None:
        await ask(context, source, asked, f"{name} answers")
    samples = calls.samples_of(context.db, [one.call.id for one in asked])
    return [
        Answered(samples[one.call.id][0], prompt)
        for one, prompt in zip(asked, prompts, strict=True)
        if one.call.id in samples
    ]


async def evaluate(
    context: Context, subject: Subject, prompts: Sequence[Prompt], source: Source | None, name: str
) -> Evaluation:
    """Measure `subject` on `prompts`; arguments as in `answers`."""
    answered = await answers(context, subject, prompts, source, name)
    strict = await check(context, answered, "strict", f"verify {name}")
    lenient = await check(context, answered, "lenient", f"verify {name} (lenient)")
    _store(context, subject, answered, strict, lenient)
    return Evaluation(
        tuple(item.prompt for item in answered),
        tuple(strict[item.sample.id] for item in answered),
        tuple(lenient[item.sample.id] for item in answered),
    )


def _store(
    context: Context,
    subject: Subject,
    answered: Sequence[Answered],
    strict: dict[str, VerificationState],
    lenient: dict[str, VerificationState],
) -> None:
    items = [
        (prompt.id, sample.id, strict[sample.id], lenient[sample.id]) for sample, prompt in answered
    ]
    eval_id = content_id("eval", [subject, items])
    with transaction(context.db) as db:
        checkpoints.add_eval(
            db,
            eval_id,
            context.round_id,
            subject.weights,
            subject.checkpoint_id,
            subject.prompting,
            items,
        )
