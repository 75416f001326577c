"""`preceptor label`: people say which answer is better, and what their labels say."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service import output
from service.output import Json

if TYPE_CHECKING:
    from sqlite_utils import Database

    from judges.constitution import Principle


def label(
    annotator: Annotated[
        str | None, typer.Option(help="Who labels; the user of this machine if not given.")
    ] = None,
    principle: Annotated[
        str | None, typer.Option(help="Label by this principle alone, not by everything at once.")
    ] = None,
    constitution: Annotated[
        str | None, typer.Option(help="Where that principle is: a path, a name or a version.")
    ] = None,
    origin: Annotated[
        Literal["round", "gate", "case", "gold", "traffic"],
        typer.Option(help="A round's answers, its gate's, principles' cases or a gold file's."),
    ] = "round",
    rank: Annotated[
        bool, typer.Option("--rank", help="Put more than two answers in order at once.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many.", min=1)] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show the labels in figures, and ask for none.")
    ] = False,
    json_: Json = False,
) -> None:
    """Say which of two answers is better; each answer is kept at once, whatever happens next."""
    from pipelines.store.connection import connect
    from teachers.errors import StoreError

    if json_ and not stats:
        raise typer.BadParameter("--json goes with --stats")
    store = output.home().store
    if not store.is_file():
        raise StoreError(
            f"There is no store at {store}.",
            hint="A round with a constitution makes one and compares answers: preceptor run RECIPE",
        )
    with closing(connect(store)) as db:
        if stats:
            _show_statistics(db, json_)
            return
        from service.labelling import Session

        wanted = _principle(db, principle, constitution)
        session = Session(output.console(), db, annotator or output.user(), wanted, origin)
        done = session.rank(limit) if rank else session.label(limit)
        session.console.print(session.what_next(done), highlight=False)


def _show_statistics(db: "Database", json_: bool) -> None:
    from pipelines.agreement import with_people
    from pipelines.labelling import annotators
    from service import people

    persons, judges = annotators(db), with_people(db)
    if json_:
        output.print_json(people.as_json(persons, judges))
        return
    console = output.console()
    if not persons:
        console.print("nobody has labelled anything yet: preceptor label")
        return
    people.show_annotators(console, persons)
    console.print()
    people.show_judges(console, judges)
    if not judges:
        console.print("no judge has judged what people labelled")


def _principle(db: "Database", name: str | None, ref: str | None) -> "Principle | None":
    from pipelines.store import constitutions

    if (name is None) != (ref is None):
        raise typer.BadParameter("--principle and --constitution go together")
    return constitutions.resolve(ref, db).principle(name) if name and ref else None
