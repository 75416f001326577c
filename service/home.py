"""What commands find in this home: its store, constitutions by name, and a workbench."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from service import output

if TYPE_CHECKING:
    from sqlite_utils import Database

    from judges.constitution import Constitution
    from pipelines.home import Home
    from pipelines.recipe import Recipe
    from pipelines.workbench import Onlooker, Workbench


@contextmanager
def stored(home: "Home | None" = None) -> "Iterator[Database | None]":
    """The store, where there is one: looking makes none.

    Args:
        home: whose; if not given, the environment names it.
    """
    from pipelines.store.connection import connect

    store = (home or output.home()).store
    if not store.is_file():
        yield None
        return
    with closing(connect(store)) as db:
        yield db


def resolve(ref: str) -> "Constitution":
    """A constitution by path, name or version, from this home's store."""
    from pipelines.store import constitutions

    with stored() as db:
        return constitutions.resolve(ref, db)


def onlooker(*, quiet: bool) -> "Onlooker":
    """A workbench for looking alone, also while a round runs."""
    from pipelines.workbench import Onlooker
    from service.progress import Shown

    return Onlooker(output.home(), Shown(output.console(stderr=quiet)))


def bench(recipe: "Recipe | None", *, quiet: bool) -> "Workbench":
    """Where models are started, as a recipe says; progress goes to standard error if quiet."""
    from pipelines.workbench import Workbench
    from service.progress import Shown

    progress = Shown(output.console(stderr=quiet))
    return Workbench(output.home(), progress, recipe.engine if recipe else None)
