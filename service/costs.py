"""How much a recipe's round can come to at most: the calls that it makes, the rows that it gets."""

from collections.abc import Iterable, Sequence
from math import comb
from typing import NamedTuple

from judges.constitution import Constitution, Principle
from pipelines.recipe import Generator, JudgeSection, PromptFile, Recipe


class Prompts(NamedTuple):
    """Prompts of some sources, at most: a file may have fewer."""

    train: int
    held_out: int


class Calls(NamedTuple):
    """Calls of a whole round, at most."""

    teacher: int
    judge: int
    gate: int


def prompts(recipe: Recipe) -> Prompts:
    """All prompts."""
    return _sum(recipe.supply.sources)


def open_prompts(recipe: Recipe) -> Prompts:
    """Those without a right answer."""
    return _sum(file for file in recipe.supply.files if file.verifier == "none")


def rows(recipe: Recipe) -> int:
    """Rows of the dataset: answers for sft, pairs for preference objectives."""
    train = prompts(recipe).train
    if recipe.train.wants_pairs:
        return train * min(recipe.pairs.per_prompt, _pairs(recipe))
    return train * min(recipe.build.per_prompt, recipe.teacher.sampling.n)


def rollouts(recipe: Recipe) -> int:
    """Answers of the policy in training."""
    section = recipe.rollouts
    return section.batches * section.size * section.draws if recipe.train.wants_rollouts else 0


def calls(recipe: Recipe, constitutions: Sequence[Constitution]) -> Calls:
    """What a round asks, where nothing is stored yet.

    Args:
        constitutions: the recipe's own, then those that a judge learns beside it.
    """
    principles = [
        one
        for constitution in constitutions
        for one in constitution.principles
        if not recipe.principles or one.id in recipe.principles
    ]
    return Calls(_teacher(recipe), _judges(recipe, principles), _gate(recipe))


def _sum(sources: Iterable[Generator | PromptFile]) -> Prompts:
    both = [(source.train, source.held_out) for source in sources]
    return Prompts(sum(train for train, _ in both), sum(held_out for _, held_out in both))


def _pairs(recipe: Recipe) -> int:
    """Pairs of answers to one prompt."""
    if recipe.pairs.source == "construction":
        return recipe.pairs.guided
    n, ours = recipe.teacher.sampling.n, _answers(recipe)
    revised = n if recipe.pairs.revisions else 0
    return revised + (ours * n if recipe.pairs.anchor else comb(ours, 2))


def _answers(recipe: Recipe) -> int:
    """Answers to one prompt, those of an older model and revisions aside."""
    return recipe.teacher.sampling.n + 2 * recipe.pairs.guided


def _teacher(recipe: Recipe) -> int:
    train = prompts(recipe).train
    if recipe.train.wants_rollouts:
        return 0  # the student answers while it is trained: `rollouts`
    if recipe.train.objective == "sft":
        return train
    plain = 0 if recipe.pairs.source == "construction" else 1
    guided = 2 if recipe.pairs.guided else 0
    anchor = 1 if recipe.pairs.anchor else 0
    # A critique and a revision each.
    revising = 2 * recipe.pairs.revisions * recipe.teacher.sampling.n * open_prompts(recipe).train
    return train * (plain + guided + anchor) + revising


def _judges(recipe: Recipe, principles: Sequence[Principle]) -> int:
    """Every pair takes two calls: both orders of a comparison, or a grade of each answer."""
    if recipe.train.objective == "judge":
        sealed = sum(case.sealed for one in principles for case in one.cases)
        # A constructed pair tests a principle and its opposite; the base is measured as well.
        constructed = 2 * prompts(recipe).train * recipe.pairs.guided
        return 2 * 2 * (sealed + constructed)
    if not recipe.train.wants_pairs and not recipe.prefers:
        return 0
    cases = sum(len(one.cases) for one in principles)
    asked = open_prompts(recipe).held_out if recipe.prefers else 0
    gate = 2 * asked * len(principles)
    return sum(
        (2 * cases + _labelling(recipe) * len(principles) + gate) * (2 if judge.rationale else 1)
        for judge in recipe.judges
    )


def _labelling(recipe: Recipe) -> int:
    """Calls of one judge to label the training prompts by one principle."""
    if recipe.pairs.source == "construction" or recipe.train.wants_rollouts:
        return 0
    train, n = prompts(recipe).train, recipe.teacher.sampling.n
    if all(map(_grades, recipe.judges)):  # each answer once, however many pairs it is in
        more = (n if recipe.pairs.anchor else 0) + (n if recipe.pairs.revisions else 0)
        return train * (_answers(recipe) + more)
    return train * 2 * min(recipe.pairs.comparisons, _pairs(recipe))


def _grades(judge: JudgeSection) -> bool:
    return judge.kind != "compare"


def _gate(recipe: Recipe) -> int:
    """Answers to held-out prompts: student, base or champion; for sft also the few-shot base."""
    if not recipe.train.makes_student:
        return 0
    asked = 2 if recipe.prefers else 3 + recipe.gate.beat_few_shot
    return prompts(recipe).held_out * asked
