"""A round's answers put side by side, and what the judges say of them by each principle."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

from judges.judge import Judge
from judges.records import Comparison, Judgement
from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.judging import Question, Spoken, by_comparison
from pipelines.jury import judged_by, settled_by, sworn_in
from pipelines.revising import PURPOSE as REVISED
from pipelines.stages import revise, sample
from pipelines.store import calls, judgements, labels
from pipelines.store.connection import transaction
from pipelines.store.judgements import Compared
from teachers.errors import RoundStopped
from teachers.records import Prompt, Sample, content_id

NAME = "compare"
# A pair that is too long for the judge now and then is no reason to stop.
MOST_LOST = 0.1


async def run(context: Context) -> dict[str, Any]:
    """Judge the round's comparisons; the report counts the verdicts of each principle.

    Raises:
        Uncertified: a judge has not passed a principle that it would label with.
        RoundStopped: too many verdicts could not be had.
    """
    checkable = [
        Answered(one.sample, prompt)
        for prompt, found in candidates(context)
        for one in found
        if prompt.verifier != "none"
    ]
    await check(context, checkable, "strict", "verify answers")
    by = context.constitutions[0].id
    # Also where only the gate will ask them: better refused now than after training.
    jurors = await sworn_in(context)
    if context.recipe.pairs.source == "construction":
        jurors = []
    compared = side_by_side(context, [one.seat.judge for one in jurors])
    # All of them: what becomes of one is kept also where nobody is asked about it.
    with transaction(context.db) as db:
        judgements.add_comparisons(db, (one.compared for one in compared))
    if not jurors:
        return {"constitution": by, "comparisons": len(compared), "judge": None}
    asked = questions(context, compared)
    _refuse_unasked(context, compared, asked)
    found = await judged_by(context, jurors, asked, "judge answers")
    _refuse_unjudged(found)
    first, *others = jurors
    return {
        "constitution": by,
        "comparisons": len(compared),
        "judge": first.seat.judge.id,
        "certified": first.figures,
        "panel": {one.seat.judge.id: one.figures for one in others},
        "verdicts": _states(asked, found),
    }


def _refuse_unasked(
    context: Context, compared: Sequence["SideBySide"], asked: Sequence[Question]
) -> None:
    """Nothing else would tell these answers apart."""
    if asked or any(one.prompt.verifier != "none" for one in compared):
        return
    scopes = "; ".join(f"{one.id}: {one.scope.in_words}" for one in context.principles)
    raise RoundStopped(
        f"No principle is about any of the round's prompts ({scopes}).",
        hint="A scope's tags are the names of tasks (supply), and matching is searched in the "
        "question: constitutions/README.md.",
    )


def _refuse_unjudged(found: Sequence[Judgement]) -> None:
    lost = sum(one.state == "error" for one in found)
    if lost > MOST_LOST * len(found):
        raise RoundStopped(
            f"{lost} of {len(found)} verdicts could not be had.",
            hint="preceptor query \"select error, count(*) from calls where state = 'failed'"
            ' group by 1" says why (too long: engine.max_model_len); the same command asks again.',
        )


class Candidate(NamedTuple):
    """An answer that may become a side of a pair."""

    sample: Sample
    purpose: str
    """How it was asked for, as in `stages.sample`; or that it is a revision."""
    revision: Sample | None = None
    """What it was revised to, where that changed it."""


class SideBySide(NamedTuple):
    """Two candidates of one prompt."""

    prompt: Prompt
    first: Candidate
    second: Candidate
    compared: Compared


def candidates(context: Context) -> Iterator[tuple[Prompt, list[Candidate]]]:
    """The answers to each training prompt, in the prompts' order."""
    stored = calls.prompts_of(context.db, context.round_id)
    asked = sample.wanted(context)
    samples = calls.samples_of(context.db, [one.call.id for one in asked])
    revised = revise.revisions(context)
    by_prompt: dict[str, list[Candidate]] = {}
    for one in asked:
        found = [
            Candidate(answer, one.purpose, revised.get(answer.id))
            for answer in samples.get(one.call.id, ())
        ]
        by_prompt.setdefault(one.prompt_id, []).extend(found)
    return ((prompt, by_prompt[prompt.id]) for prompt, _ in stored if prompt.id in by_prompt)


def side_by_side(context: Context, judges: Sequence[Judge]) -> list[SideBySide]:
    """The comparisons of the round: all that the judges are asked about, or by construction."""
    labelled = labels.labelled_samples(context.db, "round")
    # Who says the same twice is compared once; so is what both a person and a judge looked at.
    distinct: dict[str, SideBySide] = {}
    for prompt, found in candidates(context):
        for two in [*_pairs(context, judges, found), *_labelled(found, labelled)]:
            one = _compared(context, prompt, *two)
            distinct.setdefault(one.compared.comparison.unordered, one)
    return list(distinct.values())


def questions(context: Context, compared: Sequence[SideBySide]) -> list[Question]:
    """Each comparison by each principle that is about its prompt."""
    return [
        Question(one.compared, principle)
        for one in compared
        for principle in context.principles_for(one.prompt)
    ]


def verdicts(context: Context, judges: Sequence[Judge], compared: Sequence[SideBySide]) -> Spoken:
    """What is stored of each comparison."""
    asked = questions(context, compared)
    said = settled_by(context, judges, asked, context.recipe.quorum)
    return by_comparison(asked, said)


def _pairs(
    context: Context, judges: Sequence[Judge], found: Sequence[Candidate]
) -> list[tuple[Candidate, Candidate]]:
    anchors = [one for one in found if one.purpose == sample.ANCHOR]
    ours = [one for one in found if one.purpose != sample.ANCHOR]
    if not judges:
        under = [one for one in ours if one.purpose == sample.UNDER]
        against = anchors or [one for one in ours if one.purpose == sample.AGAINST]
        return list(zip(under, against, strict=False))
    every = list(product(ours, anchors) if anchors else combinations(ours, 2))
    revised = [(one, Candidate(one.revision, REVISED)) for one in ours if one.revision]
    if all(judge.kind == "score" for judge in judges):
        return revised + every  # each answer is graded once, however many pairs it is in
    chosen = sorted(revised, key=_chance) + sorted(every, key=_chance)
    return chosen[: context.recipe.pairs.comparisons]


def _labelled(
    found: Sequence[Candidate], labelled: Collection[frozenset[str]]
) -> list[tuple[Candidate, Candidate]]:
    """Answers that people have compared, whether a judge was to be asked about them or not."""
    return [
        two for two in combinations(found, 2) if frozenset(one.sample.id for one in two) in labelled
    ]


def _chance(two: tuple[Candidate, Candidate]) -> str:
    """For a choice that does not depend on the order in which answers came."""
    return content_id("choice", [one.sample.id for one in two])


def _compared(context: Context, prompt: Prompt, first: Candidate, second: Candidate) -> SideBySide:
    if second.sample.id < first.sample.id:  # the same two answers are one comparison
        first, second = second, first
    comparison = Comparison(
        conversation=context.recipe.template.zero_shot(prompt),
        first=first.sample.text,
        second=second.sample.text,
    )
    samples = (first.sample.id, second.sample.id)
    return SideBySide(prompt, first, second, Compared(comparison, "round", prompt.id, samples))


def _states(asked: Sequence[Question], found: Sequence[Judgement]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for question, judgement in zip(asked, found, strict=True):
        counts.setdefault(question.principle.id, Counter())[judgement.state] += 1
    return {name: dict(count.most_common()) for name, count in counts.items()}
