"""`preceptor judge`: judges, their certificates, and what is kept of their replies."""

import asyncio
from typing import Annotated

import typer

from service import output
from service.home import bench, stored
from service.output import Json

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
