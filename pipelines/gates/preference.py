"""Whether a student answers open requests as the constitution says, and has lost nothing by it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from judges.aggregate import prefer
from judges.records import Comparison
from pipelines.check import Answered
from pipelines.context import Context
from pipelines.gates.decision import STUDENT
from pipelines.gates.evaluation import Subject, answers
from pipelines.gates.measure import measure, source_for
from pipelines.gates.statistics import Change, change, even, median_ratio, moved
from pipelines.judging import Question
from pipelines.jury import judged_by, sworn_in
from pipelines.recipe import Gate
from pipelines.store.checkpoints import Checkpoint
from pipelines.store.judgements import Compared
from teachers.errors import RoundStopped
from teachers.records import Prompt


class Incumbent(NamedTuple):
    """Who answers now: the champion, or the base."""

    weights: str
    checkpoint: Checkpoint | None
    name: str


class Condition(BaseModel):
    """One condition of the gate, as it is told."""

    model_config = ConfigDict(frozen=True)

    name: str
    found: str
    wanted: str
    p: float | None
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.found}, needs {self.wanted}"


class Shift(BaseModel):
    """How a student's answers differ from the incumbent's, and what the gate makes of it."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["preference"] = "preference"
    promoted: bool
    reason: str
    items: int
    lengths: dict[str, list[int]]
    """Tokens of each answer to the open requests, in one order, by who answered."""
    length_ratio: Change
    """Median of the student over median of the incumbent."""
    verdicts: dict[str, int]
    """Of the student's answer by the whole constitution: wins, losses, ties, undecided."""
    accuracy: Change | None
    """Of the tasks with right answers, lenient parser: student minus incumbent."""
    conditions: list[Condition]


async def compare_answers(
    context: Context, prompts: Sequence[Prompt], incumbent: Incumbent, candidate: Checkpoint
) -> Shift:
    """Hold the candidate's answers against the incumbent's on the held-out prompts.

    Raises:
        RoundStopped: too few prompts were answered by both.
        Uncertified: a judge has not passed a principle that it would decide by.
    """
    gate = context.recipe.gate
    before = Subject(incumbent.weights, "zero-shot", _id(incumbent.checkpoint))
    after = Subject(candidate.weights, "zero-shot", candidate.id)
    open_ = [prompt for prompt in prompts if prompt.verifier == "none"]
    checked = [prompt for prompt in prompts if prompt.verifier != "none"]
    old = await _answers(context, before, open_, incumbent.checkpoint, incumbent.name)
    accuracy = None
    if checked:
        # With the recipe's worked examples, where it has some: what is held here is the skill, and
        # a base that was never shown the form could lose nothing.
        shown = [one._replace(prompting="few-shot") for one in (before, after)]
        was = await measure(context, shown[0], checked, incumbent.checkpoint, incumbent.name)
        is_ = await measure(context, shown[1], checked, candidate, STUDENT)
        undecided = was.undecided() | is_.undecided()
        was, is_ = was.without(undecided), is_.without(undecided)
        accuracy = change(was.right("lenient"), is_.right("lenient"))
    new = await _answers(context, after, open_, candidate, STUDENT)
    both = [name for name in old if name in new]
    if len(both) < gate.min_items:
        raise RoundStopped(
            f"{len(both)} open held-out prompts were answered by both; the gate wants "
            f"{gate.min_items}.",
            hint="Raise held_out of the supply's files, or lower gate.min_items.",
        )
    lengths = {
        incumbent.name: [_tokens(old[name]) for name in both],
        STUDENT: [_tokens(new[name]) for name in both],
    }
    ratio = median_ratio(lengths[incumbent.name], lengths[STUDENT])
    verdicts = await _verdicts(context, [(new[name], old[name]) for name in both])
    conditions = _conditions(gate, lengths[incumbent.name], lengths[STUDENT], verdicts, accuracy)
    failed = [one for one in conditions if not one.passed]
    return Shift(
        promoted=not failed,
        reason="every condition is met" if not failed else "; ".join(map(str, failed)),
        items=len(both),
        lengths=lengths,
        length_ratio=ratio,
        verdicts=verdicts,
        accuracy=accuracy,
        conditions=conditions,
    )


async def _answers(
    context: Context,
    subject: Subject,
    prompts: list[Prompt],
    checkpoint: Checkpoint | None,
    name: str,
) -> dict[str, Answered]:
    source = await source_for(context, subject, prompts, checkpoint)
    answered = await answers(context, subject, prompts, source, name)
    return {one.prompt.id: one for one in answered}


async def _verdicts(context: Context, pairs: Sequence[tuple[Answered, Answered]]) -> dict[str, int]:
    """How often the judges prefer the student's answer; nothing without a judge."""
    jurors = await sworn_in(context)
    if not jurors:
        return {}
    asked = [
        [Question(_compared(context, *pair), one) for one in context.principles_for(pair[0].prompt)]
        for pair in pairs
    ]
    every = [one for some in asked for one in some]
    left = iter(await judged_by(context, jurors, every, "judge the gate"))
    counts = {"win": 0, "loss": 0, "tie": 0, "undecided": 0}
    names = {"first": "win", "second": "loss"}
    for questions in asked:
        spoken = {one.principle.id: next(left) for one in questions}
        state = prefer([one.principle for one in questions], spoken).state
        counts[names.get(state, state)] += 1
    return counts


def _compared(context: Context, student: Answered, incumbent: Answered) -> Compared:
    prompt = student.prompt
    comparison = Comparison(
        conversation=context.recipe.template.zero_shot(prompt),
        first=student.sample.text,
        second=incumbent.sample.text,
    )
    return Compared(comparison, "gate", prompt.id, (student.sample.id, incumbent.sample.id))


def _conditions(
    gate: Gate,
    before: Sequence[int],
    after: Sequence[int],
    verdicts: dict[str, int],
    accuracy: Change | None,
) -> list[Condition]:
    found = []
    if gate.length is not None:
        ratio, p = median_ratio(before, after), moved(before, after)
        right_way = ratio.value < 1 if gate.length == "shorter" else ratio.value > 1
        found.append(
            Condition(
                name="length",
                found=f"median {ratio.value:.2f} of the incumbent's",
                wanted=f"{gate.length}, p below {gate.alpha:g}",
                p=p,
                passed=right_way and p < gate.alpha,
            )
        )
    if verdicts:
        wins, losses = verdicts["win"], verdicts["loss"]
        p = even(wins, losses)
        found.append(
            Condition(
                name="judge",
                found=f"{wins} wins, {losses} losses",
                wanted=f"more wins, p below {gate.alpha:g}",
                p=p,
                passed=wins > losses and p < gate.alpha,
            )
        )
    if accuracy is not None:
        found.append(
            Condition(
                name="accuracy",
                found=str(accuracy),
                wanted=f"the interval above -{gate.max_loss:.0%}",
                p=None,
                passed=accuracy.low > -gate.max_loss,
            )
        )
    return found


def _tokens(answered: Answered) -> int:
    """Tokens of an answer; words where the endpoint does not count tokens."""
    sample = answered.sample
    return sample.tokens if sample.tokens is not None else len(sample.text.split())


def _id(checkpoint: Checkpoint | None) -> str | None:
    return checkpoint.id if checkpoint else None
