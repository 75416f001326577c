"""Verdicts become preference pairs, frozen as a dataset; what does not is kept with its reason.

People outrank verifiers, verifiers outrank judges, and a judge may only veto what a verifier says.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from judges.aggregate import Decision, Preference, prefer
from judges.guidance import guiding
from judges.judge import Judge
from judges.records import Judgement, VerificationState
from judges.revision import evasive
from pipelines.check import Answered, check
from pipelines.context import Context
from pipelines.freeze import freeze, held_out_of
from pipelines.labelling import human_verdicts_either_way
from pipelines.revising import PURPOSE as REVISED
from pipelines.stages import compare, sample
from pipelines.stages.build import show
from pipelines.stages.compare import Candidate, SideBySide
from pipelines.store import judgements, pairs
from pipelines.store.connection import transaction
from pipelines.store.pairs import Authority, PairRejection, PairRow
from teachers.errors import RoundStopped
from teachers.records import Sample

NAME = "pair"
_AUTHORITY: tuple[Authority, ...] = ("human", "verifier", "construction", "judge")


class Pair(NamedTuple):
    """A comparison with its better side."""

    compared: SideBySide
    first_is_better: bool
    source: Authority
    p: float
    """Probability that the better side is the better one."""
    decisions: tuple[Decision, ...] = ()
    vetoed_by: str | None = None

    @property
    def sides(self) -> tuple[Candidate, Candidate]:
        """The better one first."""
        both = (self.compared.first, self.compared.second)
        return both if self.first_is_better else both[::-1]

    @property
    def chosen(self) -> Sample:
        return self.sides[0].sample

    @property
    def rejected(self) -> Sample:
        return self.sides[1].sample


class Evidence(NamedTuple):
    """Everything that is known of a round's comparisons, by comparison id and by sample id."""

    people: Mapping[str, Judgement]
    verified: Mapping[str, VerificationState]
    judged: Mapping[str, Mapping[str, Judgement]]


async def run(context: Context) -> dict[str, Any]:
    """Freeze the pairs; the report is the yield table.

    Raises:
        RoundStopped: there are too few pairs to learn from.
    """
    judges = _judges(context)
    compared = compare.side_by_side(context, judges)
    evidence = await _evidence(context, judges, compared)
    outcomes = [_labelled(context, one, evidence) for one in compared]
    kept = list(_best(context, [one for one in outcomes if isinstance(one, Pair)]))
    out = [one for one in [*outcomes, *kept] if isinstance(one, PairRejection)]
    kept_pairs = [one for one in kept if isinstance(one, Pair)]
    with transaction(context.db) as db:
        pairs.put_pairs(db, context.round_id, map(_stored, kept_pairs), out)
    table = _yield_table(compared, kept_pairs, out)
    if len(kept_pairs) < context.recipe.pairs.minimum:
        raise RoundStopped(
            f"Only {len(kept_pairs)} pairs can be learned from; the recipe asks for "
            f"{context.recipe.pairs.minimum} (pairs.minimum).\n{show(table)}",
            hint=_ADVICE,
        )
    rows = [_row(context, pair) for pair in kept_pairs]
    samples = [side.id for pair in kept_pairs for side in (pair.chosen, pair.rejected)]
    dataset = freeze(context, "preference", rows, samples)
    return {"dataset": dataset.id, "rows": dataset.rows, "path": str(dataset.path), **table}


_ADVICE = (
    "More prompts or more answers a prompt (teacher.sampling.n), a smaller pairs.min_margin, or "
    "preceptor query 'select reason, count(*) from pair_rejections group by 1' to see what is lost."
)


def _judges(context: Context) -> list[Judge]:
    """Who judged the comparisons; several are a panel."""
    report = context.report(compare.NAME)
    names = [report["judge"], *report.get("panel", ())] if report["judge"] else []
    return [judgements.judge(context.db, name) for name in names]


async def _evidence(
    context: Context, judges: Sequence[Judge], compared: list[SideBySide]
) -> Evidence:
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


def _labelled(context: Context, one: SideBySide, evidence: Evidence) -> Pair | PairRejection:
    """Who is better by the highest authority that has spoken."""
    comparison = one.compared.comparison
    if comparison.identical:
        return PairRejection(comparison.id, "identical")
    preference = prefer(
        context.principles_for(one.prompt),
        evidence.judged.get(comparison.id, {}),
        context.recipe.pairs.min_margin,
    )
    person = evidence.people.get(comparison.id)
    if person is not None:
        if not person.labels:
            return PairRejection(comparison.id, "tie", "people see no better one")
        return Pair(one, person.state == "win", "human", 1.0)
    if one.prompt.verifier != "none":
        return _by_verifier(one, evidence, preference)
    if context.recipe.pairs.source == "construction":
        return _constructed(context, one)
    return _by_judge(context, one, preference)


