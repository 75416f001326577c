"""What a judge of one's own learns from: open cases, and pairs whose better side was constructed.

Each row is two prompts of the very form in which the judge will be asked, one with the better
answer in it. Sealed cases and a share of the constructed pairs are kept for its certification.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from judges.constitution import Constitution, Principle
from judges.guidance import guiding
from judges.judge import following
from judges.records import Answer, Comparison
from judges.score import score_call
from pipelines.certification import case_pair
from pipelines.context import Context
from pipelines.freeze import freeze
from pipelines.gold import Known
from pipelines.hygiene.split import kept_back
from pipelines.stages import compare, sample
from pipelines.store import judgements
from pipelines.store.connection import transaction
from teachers.errors import RoundStopped

NAME = "lessons"


class Lesson(NamedTuple):
    """A pair whose better answer by a principle is known."""

    principle: Principle
    known: Known
    origin: Literal["case", "constructed"]
    kept_back: bool
    """For certification alone."""
    samples: tuple[str, ...] = ()


async def run(context: Context) -> dict[str, Any]:
    """Freeze the judge's lessons; the report counts them by principle and origin.

    Raises:
        RoundStopped: there is nothing to learn from.
    """
    every = every_lesson(context)
    _refuse_without_sealed(context, every)
    open_ = [one for one in every if not one.kept_back]
    if not open_:
        raise RoundStopped(
            "There is no lesson for a judge.",
            hint="Principles need open cases, or an opposite and pairs.guided answers.",
        )
    with transaction(context.db) as db:
        judgements.add_comparisons(db, (one.known.compared for one in open_))
    rows = [_row(context, one) for one in open_]
    # A constructed pair teaches two principles; its samples are named once.
    samples = dict.fromkeys(name for one in open_ for name in one.samples)
    dataset = freeze(context, "judge", rows, list(samples))
    counts: dict[str, int] = {}
    for one in open_:
        key = f"{one.principle.id} ({one.principle.text_id[:8]}), {one.origin}"
        counts[key] = counts.get(key, 0) + 1
    return {
        "constitutions": [one.id for one in context.constitutions],
        "dataset": dataset.id,
        "rows": dataset.rows,
        "path": str(dataset.path),
        "of": counts,
    }


def _refuse_without_sealed(context: Context, every: Sequence[Lesson]) -> None:
    """Said before training: without sealed cases nothing can certify the judge."""
    least = context.recipe.lessons.certify.min_cases
    sealed = Counter(
        one.principle.text_id for one in every if one.origin == "case" and one.kept_back
    )
    for principle in taught(context):
        if sealed[principle.text_id] < least:
            raise RoundStopped(
                f"The principle {principle.id!r} has {sealed[principle.text_id]} sealed cases to "
                f"certify a judge on, and it takes {least} (lessons.certify.min_cases).",
                hint="Mark half of its cases `sealed: true`, and write more if that is too few.",
            )


def taught(context: Context) -> list[Principle]:
    """Every principle that the judge is to learn, the opposite ones of other versions included."""
    found = {one.text_id: one for one in context.principles}
    for constitution in context.constitutions[1:]:
        for principle in _chosen(context, constitution):
            found.setdefault(principle.text_id, principle)
    return list(found.values())


def every_lesson(context: Context) -> list[Lesson]:
    """Cases and constructed pairs, those that are kept back included."""
    cases = [
        Lesson(principle, case_pair(case), "case", case.sealed)
        for principle in taught(context)
        for case in principle.cases
    ]
    return cases + list(_constructed(context))


def learned(context: Context) -> list[Comparison]:
    """What the judge is trained on, so that it is never certified on it."""
    return [one.known.compared.comparison for one in every_lesson(context) if not one.kept_back]


def _chosen(context: Context, constitution: Constitution) -> Sequence[Principle]:
    names = context.recipe.principles
    return [one for one in constitution.principles if not names or one.id in names]


def _constructed(context: Context) -> Iterator[Lesson]:
    """What was answered under a principle is better by it, and worse by its opposite."""
    by_text = {one.text: one for one in taught(context)}
    for one in compare.side_by_side(context, ()):
        principle = guiding(context.principles_for(one.prompt), one.prompt.id)
        if principle is None or one.compared.comparison.identical:
            continue
        under_first = one.first.purpose == sample.UNDER
        samples = (one.first.sample.id, one.second.sample.id)
        back = kept_back(one.prompt.id, context.recipe.lessons.held_out)
        pair = Known(one.compared, under_first)
        yield Lesson(principle, pair, "constructed", back, samples)
        if opposite := by_text.get(principle.opposite):
            pair = Known(one.compared, not under_first)
            yield Lesson(opposite, pair, "constructed", back, samples)


def _row(context: Context, lesson: Lesson) -> dict[str, Any]:
    judge = following(context.base.fingerprint)
    comparison = lesson.known.compared.comparison
    texts = (comparison.first, comparison.second)
    better, worse = texts if lesson.known.first_is_better else reversed(texts)
    prompts = (
        score_call(
            judge, Answer(conversation=comparison.conversation, text=text), lesson.principle
        ).messages
        for text in (better, worse)
    )
    first, second = ([turn.model_dump() for turn in messages] for messages in prompts)
    return {"better": first, "worse": second}
