"""`preceptor prune`: what finished training runs can do without."""

from itertools import chain
from typing import Annotated

import typer

from service import output
from service.output import Json


def prune(
    copies: Annotated[
        bool,
        typer.Option(
            "--copies",
            help="Also the merged copies of students that have no alias and are not among the "
            "three newest. Who needs one gets it merged again.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Remove optimizer states of training runs that are done, and merged copies if asked to."""
    from pipelines import space
    from service.home import stored
    from service.tables import table

    with stored() as db:
        some = iter(()) if db is None else space.leftovers(db)
        if db is not None and copies:
            some = chain(some, space.spare_copies(db))
        found = [(one, one.size if dry_run else space.remove(one)) for one in some]
    freed = sum(size for _, size in found)
    if json_:
        rows = [
            {"run": one.run_id, "what": one.what, "paths": list(map(str, one.files)), "bytes": size}
            for one, size in found
        ]
        output.print_json({"removed": not dry_run, "bytes": freed, "of": rows})
        return
    console = output.console()
    if found:
        cells = [
            (one.run_id[:12], one.what, f"{size / space.MIB:.0f} MiB", str(one.files[0].parent))
            for one, size in found
        ]
        console.print(table(["training run", "what", "size", "in"], cells))
    verb = "would be" if dry_run else "were"
    console.print(f"{freed / space.MIB:.0f} MiB {verb} removed")
