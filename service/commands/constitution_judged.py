"""`preceptor constitution test` and `preview`: what needs a judge."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import output
from service.commands.judge_options import (
    KeyVariable,
    Kind,
    Model,
    Principles,
    Rationale,
    RecipeOption,
    Url,
    Weights,
    judge_section,
    loaded_recipe,
    named,
)
from service.home import bench, onlooker, resolve, stored
from service.output import Json

if TYPE_CHECKING:
    from judges.certify import Certificate
    from judges.constitution import Constitution, Principle
    from judges.judge import Judge
    from pipelines.preview import Changed, Plan, Preview
    from pipelines.recipe import JudgeSection, Recipe
    from pipelines.seat import Seat
    from pipelines.store.rounds import Judged
    from pipelines.workbench import Workbench

_REF = "A file's path, a name, or a version's id or its beginning."


def certify(
    ref: Annotated[str, typer.Argument(metavar="REF", help=_REF)],
    recipe: RecipeOption = None,
    weights: Weights = None,
    url: Url = None,
    model: Model = None,
    api_key_env: KeyVariable = None,
    kind: Kind = "compare",
    rationale: Rationale = False,
    principle: Principles = None,
    gold: Annotated[
        Path | None, typer.Option(help="Measure on this file of preference pairs, not on cases.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Most pairs a principle; for a first look.", min=1)
    ] = None,
    json_: Json = False,
) -> None:
    """Measure a judge on a constitution's cases: which principles may it label with?"""
    from service.judges import show_certificates

    constitution = resolve(ref)
    principles = named(constitution, principle)
    loaded = loaded_recipe(recipe)
    section = judge_section(loaded, weights, url, model, api_key_env, kind, rationale)
    judge, found = asyncio.run(_measure(loaded, section, principles, gold, limit, quiet=json_))
    if json_:
        told = {
            name: one and {**one.model_dump(), "faults": one.faults(section.certify)}
            for name, one in found.items()
        }
        output.print_json(
            {"judge": judge.name, "constitution": constitution.id, "principles": told}
        )
    else:
        show_certificates(output.console(), judge, found, section.certify)
        if limit:
            output.console().print(
                "Principles of which --limit left pairs out got no certificate.", style="dim"
            )


