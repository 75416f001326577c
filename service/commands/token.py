"""`preceptor token`: who may use the service from other machines, and for what."""

from typing import Annotated

import typer

from service import output
from service.output import Json

token_app = typer.Typer(help="Let programs and people in.", no_args_is_help=True)


@token_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, or what for.")],
    role: Annotated[
        str, typer.Option(help="read, label, run or admin; each may do what those before it may.")
    ] = "read",
    requests_per_minute: Annotated[
        int | None, typer.Option(help="To students, at most.", min=1)
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(help="That students read and write for it, at most.", min=1)
    ] = None,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from contextlib import closing

    from pipelines.store import tokens
    from pipelines.store.connection import connect, transaction
    from teachers.errors import ConfigError

    found = next((one for one in tokens.ROLES if one == role), None)
    if found is None:
        raise ConfigError(
            f"There is no role {role!r}.", hint="There are: " + ", ".join(tokens.ROLES)
        )
    with closing(connect(output.home().store)) as db, transaction(db):
        secret = tokens.add(db, name, found, requests_per_minute, tokens_per_day)
        tokens.audit(db, output.user(), f"token create {name} --role {role}")
    typer.echo(secret)


@token_app.command("list")
def list_(json_: Json = False) -> None:
    """Tokens with their roles; the tokens themselves are not kept."""
    from pipelines.store import tokens
    from service.home import stored
    from service.tables import table

    with stored() as db:
        found = tokens.listed(db) if db is not None else []
    if json_:
        output.print_json([one._asdict() for one in found])
        return
    rows = [(one.id, one.name, one.role, "revoked" if one.revoked_at else "good") for one in found]
    output.console().print(table(["token", "name", "role", ""], rows))


@token_app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name.")],
) -> None:
    """Let a token be good for nothing; a service that runs knows within a second."""
    from contextlib import closing

    from pipelines.store import tokens
    from pipelines.store.connection import connect, transaction

    with closing(connect(output.home().store)) as db, transaction(db):
        found = tokens.revoke(db, name)
        tokens.audit(db, output.user(), f"token revoke {found.name} {found.id}")
    output.console().print(f"{found.name} {found.id} is revoked")
