"""Stored answers rated by a reward model, and the best of each prompt's."""

from collections.abc import Iterable
from typing import NamedTuple

from pipelines.recipe import Recipe
from pipelines.scoring import Answer, reward_model, scored
from pipelines.stages.sample import AGAINST, ANCHOR, PURPOSE, UNDER
from pipelines.store import answers, calls
from pipelines.store.answers import StoredAnswer
from pipelines.training.reward_notes import Norm
from pipelines.workbench import Workbench
from teachers.errors import ConfigError
from teachers.records import Message

ASKED_FOR = (PURPOSE, UNDER, AGAINST, ANCHOR)
"""Purposes of the calls whose answers are rated: what a judge or a student in an eval said is no
candidate for anything."""


class Rated(NamedTuple):
    """A stored answer and its score."""

    answer: StoredAnswer
    question: tuple[Message, ...]
    score: float
    """In deviations from the mean of usual answers."""


async def rated(
    bench: Workbench, name: str, round_id: str | None = None, prompt: str = ""
) -> list[Rated]:
    """Every stored answer with its score, prompt by prompt in the order they were given.

    Args:
        name: of the reward model.
        round_id: only answers to this round's prompts: its id's beginning.
        prompt: only those whose prompt's id begins so.

    Raises:
        ConfigError: there is no such reward model, or no such answer.
        Uncertified: the reward model has not passed its appraisal.
    """
    model = reward_model(bench.db, name)
    found = answers.of(bench.db, ASKED_FOR, round_id, prompt)
    if not found:
        raise ConfigError("No stored answer fits.", hint="preceptor status lists the rounds.")
    prompts = calls.prompts(bench.db, [one.prompt_id for one in found])
    recipes = {
        name: Recipe.model_validate_json(text)
        for name, text in answers.recipes(bench.db, {one.round_id for one in found}).items()
    }
    questions = [recipes[one.round_id].template.zero_shot(prompts[one.prompt_id]) for one in found]
    asked = [
        Answer(one.sample_id, question, one.text)
        for one, question in zip(found, questions, strict=True)
    ]
    norm = Norm.read(model.adapter)
    scores = await scored(bench, model, asked, "score answers")
    return [
        Rated(one, question, norm.apply(score))
        for one, question, score in zip(found, questions, scores, strict=True)
    ]


def best_of(rated: Iterable[Rated], n: int, at_least: float | None = None) -> list[Rated]:
    """The highest score among each prompt's first n answers; of equals, the first.

    Answers that were cut teach no end, and are passed over.

    Args:
        at_least: prompts whose best answer scores less are left out: rejection sampling.
    """
    groups: dict[str, list[Rated]] = {}
    for one in rated:
        if one.answer.finish_reason != "length":
            groups.setdefault(one.answer.prompt_id, []).append(one)
    best = (max(group[:n], key=_score) for group in groups.values())
    return [one for one in best if at_least is None or one.score >= at_least]


def _score(one: Rated) -> float:
    return one.score