def preview(
    edited: Annotated[str, typer.Argument(metavar="EDITED", help=_REF)],
    against: Annotated[
        str | None, typer.Option(help="What was edited; the version in force if not given.")
    ] = None,
    recipe: RecipeOption = None,
    sample: Annotated[
        int, typer.Option(help="Judge at most so many comparisons that lack verdicts.", min=1)
    ] = 50,
    shown: Annotated[
        int, typer.Option("--show", help="Show so many changed pairs in full.", min=0)
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Spend the calls without asking.")] = False,
    json_: Json = False,
) -> None:
    """What an edit would change in the pairs that are stored, before it is committed."""
    from service.previews import show_cost, show_preview
    from teachers.errors import ConfigError

    new = resolve(edited)
    last = _last_judged()
    loaded = loaded_recipe(recipe) or _recipe_of(last)
    old = resolve(against) if against else _before(new.name, last)

    def agreed(plan: "Plan") -> bool:
        show_cost(output.console(stderr=json_), plan)
        try:
            return yes or typer.confirm("Go on?", err=json_)
        except typer.Abort:
            raise ConfigError("Nobody said yes.", hint="--yes spends the calls unasked.") from None

    found = asyncio.run(_preview(loaded, old, new, sample, agreed, quiet=json_))
    if found is None:
        raise typer.Exit(1)
    if json_:
        by_principle = {name: one._asdict() for name, one in found.by_principle.items()}
        changed = [_changed(one) for one in found.changed]
        output.print_json(found._asdict() | {"by_principle": by_principle, "changed": changed})
    else:
        show_preview(output.console(), found, shown)


async def _measure(
    recipe: "Recipe | None",
    section: "JudgeSection",
    principles: Sequence["Principle"],
    gold: Path | None,
    limit: int | None,
    *,
    quiet: bool,
) -> "tuple[Judge, dict[str, Certificate | None]]":
    """The judge's figures by principle; None for one that has no cases."""
    from pipelines.certification import CASES, case_pair, measure
    from pipelines.gold import read_gold
    from pipelines.seat import seated

    pairs = read_gold(gold) if gold else None
    name = gold.name if gold else CASES
    found: dict[str, Certificate | None] = {}
    async with bench(recipe, quiet=quiet) as opened:
        seat = await seated(opened, section)
        for principle in principles:
            known = pairs or [case_pair(case) for case in principle.cases]
            some = known[:limit]
            found[principle.id] = (
                await measure(
                    opened,
                    seat,
                    principle,
                    some,
                    name,
                    section.certify,
                    # What holds for some of the pairs is no certificate for all of them.
                    store=len(some) == len(known),
                )
                if some
                else None
            )
        return seat.judge, found


async def _preview(
    recipe: "Recipe",
    old: "Constitution",
    new: "Constitution",
    sample: int,
    agreed: "Callable[[Plan], bool]",
    *,
    quiet: bool,
) -> "Preview | None":
    from pipelines.decided import Terms
    from pipelines.preview import fetch, plan, preview

    old, new = (_only(one, recipe.principles) for one in (old, new))
    async with onlooker(quiet=quiet) as looking:
        seats = _seats(looking, recipe)
        terms = Terms([seat.judge for seat in seats], recipe.pairs, recipe.quorum)
        planned = plan(looking, terms, old, new, sample)
        if planned.calls:
            if not agreed(planned):
                return None
            # Whoever asks has the home for itself; looking needs no such thing.
            async with bench(recipe, quiet=quiet) as asking:
                await fetch(asking, seats, terms, planned)
        return preview(looking, terms, old, new, planned)


def _seats(looking: "Workbench", recipe: "Recipe") -> "list[Seat]":
    """The recipe's judges, nobody being asked."""
    from pipelines.seat import known
    from teachers.errors import ConfigError

    if recipe.judge is None:
        raise ConfigError("This recipe has no judge.", hint="--recipe names one that has.")
    seats = [known(looking, section) for section in recipe.judges]
    found = [seat for seat in seats if seat]
    if len(found) < len(seats):
        raise ConfigError(
            "A judge of this recipe was never asked in this home, so no comparison was judged.",
            hint="preceptor run RECIPE, or another --recipe.",
        )
    return found


def _last_judged() -> "Judged | None":
    """The round whose comparisons were judged last."""
    from pipelines.store import rounds

    with stored() as db:
        return rounds.last_judged(db) if db else None


def _before(name: str, last: "Judged | None") -> "Constitution":
    """The version in force; where none was committed, the one that the last round went by."""
    from pipelines.store import constitutions

    with stored() as db:
        found = constitutions.version(db, name) if db else None
        if db and last and found is None:
            found = constitutions.version(db, last.constitution_id)
    return found if found and found.name == name else resolve(name)


def _recipe_of(last: "Judged | None") -> "Recipe":
    """The recipe of a round that was judged."""
    from pydantic import ValidationError

    from pipelines.recipe import Recipe
    from teachers.errors import ConfigError

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


def _only(constitution: "Constitution", names: Sequence[str]) -> "Constitution":
    """A constitution with the principles alone that a recipe is about: all, if it names none."""
    chosen = [one for one in constitution.principles if not names or one.id in names]
    return constitution.model_copy(update={"principles": tuple(chosen)})


def _changed(one: "Changed") -> dict[str, Any]:
    comparison = one.compared.comparison
    return {
        "comparison": comparison.id,
        "effect": one.effect,
        "request": comparison.conversation[-1].content,
        "first": comparison.first,
        "second": comparison.second,
        "before": one.before.model_dump(),
        "after": one.after.model_dump(),
        "by": [shift._asdict() for shift in one.by],
        "reason": one.reason,
    }
