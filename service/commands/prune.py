"""`preceptor prune`: what finished training runs do not need any more."""

from typing import Annotated

import typer

from service import output
from service.output import Json


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Remove optimizer states of training runs that are done; nothing else is touched."""
    from pipelines import space
    from service.home import stored
    from service.tables import table

    with stored() as db:
        found = space.leftovers(db) if db is not None else []
    freed = sum(one.size for one in found) if dry_run else space.prune(found)
    if json_:
        rows = [{"run": one.run_id, "path": str(one.path), "bytes": one.size} for one in found]
        output.print_json({"removed": not dry_run, "bytes": freed, "of": rows})
        return
    console = output.console()
    if found:
        cells = [
            (one.run_id[:12], f"{one.size / space.MIB:.0f} MiB", str(one.path)) for one in found
        ]
        console.print(table(["training run", "size", "folder"], cells))
    verb = "would be" if dry_run else "were"
    console.print(f"{freed / space.MIB:.0f} MiB {verb} removed")
