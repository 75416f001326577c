"""Verdicts become preference pairs, frozen as a dataset; what does not is kept with its reason.

People outrank verifiers, verifiers outrank judges, and a judge may only veto what a verifier says.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from judges.judge import Judge
from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.freeze import freeze, held_out_of
from pipelines.hygiene.split import kept_back
from pipelines.labelling import human_verdicts_either_way
from pipelines.pairing import Evidence, Pair, best, labelled, preference_of
from pipelines.stages import compare
from pipelines.stages.build import show
from pipelines.stages.compare import SideBySide
from pipelines.store import judgements, pairs
from pipelines.store.connection import transaction
from pipelines.store.pairs import PairRejection, PairRow
from teachers.errors import RoundStopped

NAME = "pair"


async def run(context: Context) -> dict[str, Any]:
    """Freeze the pairs; the report is the yield table.

    Raises:
        RoundStopped: there are too few pairs to learn from.
    """
    judges = judges_of(context)
    compared = compare.side_by_side(context, judges)
    evidence = await evidence_of(context, judges, compared)
    outcomes = [_outcome(context, one, evidence) for one in compared]
    found = [one for one in outcomes if isinstance(one, Pair)]
    kept = list(best(context.recipe.pairs, held_out_of(context.db, context.round_id), found))
    out = [one for one in [*outcomes, *kept] if isinstance(one, PairRejection)]
    kept_pairs = [one for one in kept if isinstance(one, Pair)]
    with transaction(context.db) as db:
        pairs.put_pairs(db, context.round_id, map(_stored, kept_pairs), out)
    table = _yield_table(compared, kept_pairs, out)
    learned = [one for one in kept_pairs if not is_held_out(context, one.compared.prompt.id)]
    if len(learned) < context.recipe.pairs.minimum:
        raise RoundStopped(
            f"Only {len(learned)} pairs can be learned from; the recipe asks for "
            f"{context.recipe.pairs.minimum} (pairs.minimum).\n{show(table)}",
            hint=_ADVICE,
        )
    if context.recipe.train.objective == "reward":
        table["held_out"] = len(kept_pairs) - len(learned)
        _refuse_unmeasurable(context, table["held_out"])
    rows = [_row(context, pair) for pair in learned]
    samples = [side.id for pair in learned for side in (pair.chosen, pair.rejected)]
    dataset = freeze(context, "preference", rows, samples)
    return {"dataset": dataset.id, "rows": dataset.rows, "path": str(dataset.path), **table}


_ADVICE = (
    "More prompts or more answers a prompt (teacher.sampling.n), a smaller pairs.min_margin, or "
    "preceptor query 'select reason, count(*) from pair_rejections group by 1' to see what is lost."
)


def is_held_out(context: Context, prompt_id: str) -> bool:
    """Whether a prompt's pairs are not learned from, because a reward model is measured on them."""
    recipe = context.recipe
    return recipe.train.objective == "reward" and kept_back(prompt_id, recipe.appraisal.held_out)


def _refuse_unmeasurable(context: Context, held_out: int) -> None:
    """Said before training: nothing could show whether the reward model is any good."""
    if held_out < (least := context.recipe.appraisal.min_pairs):
        raise RoundStopped(
            f"{held_out} pairs are held out to measure the reward model on, and it takes {least} "
            "(appraisal.min_pairs).",
            hint="More prompts, a larger appraisal.held_out, or a smaller appraisal.min_pairs.",
        )


def judges_of(context: Context) -> list[Judge]:
    """Who judged the comparisons; several are a panel."""
    report = context.report(compare.NAME)
    names = [report["judge"], *report.get("panel", ())] if report["judge"] else []
    return [judgements.judge(context.db, name) for name in names]


async def evidence_of(
    context: Context, judges: Sequence[Judge], compared: list[SideBySide]
) -> Evidence:
    """What is known of comparisons; right answers are verified if they are not yet."""
    answered = {
        side.sample.id: Answered(side.sample, one.prompt)
        for one in compared
        for side in (one.first, one.second)
        if one.prompt.verifier != "none"
    }
    return Evidence(
        people=human_verdicts_either_way(context.db, [one.compared.comparison for one in compared]),
        verified=await check(context, list(answered.values()), "strict", "verify answers"),
        judged=compare.verdicts(context, judges, compared) if judges else {},
    )


def _outcome(context: Context, one: SideBySide, evidence: Evidence) -> Pair | PairRejection:
    """Who is better, where somebody says so."""
    rules, principles = context.recipe.pairs, context.principles_for(one.prompt)
    preference = preference_of(rules, principles, one, evidence)
    return labelled(rules, principles, one, evidence, preference)


def _row(context: Context, pair: Pair) -> dict[str, Any]:
    """TRL's conversational preference columns, and how sure the label is; for a reward model, also
    who says so and how much that counts."""
    recipe = context.recipe
    question = recipe.template.zero_shot(pair.compared.prompt)
    by = {"source": pair.source, "weight": recipe.pairs.weights.get(pair.source, 1.0)}
    return {
        "prompt": [message.model_dump() for message in question],
        "chosen": [{"role": "assistant", "content": pair.chosen.text}],
        "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        "p": round(pair.p, 6),
        **(by if recipe.train.objective == "reward" else {}),
    }


def _stored(pair: Pair) -> PairRow:
    return PairRow(
        pair.compared.compared.comparison.id,
        pair.chosen.id,
        pair.rejected.id,
        pair.source,
        pair.p,
        pair.decisions,
        pair.vetoed_by,
    )


def _yield_table(
    compared: list[SideBySide], kept: list[Pair], out: Iterable[PairRejection]
) -> dict[str, Any]:
    longer = [len(pair.chosen.text) > len(pair.rejected.text) for pair in kept]
    return {
        "samples": len({side.sample.id for one in compared for side in (one.first, one.second)}),
        "comparisons": len(compared),
        "kept": len(kept),
        "kept_by_source": dict(Counter(pair.source for pair in kept).most_common()),
        # A dataset in which the longer answer nearly always wins teaches length, whatever it says.
        "chosen_longer": round(sum(longer) / len(longer), 3) if longer else None,
        "rejected": dict(Counter(one.reason for one in out).most_common()),
    }
