"""What every command shares: where home is, who asks, and how things are printed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.home import Home

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def home() -> "Home":
    """The home folder that the environment names."""
    from pipelines.home import Home

    return Home.find()


def user() -> str:
    """The user's name; a container may run as somebody who has only a number."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def console(stderr: bool = False) -> "Console":
    """Where people read."""
    from rich.console import Console

    # What models say is shown as it is: `10:100:1` is no picture.
    return Console(stderr=stderr, emoji=False)


def print_json(content: Any) -> None:
    """Print for scripts."""
    import json

    typer.echo(json.dumps(content, indent=1, default=str))
