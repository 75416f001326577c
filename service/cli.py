"""The `preceptor` command. Each command is a few lines; what it does lives elsewhere.

Imports are inside the commands: `preceptor --help` has to be instant.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service import output
from service.commands import constitution_judged
from service.commands.canary import canary
from service.commands.constitution import constitution_app
from service.commands.judge import judge_app
from service.commands.label import label
from service.commands.prune import prune
from service.commands.rollouts import rollouts
from service.commands.runs import loop, runs_app, worker
from service.commands.score import score
from service.commands.token import token_app
from service.commands.verify import verify
from service.interrupts import term_interrupts
from service.output import Json

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.home import Home
    from pipelines.round import Outcome
    from pipelines.store.query import Rows

app = typer.Typer(
    name="preceptor",
    help="Self-alignment and synthetic data as a loop: sample, verify, train, gate, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
recipe_app = typer.Typer(help="Look at recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
constitution_app.command("test")(constitution_judged.certify)
constitution_app.command("preview")(constitution_judged.preview)
app.add_typer(constitution_app, name="constitution")
app.add_typer(judge_app, name="judge")
app.command()(label)
app.command()(verify)
app.command()(rollouts)
app.command()(score)
app.command()(loop)
app.command()(worker)
app.command()(canary)
app.command()(prune)
app.add_typer(runs_app, name="runs")
app.add_typer(token_app, name="token")

# What typer makes of Ctrl-C, as shells do.
INTERRUPTED = 130

Port = Annotated[int, typer.Option(help="Port to serve on.", min=1, max=65535)]
Host = Annotated[str, typer.Option(help="Address to serve on; beyond this machine needs a token.")]
RecipePath = Annotated[Path, typer.Argument(help="A recipe, for example recipes/demo.yaml.")]


@app.command()
def init(
    recipe: Annotated[Path, typer.Argument(help="Where to write a recipe to start from.")] = Path(
        "recipe.yaml"
    ),
) -> None:
    """Make the home folder and its store, and write a recipe to start from."""
    from pipelines.store.connection import connect
    from teachers.errors import ConfigError

    if recipe.is_dir():
        raise ConfigError(f"{recipe} is a folder.", hint=f"preceptor init {recipe / 'recipe.yaml'}")
    home = output.home()
    connect(home.store).close()
    console = output.console()
    console.print(f"home: {home.root}", soft_wrap=True)
    if recipe.exists():
        console.print(f"recipe: {recipe} is there already; left as it is")
    else:
        recipe.write_text((_checkout() / "recipes" / "demo.yaml").read_text())
        console.print(f"recipe: {recipe}")
    console.print(f"next: preceptor run {recipe}")


@app.command()
def run(
    recipe: RecipePath,
    serve: Annotated[
        bool, typer.Option("--serve", help="Leave the champion answering in the background.")
    ] = False,
    port: Port = 8000,
    json_: Json = False,
) -> None:
    """Run a round, or go on with one that was stopped; finished calls are never made again."""
    import asyncio

    from pipelines.recipe_file import load
    from pipelines.round import run_round
    from service.progress import Shown
    from service.recipes import refuse_hopeless

    home, console = output.home(), output.console(stderr=json_)
    loaded = load(recipe)
    refuse_hopeless(loaded, home)
    console.print(f"[bold]{loaded.name}[/bold]  (home: {home.root})", soft_wrap=True)
    outcome = asyncio.run(run_round(loaded, home, Shown(console)))
    if json_:
        output.print_json({"round": outcome.round_id, **outcome.reports})
    else:
        _show_outcome(console, outcome)
    if serve:
        _leave_serving(console, home, port, outcome, loaded.student.instruction)


@app.command()
def status(json_: Json = False) -> None:
    """Rounds and how far they are, the champion, and whether it is served."""
    from service.status import read, show

    found = read(output.home())
    if json_:
        output.print_json(found)
    else:
        show(output.console(), found)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT.")],
    limit: Annotated[int, typer.Option(help="Most rows.", min=1)] = 1000,
    seconds: Annotated[float, typer.Option(help="Longest it may run.", min=0.1)] = 5.0,
    json_: Json = False,
) -> None:
    """Ask the store a question in SQL; it can only be read."""
    from pipelines.store.query import query as ask

    rows = ask(output.home().store, sql, rows=limit, seconds=seconds)
    _print_rows(rows, json_)


@app.command()
def rows(
    table: Annotated[str, typer.Argument(help="A table or view of the store.")],
    limit: Annotated[int, typer.Option(help="Most rows.", min=1)] = 20,
    json_: Json = False,
) -> None:
    """The newest rows of a table."""
    from pipelines.store.lookup import rows_of

    found = rows_of(output.home().store, table, limit)
    _print_rows(found, json_)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="An id, or its beginning.")],
    json_: Json = False,
) -> None:
    """One row with all its fields, and what belongs to it."""
    from pipelines.store.lookup import find
    from service.tables import as_json, show_found

    found = find(output.home().store, id_)
    if json_:
        import json

        related = {name: json.loads(as_json(rows)) for name, rows in found.related.items()}
        output.print_json({"table": found.table, "row": found.row, "related": related})
    else:
        show_found(output.console(), found)


@recipe_app.command("check")
def recipe_check(recipe: RecipePath, json_: Json = False) -> None:
    """Read a recipe and say what is wrong with it, or what it will do."""
    from pipelines.recipe_file import load
    from service.recipes import facts_of

    loaded = load(recipe)
    facts = facts_of(loaded)
    if json_:
        output.print_json(loaded.model_dump(mode="json"))
        return
    console = output.console()
    console.print(f"{recipe} is a valid recipe: [bold]{loaded.name}[/bold]", soft_wrap=True)
    for name, said in facts.items():
        console.print(f"  {name}: {said}", markup=False, highlight=False, soft_wrap=True)


@recipe_app.command("fields")
def recipe_fields(json_: Json = False) -> None:
    """Every field that a recipe can have, with its default and what it means."""
    from pipelines.recipe_file import fields
    from service.tables import table

    if json_:
        output.print_json([field._asdict() for field in fields()])
        return
    lines = [(field.name, field.default, field.help) for field in fields()]
    output.console().print(table(["field", "default", "what it means"], lines))


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    background: Annotated[
        bool, typer.Option("--background", help="Leave it running and return.")
    ] = False,
    worker: Annotated[
        bool, typer.Option(help="Work on queued runs as well, in a process beside it.")
    ] = True,
    others: Annotated[
        int | None,
        typer.Option(
            help="Students served beside the champion at once, at most; "
            "if not given 1, or 8 as adapters.",
            min=0,
        ),
    ] = None,
    served_as: Annotated[
        Literal["auto", "merged", "adapter"],
        typer.Option(
            help="Whether each of those is merged, with a model server of its own, or an adapter "
            "on their base's; auto: adapters on a GPU."
        ),
    ] = "auto",
    rollback: Annotated[
        bool, typer.Option(help="Roll a new champion back that fails more than the one before it.")
    ] = True,
    gpu_share: Annotated[
        float,
        typer.Option(help="Share of a GPU's memory for each model server.", min=0.01, max=0.95),
    ] = 0.45,
    answer_limit: Annotated[
        float, typer.Option(help="Longest that an answer may take, in seconds.", min=1)
    ] = 600.0,
    log_traffic: Annotated[
        bool,
        typer.Option(help="Keep what students are asked and answer, personal data blotted out."),
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs.")] = False,
) -> None:
    """Serve the API, and students behind an OpenAI-compatible address; work on queued runs."""
    from service import serving
    from service.logs import told
    from service.options import Options

    home, console = output.home(), output.console()
    if stop:
        console.print("stopped" if serving.stop(home) else "nothing was being served")
        return
    options = Options(worker, others, answer_limit, log_traffic, served_as, rollback, gpu_share)
    if background:
        server = serving.serve_in_background(home, host, port, told(console), options)
        console.print(f"serving at {server.url}")
    else:
        serving.serve(home, host, port, told(console), options=options)


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="Ask this and stop.")] = None,
    url: Annotated[str | None, typer.Option(help="Another OpenAI-compatible address.")] = None,
    model: Annotated[str, typer.Option(help="The model's name there.")] = "champion",
) -> None:
    """Talk to the champion; an empty line ends the conversation."""
    import os

    from service import serving
    from service.auth import TOKEN_VARIABLE
    from service.chat import Turn, answer
    from teachers.errors import ConfigError

    server = serving.running(output.home())
    address = url or (server.url if server else None)
    if address is None:
        raise ConfigError("Nothing is being served.", hint="preceptor serve --background")
    # Our token is for our own gateway; nobody else gets to see it.
    token = None if url else os.environ.get(TOKEN_VARIABLE)
    turns: list[Turn] = []
    while asked := message or typer.prompt("you", default="", show_default=False):
        turns.append({"role": "user", "content": asked})
        said = ""
        for piece in answer(address, model, turns, token):
            said += piece
            typer.echo(piece, nl=False)
        typer.echo()
        turns.append({"role": "assistant", "content": said})
        if message:
            return


@app.command()
def promote(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint's id, or its beginning.")],
) -> None:
    """Make a checkpoint the champion, whatever the gate said of it."""
    from pipelines.store import checkpoints
    from pipelines.store.connection import connect, transaction

    with transaction(connect(output.home().store)) as db:
        found = checkpoints.checkpoint(db, checkpoint)
        checkpoints.promote(db, found, "promoted by hand")
    output.console().print(f"champion is now {found.id[:16]}")


@app.command()
def rollback() -> None:
    """Make the champion what it was before the last promotion."""
    from pipelines.store import checkpoints
    from pipelines.store.connection import connect, transaction

    with transaction(connect(output.home().store)) as db:
        current, previous = checkpoints.roll_back(db)
    was, now = ((one or "the base")[:16] for one in (current, previous))
    output.console().print(f"champion was {was}, is now {now}")


@app.command()
def doctor(json_: Json = False) -> None:
    """Check the machine, the versions, the store and the model: each line is ok or what to do."""
    from service.doctor import check
    from service.tables import table

    findings = check(output.home())
    if json_:
        output.print_json([finding._asdict() for finding in findings])
    else:
        marks = {True: "ok", None: "note", False: "FAILED"}
        lines = [(marks[one.ok], one.name, one.found, one.todo) for one in findings]
        output.console().print(table(["", "what", "found", "what to do"], lines))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; errors that a person can act on are told without a traceback."""
    from teachers.errors import PreceptorError

    term_interrupts()
    try:
        app()
    except PreceptorError as error:
        typer.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        typer.secho(f"error: {place}{error.strerror or error}", fg="red", err=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("stopped; the same command goes on from here", err=True)
        raise


def _checkout() -> Path:
    return Path(__file__).parent.parent


def _print_rows(rows: "Rows", json_: bool) -> None:
    from service.tables import as_json, show_rows

    if json_:
        typer.echo(as_json(rows))
    else:
        show_rows(output.console(), rows)


def _show_outcome(console: "Console", outcome: "Outcome") -> None:
    from service.appraisals import show_appraised
    from service.judges import show_trained
    from service.tables import show_gate

    reports = outcome.reports
    console.print()
    if "certify" in reports:
        show_trained(console, reports["certify"])
        return
    if "appraise" in reports:
        show_appraised(console, reports["appraise"])
        return
    show_gate(console, reports["gate"])
    console.print()
    decided = reports["promote"]
    if outcome.promoted:
        console.print(f"[green]promoted[/green]: {reports['gate']['checkpoint'][:16]}")
    else:
        console.print(f"[yellow]kept aside[/yellow], not promoted: {decided['reason']}")
    console.print(f"picture: {decided['picture']}", soft_wrap=True)


def _leave_serving(
    console: "Console", home: "Home", port: int, outcome: "Outcome", instruction: str
) -> None:
    from service import serving
    from service.progress import Shown
    from service.status import next_steps

    if "gate" not in outcome.reports:
        console.print("nothing new is served: what was trained is no student")
        return
    if not outcome.promoted:
        console.print("nothing new is served: the gate refused, for the reason above")
        return
    server = serving.serve_in_background(home, "127.0.0.1", port, Shown(console))
    console.print()
    console.print(next_steps(home, server, outcome, instruction), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
