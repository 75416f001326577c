"""Whether a student answers open requests as the constitution says, and has lost nothing by it."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from judges.aggregate import prefer
from judges.records import Comparison
from pipelines.check import Answered
from pipelines.context import Context
from pipelines.gates.conditions import Condition, is_preferred, keeps_accuracy, moves_length
from pipelines.gates.decision import STUDENT
from pipelines.gates.evaluation import Subject, answers
from pipelines.gates.measure import measure, source_for
from pipelines.gates.statistics import Change, change, median_ratio, moved
from pipelines.judging import Question, by_comparison
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
        RoundStopped: too few prompts were answered by both, or no answer could be checked.
        Uncertified: a judge has not passed a principle that it would decide by.
    """
    gate = context.recipe.gate
    before = Subject(incumbent.weights, "zero-shot", _id(incumbent.checkpoint))
    after = Subject(candidate.weights, "zero-shot", candidate.id)
    open_ = [prompt for prompt in prompts if prompt.verifier == "none"]
    checked = [prompt for prompt in prompts if prompt.verifier != "none"]
    old = await _answers(context, before, open_, incumbent.checkpoint, incumbent.name)
    accuracy = await _accuracy(context, checked, incumbent, candidate) if checked else None
    new = await _answers(context, after, open_, candidate, STUDENT)
    both = _by_both(gate, old, new)
    was, is_ = ([_tokens(pair[side]) for pair in both] for side in (0, 1))
    ratio = median_ratio(was, is_)
    verdicts = await _verdicts(context, both)
    conditions = _conditions(gate, ratio, moved(was, is_), verdicts, accuracy)
    failed = [one for one in conditions if not one.passed]
    return Shift(
        promoted=not failed,
        reason="every condition is met" if not failed else "; ".join(map(str, failed)),
        items=len(both),
        lengths={incumbent.name: was, STUDENT: is_},
        length_ratio=ratio,
        verdicts=verdicts,
        accuracy=accuracy,
        conditions=conditions,
    )


async def _accuracy(
    context: Context, prompts: list[Prompt], incumbent: Incumbent, candidate: Checkpoint
) -> Change:
    """How the share of right answers has changed, lenient parser.

    With the recipe's worked examples, where it has some: what is held here is the skill, and a base
    that was never shown the form could lose nothing.
    """
    before = Subject(incumbent.weights, "few-shot", _id(incumbent.checkpoint))
    after = Subject(candidate.weights, "few-shot", candidate.id)
    was = await measure(context, before, prompts, incumbent.checkpoint, incumbent.name)
    is_ = await measure(context, after, prompts, candidate, STUDENT)
    undecided = was.undecided() | is_.undecided()
    if len(undecided) == len(prompts):
        raise RoundStopped(
            f"The checks of all {len(prompts)} held-out answers failed.",
            hint="Run the same command again: only those are checked.",
        )
    was, is_ = was.without(undecided), is_.without(undecided)
    return change(was.right("lenient"), is_.right("lenient"))


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


Both = tuple[Answered, Answered]
"""The incumbent's answer and the student's, to one prompt."""


def _by_both(gate: Gate, old: Mapping[str, Answered], new: Mapping[str, Answered]) -> list[Both]:
    both = [(old[name], new[name]) for name in old if name in new]
    if len(both) < gate.min_items:
        raise RoundStopped(
            f"{len(both)} open held-out prompts were answered by both; the gate wants "
            f"{gate.min_items}.",
            hint="Raise held_out of the supply's files, or lower gate.min_items.",
        )
    return both


async def _verdicts(context: Context, pairs: Sequence[Both]) -> dict[str, int]:
    """How often the judges prefer the student's answer; nothing without a judge."""
    jurors = await sworn_in(context)
    if not jurors:
        return {}
    asked = [
        Question(_compared(context, *pair), principle)
        for pair in pairs
        for principle in context.principles_for(pair[0].prompt)
    ]
    spoken = by_comparison(asked, await judged_by(context, jurors, asked, "judge the gate"))
    counts = {"win": 0, "loss": 0, "tie": 0, "undecided": 0}
    names = {"first": "win", "second": "loss"}
    for pair in pairs:
        said = spoken.get(_compared(context, *pair).comparison.id, {})
        state = prefer(context.principles_for(pair[0].prompt), said).state
        counts[names.get(state, state)] += 1
    return counts


def _compared(context: Context, incumbent: Answered, student: Answered) -> Compared:
    prompt = student.prompt
    comparison = Comparison(
        conversation=context.recipe.template.zero_shot(prompt),
        first=student.sample.text,
        second=incumbent.sample.text,
    )
    return Compared(comparison, "gate", prompt.id, (student.sample.id, incumbent.sample.id))


def _conditions(
    gate: Gate,
    ratio: Change,
    moved_p: float,
    verdicts: dict[str, int],
    accuracy: Change | None,
) -> list[Condition]:
    """Those that this round can be held to: it has a direction, a judge, tasks with an answer."""
    found = []
    if gate.length is not None:
        found.append(moves_length(gate, ratio, moved_p))
    if verdicts:
        found.append(is_preferred(gate, verdicts["win"], verdicts["loss"]))
    if accuracy is not None:
        found.append(keeps_accuracy(gate, accuracy))
    return found


def _tokens(answered: Answered) -> int:
    """Tokens of an answer; words where the endpoint does not count tokens."""
    sample = answered.sample
    return sample.tokens if sample.tokens is not None else len(sample.text.split())


def _id(checkpoint: Checkpoint | None) -> str | None:
    return checkpoint.id if checkpoint else None
