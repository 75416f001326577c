"""The teacher criticises and revises its plain answers to open requests, round by round.

Whether a revision is better than its draft is for the judges to say: see `compare` and `pair`.
"""

from collections import Counter
from typing import Any

from judges.constitution import Constitution
from judges.records import Answer
from judges.revision import evasive
from pipelines.context import Context
from pipelines.kinship import refuse_the_reviser
from pipelines.revising import Draft, recalled, revised
from pipelines.stages import sample
from pipelines.store import calls
from teachers.records import Sample

NAME = "revise"


async def run(context: Context) -> dict[str, Any]:
    """Revise the drafts; the report counts what came of them.

    Raises:
        RoundStopped: the teacher would judge its own revisions.
        EndpointError: the teacher cannot be asked.
    """
    recipe = context.recipe
    refuse_the_reviser(context, recipe.judges, recipe.reviser)
    found = await revised(
        context,
        recipe.reviser,
        _drafts(context),
        _constitution(context),
        rounds=recipe.pairs.revisions,
        # As long as the answer itself was allowed to be.
        max_tokens=recipe.teacher.sampling.max_tokens,
    )
    changed = [one.text for one in found if one.changed]
    ends = Counter(one.rounds[-1].stop or "taken" for one in found if one.rounds)
    return {
        "drafts": len(found),
        "revised": len(changed),
        "evasive": sum(map(evasive, changed)),
        "last_round": dict(ends.most_common()),
    }


def revisions(context: Context) -> dict[str, Sample]:
    """What drafts were revised to, by the draft's id; those that did not change are missing.

    A revision is the reply that it was read from, with the wrapping taken off its text.
    """
    rounds = context.recipe.pairs.revisions
    if not rounds:
        return {}
    found = recalled(
        context, context.recipe.reviser, _drafts(context), _constitution(context), rounds=rounds
    )
    last = {one.draft.sample_id or "": one.last for one in found if one.last}
    replies = calls.samples_of(context.db, [row.revision_call or "" for row in last.values()])
    return {
        name: replies[row.revision_call or ""][0].model_copy(update={"text": row.text})
        for name, row in last.items()
    }


def _drafts(context: Context) -> list[Draft]:
    """The plain answers to open requests; one that was given twice is one draft."""
    stored = calls.prompts_of(context.db, context.round_id)
    open_ = {prompt.id: prompt for prompt, _ in stored if prompt.verifier == "none"}
    asked = [
        (one, open_[one.prompt_id])
        for one in sample.wanted(context)
        if one.purpose == sample.PURPOSE and one.prompt_id in open_
    ]
    samples = calls.samples_of(context.db, [one.call.id for one, _ in asked])
    drafts: dict[str, Draft] = {}
    for one, prompt in asked:
        conversation = context.recipe.template.zero_shot(prompt)
        for given in samples.get(one.call.id, ()):
            answer = Answer(conversation=conversation, text=given.text)
            drafts.setdefault(answer.id, Draft(answer, prompt, given.id))
    return list(drafts.values())


def _constitution(context: Context) -> Constitution:
    """The recipe's, with those principles alone that the recipe is about."""
    whole = context.constitutions[0]
    return whole.model_copy(update={"principles": tuple(context.principles)})
