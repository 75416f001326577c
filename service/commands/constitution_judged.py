"""`preceptor constitution test` and `preview`: what needs a judge."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from judges.constitution import Principle
    from judges.judge import Judge
    from pipelines.edit import Edit
    from pipelines.preview import Plan, Preview
    from pipelines.recipe import JudgeSection, Recipe

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
    from pipelines.edit import edit
    from service.previews import as_json, show_cost, show_preview
    from teachers.errors import ConfigError

    new, loaded = resolve(edited), loaded_recipe(recipe)
    with stored() as db:
        asked = edit(db, new, resolve(against) if against else None, loaded)

    def agreed(plan: "Plan") -> bool:
        show_cost(output.console(stderr=json_), plan)
        try:
            return yes or typer.confirm("Go on?", err=json_)
        except typer.Abort:
            raise ConfigError("Nobody said yes.", hint="--yes spends the calls unasked.") from None

    found = asyncio.run(_preview(asked, sample, agreed, quiet=json_))
    if found is None:
        raise typer.Exit(1)
    if json_:
        output.print_json(as_json(found))
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
    asked: "Edit", sample: int, agreed: "Callable[[Plan], bool]", *, quiet: bool
) -> "Preview | None":
    from pipelines.edit import seats, terms
    from pipelines.preview import fetch, plan, preview

    recipe, old, new = asked
    async with onlooker(quiet=quiet) as looking:
        seated = seats(looking, recipe)
        by = terms(recipe, seated)
        planned = plan(looking, by, old, new, sample)
        if planned.calls:
            if not agreed(planned):
                return None
            # Whoever asks has the home for itself; looking needs no such thing.
            async with bench(recipe, quiet=quiet) as asking:
                await fetch(asking, seated, by, planned)
        return preview(looking, by, old, new, planned)
