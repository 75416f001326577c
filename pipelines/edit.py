"""An edit of a constitution, and what it is held against: the version before it, a round's recipe,
and the judges of that recipe.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError
from sqlite_utils import Database

from judges.constitution import Constitution
from pipelines.decided import Terms
from pipelines.recipe import Recipe
from pipelines.seat import Seat, known
from pipelines.store import constitutions, rounds
from pipelines.store.rounds import Judged
from pipelines.workbench import Workbench
from teachers.errors import ConfigError


class Edit(NamedTuple):
    """Two versions, each with the principles alone that the recipe is about."""

    recipe: Recipe
    old: Constitution
    new: Constitution


def edit(
    db: Database | None,
    new: Constitution,
    against: Constitution | None = None,
    recipe: Recipe | None = None,
) -> Edit:
    """What an edited constitution is to be held against.

    Args:
        against: what was edited; the version in force if not given, and where none was committed,
            the one that the last round went by.
        recipe: whose judges and rules count; those of the round that was judged last if not given.

    Raises:
        ConfigError: no round was judged, or its recipe cannot be read any more.
    """
    last = rounds.last_judged(db) if db else None
    recipe = recipe or _recipe_of(last)
    old = against or _before(db, new.name, last)
    return Edit(recipe, _only(old, recipe.principles), _only(new, recipe.principles))


def seats(bench: Workbench, recipe: Recipe) -> list[Seat]:
    """The recipe's judges, nobody being asked.

    Raises:
        ConfigError: it has none, or one of them was never asked in this home.
    """
    if recipe.judge is None:
        raise ConfigError("This recipe has no judge.", hint="--recipe names one that has.")
    tried = [known(bench, section) for section in recipe.judges]
    found = [seat for seat in tried if seat]
    if len(found) < len(tried):
        raise ConfigError(
            "A judge of this recipe was never asked in this home, so no comparison was judged.",
            hint="preceptor run RECIPE, or another --recipe.",
        )
    return found


def terms(recipe: Recipe, seated: Sequence[Seat]) -> Terms:
    """By what a round of the recipe makes pairs."""
    return Terms([seat.judge for seat in seated], recipe.pairs, recipe.quorum)


def _before(db: Database | None, name: str, last: Judged | None) -> Constitution:
    found = constitutions.version(db, name) if db else None
    if db and last and found is None:
        found = constitutions.version(db, last.constitution_id)
    return found if found and found.name == name else constitutions.named(name, db)


def _recipe_of(last: Judged | None) -> Recipe:
    if last is None:
        raise ConfigError(
            "No round has been judged in this home, so an edit changes nothing yet.",
            hint="preceptor run RECIPE, with a judge and a constitution in the recipe.",
        )
    try:
        return Recipe.model_validate_json(last.recipe)
    except ValidationError as old:
        raise ConfigError(
            "The last round's recipe is of another version.", hint="--recipe names one."
        ) from old


def _only(constitution: Constitution, names: Sequence[str]) -> Constitution:
    """The principles that a recipe is about: all, if it names none."""
    chosen = [one for one in constitution.principles if not names or one.id in names]
    return constitution.model_copy(update={"principles": tuple(chosen)})
