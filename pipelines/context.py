"""What the stages of a round share: the workbench, the recipe, the base, the verifiers."""

import contextlib
from typing import Any

from judges.constitution import Constitution, Principle, about
from judges.verifiers.pool import Pool
from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.scoring import reward_model
from pipelines.source import CHECKPOINT, prepared
from pipelines.store import calls, constitutions, labels, rounds
from pipelines.store.connection import connect
from pipelines.workbench import Workbench
from teachers.files import sha256_of
from teachers.progress import Progress
from teachers.records import Prompt, content_id

VERIFIER_PROCESSES = 2


class Context(Workbench):
    """One round's workbench.

    Args:
        recipe: what the round is.
        home: where everything is kept.
        progress: who shows how far it is.
        number: which round of this recipe.
        round_id: that of a round that has begun, whatever has moved since.

    Raises:
        Busy: another process is at work in this home.
    """

    def __init__(
        self, recipe: Recipe, home: Home, progress: Progress, number: int = 1, round_id: str = ""
    ) -> None:
        super().__init__(home, progress, recipe.engine, concurrency=recipe.teacher.concurrency)
        self.recipe, self.number = recipe, number
        self.base = prepared(recipe.student.weights, home, progress)
        self.constitutions = _constitutions(recipe, home)
        self.round_id = round_id or self._identity()

    def _identity(self) -> str:
        """Of the round, by all that it is made from, as that is now."""
        recipe = self.recipe
        what = [recipe.identity, self.base.fingerprint, self.number, _read(recipe)]
        what += [one.id for one in self.constitutions]
        what += _checkpoints(recipe, self.home, self.progress)
        what += _labels(recipe, self.home)
        return content_id("round", what)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        await super()._open(stack)
        self.pool = await stack.enter_async_context(Pool(VERIFIER_PROCESSES))

    @property
    def principles(self) -> list[Principle]:
        """The principles that this round is about."""
        if not self.constitutions:
            return []
        first = self.constitutions[0]
        names = self.recipe.principles or [one.id for one in first.principles]
        return [first.principle(name) for name in names]

    def deciding(self) -> list[Principle]:
        """Those that can decide something: with a weight or a veto, and about some prompt."""
        prompts = [prompt for prompt, _ in calls.prompts_of(self.db, self.round_id)]
        about = {one.id for prompt in prompts for one in self.principles_for(prompt)}
        return [one for one in self.principles if one.counts and one.id in about]

    def principles_for(self, prompt: Prompt) -> list[Principle]:
        """Those that are about this prompt."""
        return about(self.principles, prompt)

    def report(self, stage: str) -> dict[str, Any]:
        """What an earlier stage of this round reported; the flow puts it before whoever asks."""
        report = rounds.report_of(self.db, self.round_id, stage)
        assert report is not None, f"the stage {stage} comes first"
        return report


def _constitutions(recipe: Recipe, home: Home) -> list[Constitution]:
    """The recipe's constitution, and those that a judge learns beside it."""
    if recipe.constitution is None:
        return []
    with contextlib.closing(connect(home.store)) as db:
        names = (recipe.constitution, *recipe.lessons.constitutions)
        return [constitutions.resolve(name, db) for name in names]


def _checkpoints(recipe: Recipe, home: Home, progress: Progress) -> list[str]:
    """What the recipe's checkpoints are now, the base aside: a moved alias makes another round."""
    judges = [judge.weights for judge in recipe.judges]
    names = (recipe.teacher.weights, *judges, recipe.pairs.anchor)
    named = [name for name in names if name and name.startswith(CHECKPOINT)]
    found = [prepared(name, home, progress).fingerprint for name in named]
    if recipe.reward_model is not None:
        with contextlib.closing(connect(home.store)) as db:
            found.append(reward_model(db, recipe.reward_model.weights).weights)
    return found


def _labels(recipe: Recipe, home: Home) -> list[str]:
    """What people have said so far: another label makes another round, which asks nothing again."""
    if not recipe.train.wants_pairs:
        return []
    with contextlib.closing(connect(home.store)) as db:
        digest = labels.digest(db, "round")
    return [digest] if digest else []


def _read(recipe: Recipe) -> list[str]:
    """What the recipe's files hold: a changed file makes another round."""
    paths = [file.path for file in recipe.supply.files]
    return [sha256_of(path) if path.is_file() else "" for path in paths]
