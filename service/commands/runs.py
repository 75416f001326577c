"""`preceptor loop`, `worker` and `runs`: rounds that follow each other by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import output
from service.output import Json

if TYPE_CHECKING:
    from sqlite_utils import Database

    from pipelines.store.runs import Run, Wish

runs_app = typer.Typer(help="Look at runs, and steer them.", no_args_is_help=True)

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or its recipes' names.")
]


def loop(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="They take turns.")],
    rounds: Annotated[int | None, typer.Option(help="So many rounds in all.", min=1)] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many rounds in a row without a promotion.", min=1),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Stop once models have read and written so many.", min=1)
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help='When rounds may begin, as cron has it: "0 2 * * *" is nightly at two.'),
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher ones have their turns first.")] = 0,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave it to a worker that runs, or will.")
    ] = False,
) -> None:
    """Run round after round, each from the last champion; the same command goes on where it was."""
    from pipelines.loop import Limits
    from service.runs import enqueue
    from service.worker import Worker

    home, console = output.home(), output.console()
    limits = Limits(rounds=rounds, patience=patience, tokens=tokens)
    request = enqueue(home, recipes, limits, priority, schedule)
    told = f"[bold]{request.name}[/bold]: run {request.id[:12]}  (home: {home.root})"
    console.print(told, soft_wrap=True)
    if queue:
        console.print("queued: preceptor worker works on it, preceptor runs list shows how far")
        return
    Worker(home, console, only=request.id).run()
    list_()


def worker() -> None:
    """Work on whatever is queued, a round at a time and run by run, until stopped."""
    from service.logs import told
    from service.worker import Worker

    console = output.console()
    told(console).say(f"working in {output.home().root}; Ctrl-C ends it")
    try:
        Worker(output.home(), console).run()
    except KeyboardInterrupt:
        told(console).say("stopped; the next worker goes on from here")


@runs_app.command("list")
def list_(json_: Json = False) -> None:
    """Runs, how far they are, and why one stands still."""
    from service import runs
    from service.home import stored

    with stored() as db:
        found = runs.read(db) if db is not None else []
    if json_:
        output.print_json(found)
    else:
        runs.show(output.console(), found)


@runs_app.command()
def pause(run: RunName) -> None:
    """Let a run rest; the round it is at stops within seconds, and nothing is lost."""
    _ask(run, "pause")


@runs_app.command()
def cancel(run: RunName) -> None:
    """End a run; what it has made stays."""
    _ask(run, "cancel")


@runs_app.command()
def resume(run: RunName) -> None:
    """Let a run go on that was paused, stopped, cancelled or given up, once its cause is mended."""
    from pipelines.store import runs

    with _found(run) as (db, one):
        runs.again(db, one)
    output.console().print(f"{one.name}: queued; preceptor worker works on it")


@runs_app.command()
def log(
    run: RunName,
    lines: Annotated[int, typer.Option(help="So many from the end.", min=1)] = 40,
) -> None:
    """What a run's rounds have said last."""
    from service.worker import log_of
    from teachers.engine import tail

    with _found(run) as (_, one):
        place = log_of(output.home(), one.id)
    typer.echo(tail(place, lines))


@contextmanager
def _found(name: str) -> "Iterator[tuple[Database, Run]]":
    """A run in this home, to be read or changed."""
    from pipelines.store import runs
    from pipelines.store.connection import transaction
    from service.home import stored
    from teachers.errors import StoreError

    with stored() as db:
        if db is None:
            raise StoreError("There is no store yet.", hint="preceptor loop RECIPE makes one.")
        with transaction(db):
            yield db, runs.run(db, name)


def _ask(name: str, wish: "Wish") -> None:
    from pipelines.store import runs

    with _found(name) as (db, one):
        state = runs.ask(db, one, wish)
    done = {"pause": "paused", "cancel": "cancelled"}[wish]
    told = f"being {done}" if state == "running" else done
    output.console().print(f"{one.name}: {told}")
