"""A recipe whose names stand for what they stood for at one moment: ids in place of aliases."""

from collections.abc import Sequence
from typing import Any

from sqlite_utils import Database

from judges.constitution import Constitution
from pipelines.recipe import Recipe
from pipelines.source import CHECKPOINT
from pipelines.store import checkpoints, constitutions


def pinned(recipe: Recipe, versions: Sequence[Constitution], db: Database) -> Recipe:
    """Store the constitutions of a recipe, and name them and its checkpoints by their ids.

    Args:
        versions: what its constitutions are now, in its order.

    Raises:
        ConfigError: there is no such checkpoint.
    """

    def weights(section: Any) -> Any:
        """A section that names a model, or None."""
        if section is None or section.weights is None:
            return section
        return section.model_copy(update={"weights": _pinned(section.weights, db)})

    for version in versions:
        constitutions.keep(db, version)
    changed: dict[str, Any] = {
        name: weights(getattr(recipe, name))
        for name in ("student", "teacher", "judge", "reward_model")
    }
    changed["panel"] = tuple(weights(judge) for judge in recipe.panel)
    if recipe.pairs.anchor is not None:
        anchor = _pinned(recipe.pairs.anchor, db)
        changed["pairs"] = recipe.pairs.model_copy(update={"anchor": anchor})
    if versions:
        first, *more = (version.id for version in versions)
        changed["constitution"] = first
        changed["lessons"] = recipe.lessons.model_copy(update={"constitutions": tuple(more)})
    return recipe.model_copy(update=changed)


def _pinned(name: str, db: Database) -> str:
    if not name.startswith(CHECKPOINT):
        return name
    return CHECKPOINT + checkpoints.checkpoint(db, name.removeprefix(CHECKPOINT)).id
