"""`preceptor constitution`: constitutions read, compared, committed, and taken in or out."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import output
from service.home import resolve, stored
from service.output import Json

if TYPE_CHECKING:
    from judges.constitution import Constitution

constitution_app = typer.Typer(help="Say what good means, in versions.", no_args_is_help=True)

_REF = "A file's path, a name, or a version's id or its beginning."
Ref = Annotated[str, typer.Argument(metavar="REF", help=_REF)]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write it to this new file.", dir_okay=False)
]


@constitution_app.command()
def lint(ref: Ref, json_: Json = False) -> None:
    """Say what is wrong with a constitution (exit status 1), and what is allowed but weak."""
    from judges.constitution_lint import lint as weaknesses_of
    from service.constitutions import counted, show_weaknesses

    constitution = resolve(ref)
    found = weaknesses_of(constitution)
    cases = sum(len(principle.cases) for principle in constitution.principles)
    if json_:
        facts = {"name": constitution.name, "id": constitution.id, "cases": cases}
        output.print_json({**facts, "weaknesses": [weakness._asdict() for weakness in found]})
        return
    console = output.console()
    show_weaknesses(console, found)
    said = counted(len(found), "weak point") if found else "nothing weak"
    of = f"{counted(len(constitution.principles), 'principle')}, {counted(cases, 'case')}"
    console.print(f"{constitution.name}: {of}, {said}")


@constitution_app.command()
def show(ref: Ref, json_: Json = False) -> None:
    """A constitution's principles, weights and scopes, and how many cases test each."""
    from service.constitutions import show_constitution

    constitution = resolve(ref)
    if json_:
        output.print_json({"id": constitution.id, **constitution.model_dump(mode="json")})
    else:
        show_constitution(output.console(), constitution)


@constitution_app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help=_REF)],
    new: Annotated[str, typer.Argument(metavar="B", help=_REF)],
    json_: Json = False,
) -> None:
    """What B changes of A, by principle."""
    from judges.constitution_diff import diff as changes_between
    from service.constitutions import show_changes

    changes = changes_between(resolve(old), resolve(new))
    if json_:
        output.print_json([change._asdict() for change in changes])
    else:
        show_changes(output.console(), changes)


@constitution_app.command()
def commit(
    file: Annotated[Path, typer.Argument(help="A constitution's file.")],
    message: Annotated[str, typer.Option("-m", "--message", help="Why it is as it is now.")],
    author: Annotated[str | None, typer.Option(help="Who says so; you, if not given.")] = None,
    json_: Json = False,
) -> None:
    """Put a file's constitution in force under its name."""
    from judges.constitution_file import load
    from pipelines.store import constitutions
    from pipelines.store.connection import connect, transaction
    from service.constitutions import mention_weaknesses

    if not message.strip():
        raise typer.BadParameter("say why it is as it is now", param_hint="--message")
    constitution = load(file)
    with closing(connect(output.home().store)) as opened, transaction(opened) as db:
        version, new = constitutions.commit(db, constitution, author or output.user(), message)
    if json_:
        output.print_json({**version._asdict(), "new": new})
        return
    console = output.console()
    mention_weaknesses(console, constitution, str(file))
    said = "committed as" if new else "has not changed; in force is"
    instead = f", in force instead of {version.parent[:16]}" if new and version.parent else ""
    console.print(f"{version.name} {said} {version.id[:16]}{instead}", highlight=False)


@constitution_app.command()
def log(
    name: Annotated[str, typer.Argument(help="A constitution's name.")], json_: Json = False
) -> None:
    """The versions of a constitution, newest first; the first of them is in force."""
    from pipelines.store import constitutions
    from service.constitutions import show_log
    from teachers.errors import ConfigError

    with stored() as db:
        versions = constitutions.log(db, name) if db else []
    if not versions:
        raise ConfigError(
            f"Nothing was committed under the name {name!r}.",
            hint="preceptor constitution commit FILE -m MESSAGE",
        )
    if json_:
        output.print_json([version._asdict() for version in versions])
    else:
        show_log(output.console(), versions)


@constitution_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A JSON file in another project's layout.")],
    to: Output = None,
    json_: Json = False,
) -> None:
    """Read a constitution in Hugging Face's or Anthropic's layout, and print it in ours."""
    from judges.constitution_import import read
    from service.constitutions import mention_weaknesses

    constitution = read(file)
    mention_weaknesses(output.console(stderr=True), constitution, str(to or "FILE"))
    _write(constitution, to, json_)


@constitution_app.command()
def export(ref: Ref, to: Output = None, json_: Json = False) -> None:
    """Print a constitution as a file that reads as the same version."""
    _write(resolve(ref), to, json_)


def _write(constitution: "Constitution", to: Path | None, json_: bool) -> None:
    from judges.constitution_file import dump
    from teachers.errors import ConfigError
    from teachers.files import write_whole

    if to is not None:
        if to.exists():
            raise ConfigError(f"{to} is there already.", hint="Name a new file.")
        write_whole(to, dump(constitution))
    if json_:
        output.print_json({"id": constitution.id, **constitution.model_dump(mode="json")})
    elif to is None:
        typer.echo(dump(constitution), nl=False)
    else:
        output.console().print(f"written to {to}", soft_wrap=True)
