"""`preceptor score`: a reward model rates stored answers, and the best become a dataset."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import output
from service.home import bench
from service.output import Json

if TYPE_CHECKING:
    from pipelines.rating import Rated


def score(
    name: Annotated[str, typer.Argument(help="The reward model: its recipe's name, or an id.")],
    round_: Annotated[
        str | None,
        typer.Option("--round", help="Answers to this round's prompts alone: its id's beginning."),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="Answers to this prompt alone: its id's beginning.")
    ] = "",
    best_of: Annotated[
        int | None,
        typer.Option(help="Write the best of each prompt's first so many answers.", min=1),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(help="Leave out prompts whose best answer scores less than this."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to: a JSONL file with rows as sft learns from.")
    ] = None,
    json_: Json = False,
) -> None:
    """Score stored answers; each score is kept as it comes and never computed again."""
    from pipelines.rating import best_of as best

    if (best_of is None) != (out is None):
        raise typer.BadParameter("--best-of and --out go together")
    if at_least is not None and best_of is None:
        raise typer.BadParameter("--at-least goes with --best-of")
    found = asyncio.run(_rated(name, round_, prompt, quiet=json_))
    told = _told(found)
    if best_of is not None and out is not None:
        chosen = best(found, best_of, at_least)
        _write(out, chosen)
        told |= {"written": len(chosen), "to": str(out)}
    if json_:
        output.print_json(told)
        return
    for what, value in told.items():
        shown = f"{value:+.3f}" if isinstance(value, float) else value
        output.console().print(f"{what}: {shown}", highlight=False, markup=False, soft_wrap=True)


async def _rated(name: str, round_: str | None, prompt: str, *, quiet: bool) -> "list[Rated]":
    from pipelines.rating import rated

    async with bench(None, quiet=quiet) as workbench:
        return await rated(workbench, name, round_, prompt)


def _told(found: "list[Rated]") -> dict[str, Any]:
    """Scores are in deviations from the mean of usual answers."""
    from statistics import fmean

    scores = [one.score for one in found]
    return {
        "answers": len(found),
        "prompts": len({one.answer.prompt_id for one in found}),
        "lowest": min(scores),
        "mean": fmean(scores),
        "highest": max(scores),
    }


def _write(path: Path, chosen: "list[Rated]") -> None:
    from pipelines.stages.build import demonstration
    from teachers.files import write_whole

    rows = (demonstration(one.question, one.answer.text, one.answer.thinking) for one in chosen)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_whole(path, "".join(lines))
