"""`preceptor judge`: judges, their certificates, and what is kept of their replies."""

import asyncio
from collections.abc import Mapping, Sequence
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
from service.home import bench, resolve, stored
from service.output import Json

if TYPE_CHECKING:
    from judges.constitution import Principle
    from judges.judge import Judge
    from judges.share import Share
    from pipelines.recipe import JudgeSection, Recipe

judge_app = typer.Typer(help="Look after judges and their verdicts.", no_args_is_help=True)


@judge_app.command("list")
def list_(json_: Json = False) -> None:
    """Every judge that has spoken, with its newest certificates."""
    from pipelines.store import judgements
    from service.judges import as_json, show_judges

    with stored() as db:
        judges = judgements.judges(db) if db else []
        standings = judgements.standings(db) if db else {}
    if json_:
        output.print_json(as_json(judges, standings))
    elif judges:
        show_judges(output.console(), judges, standings)
    else:
        output.console().print("no judge has spoken yet: preceptor constitution test REF")


@judge_app.command()
def reparse(
    judge: Annotated[str | None, typer.Argument(help="A judge's id, or its beginning.")] = None,
    json_: Json = False,
) -> None:
    """Read every stored reply again, without asking anybody: for when the reading has changed."""
    changed = asyncio.run(_reparse(judge, quiet=json_))
    if json_:
        output.print_json(changed)
        return
    for name, count in changed.items():
        output.console().print(f"{name[:16]}: {count} verdicts changed", highlight=False)


async def _reparse(name: str | None, *, quiet: bool) -> dict[str, int]:
    from pipelines.judging import reparse
    from pipelines.store import judgements
    from teachers.errors import ConfigError

    async with bench(None, quiet=quiet) as opened:
        found = [one for one in judgements.judges(opened.db) if one.id.startswith(name or "")]
        if not found:
            raise ConfigError(f"No judge's id begins with {name!r}." if name else "No judge yet.")
        return {one.id: reparse(opened, one) for one in found}


@judge_app.command()
def injections(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="A constitution's path, name, or version's id or its beginning."
        ),
    ],
    recipe: RecipeOption = None,
    weights: Weights = None,
    url: Url = None,
    model: Model = None,
    api_key_env: KeyVariable = None,
    kind: Kind = "compare",
    rationale: Rationale = False,
    principle: Principles = None,
    limit: Annotated[int, typer.Option(help="Most cases a principle.", min=1)] = 5,
    json_: Json = False,
) -> None:
    """Measure how often text in an answer talks a judge into another verdict."""
    from service.judges import show_sway

    constitution = resolve(ref)
    principles = named(constitution, principle)
    loaded = loaded_recipe(recipe)
    section = judge_section(loaded, weights, url, model, api_key_env, kind, rationale)
    judge, found = asyncio.run(_swayed(loaded, section, principles, limit, quiet=json_))
    if json_:
        told = {name: one._asdict() | {"value": one.value} for name, one in found.items()}
        output.print_json({"judge": judge.id, "constitution": constitution.id, "kinds": told})
    else:
        show_sway(output.console(), judge, found)


async def _swayed(
    recipe: "Recipe | None",
    section: "JudgeSection",
    principles: "Sequence[Principle]",
    limit: int,
    *,
    quiet: bool,
) -> "tuple[Judge, Mapping[str, Share]]":
    """How often the judge was swayed, by kind of injection."""
    from pipelines.certification import case_pair
    from pipelines.injection import Target, swayed
    from pipelines.seat import seated
    from teachers.errors import ConfigError

    targets = [Target(one, case_pair(case)) for one in principles for case in one.cases[:limit]]
    if not targets:
        raise ConfigError(
            "None of these principles has a case to put injections into.",
            hint="Write some: constitutions/README.md says how.",
        )
    async with bench(recipe, quiet=quiet) as opened:
        seat = await seated(opened, section)
        return seat.judge, await swayed(opened, seat, targets)