def _constructed(context: Context, one: SideBySide) -> Pair:
    """The better one is that which was asked for under the principle."""
    principle = guiding(context.principles_for(one.prompt), one.prompt.id)
    decisions = (Decision(principle=principle.id, p=1.0, pull=0.0),) if principle else ()
    return Pair(one, one.first.purpose == sample.UNDER, "construction", 1.0, decisions)


def _by_verifier(
    one: SideBySide, evidence: Evidence, preference: Preference
) -> Pair | PairRejection:
    name = one.compared.comparison.id
    first, second = (
        evidence.verified.get(side.sample.id, "error") for side in (one.first, one.second)
    )
    if {first, second} != {"verified", "refuted"}:
        return PairRejection(name, "not-told-apart", f"verifier: {first} and {second}")
    better = first == "verified"
    if preference.state == ("second" if better else "first"):
        return PairRejection(name, "vetoed-by-judge", "the judge prefers the wrong answer")
    return Pair(one, better, "verifier", 1.0)


def _by_judge(context: Context, one: SideBySide, preference: Preference) -> Pair | PairRejection:
    name = one.compared.comparison.id
    if preference.state not in ("first", "second") or preference.p is None:
        return PairRejection(name, preference.state, f"margin {preference.margin:.2f}")
    if preference.margin > context.recipe.pairs.max_margin:
        return PairRejection(name, "too-clear", f"margin {preference.margin:.2f}")
    better = preference.state == "first"
    sign = 1.0 if better else -1.0
    decisions = tuple(
        made.model_copy(update={"pull": sign * made.pull, "p": made.p if better else 1 - made.p})
        for made in preference.decisions
    )
    p = max(preference.p, 1 - preference.p)
    return Pair(one, better, "judge", p, decisions, preference.vetoed_by)


def _best(context: Context, labelled: list[Pair]) -> Iterator[Pair | PairRejection]:
    """The best pairs of each prompt that nothing speaks against, in the prompts' order.

    The highest authority's come first, then the clearest.
    """
    held_out = held_out_of(context)
    taken: Counter[str] = Counter()
    order = {pair.compared.prompt.id: at for at, pair in reversed(list(enumerate(labelled)))}

    def rank(pair: Pair) -> tuple[int, int, float]:
        return order[pair.compared.prompt.id], _AUTHORITY.index(pair.source), -pair.p

    for pair in sorted(labelled, key=rank):
        name, prompt = pair.compared.compared.comparison.id, pair.compared.prompt
        if fault := _fault(context, pair):
            yield PairRejection(name, *fault)
        elif hit := held_out.find(prompt.question, pair.chosen.text):
            yield PairRejection(name, "contaminated", f"{hit.rule} of held-out {hit.item_id}")
        elif taken[prompt.id] == context.recipe.pairs.per_prompt:
            yield PairRejection(name, "surplus", "its prompt has enough pairs (per_prompt)")
        else:
            taken[prompt.id] += 1
            yield pair


def _fault(context: Context, pair: Pair) -> tuple[str, str] | None:
    """Why a pair may not be learned from."""
    recipe = context.recipe.pairs
    if pair.chosen.finish_reason == "length" and not recipe.allow_cut:
        return "truncated", "the better answer was cut at max_tokens"
    if not pair.chosen.text.strip():
        return "empty", "the better answer says nothing"
    better, worse = pair.sides
    if better.purpose == REVISED and evasive(better.sample.text):
        return "evasive", "the better answer is a revision that only declines"
    if recipe.anchor is not None and worse.purpose != sample.ANCHOR:
        return "anchor-preferred", "the older model's answer is the better one"
    lengths = sorted(len(side.text) for side in (pair.chosen, pair.rejected))
    if recipe.length_ratio is not None and lengths[1] > recipe.length_ratio * lengths[0]:
        return "length-ratio", f"{lengths[1]} against {lengths[0]} characters"
    return None


def _row(context: Context, pair: Pair) -> dict[str, Any]:
    """TRL's conversational preference columns, and how sure the label is."""
    question = context.recipe.template.zero_shot(pair.compared.prompt)
    return {
        "prompt": [message.model_dump() for message in question],
        "chosen": [{"role": "assistant", "content": pair.chosen.text}],
        "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        "p": round(pair.p, 6),
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
