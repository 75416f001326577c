"""`preceptor canary`: a share of the champion's traffic for a candidate."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service import output
from service.output import Json

if TYPE_CHECKING:
    from sqlite_utils import Database


def canary(
    checkpoint: Annotated[
        str | None, typer.Argument(metavar="CANDIDATE", help="candidate, round-3, or an id.")
    ] = None,
    share: Annotated[float, typer.Option(help="Of the champion's requests.", min=0, max=1)] = 0.1,
    kind: Annotated[
        Literal["canary", "shadow", "compare"],
        typer.Option(
            help="canary: it answers. shadow: it answers beside the champion, unseen. compare: "
            "the same, and both texts are kept to be labelled."
        ),
    ] = "canary",
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs.")] = False,
    json_: Json = False,
) -> None:
    """Try a candidate on the champion's traffic; without a name, say how it goes."""
    from contextlib import closing

    from pipelines.store import names, tokens, traffic
    from pipelines.store.connection import connect, transaction

    with closing(connect(output.home().store)) as db:
        if stop or checkpoint is not None:
            with transaction(db):
                if stop:
                    traffic.end(db, "it was ended by hand")
                else:
                    traffic.begin(db, names.named(db, str(checkpoint)), kind, share)
                tokens.audit(db, output.user(), f"canary {'--stop' if stop else checkpoint}")
        _show(db, as_json=json_)


def _show(db: "Database", *, as_json: bool) -> None:
    from pipelines.store import traffic
    from service.tables import table
    from service.trials import described

    newest = next(iter(traffic.listed(db)), None)
    if as_json:
        output.print_json(described(db, newest) if newest else None)
    elif newest is None:
        output.console().print("no candidate was ever tried: preceptor canary candidate")
    else:
        told = described(db, newest)
        state = f"ended: {newest.why}" if newest.ended_at else f"{newest.share:.0%} of the requests"
        output.console().print(f"{newest.kind} of {newest.checkpoint_id[:12]}, {state}")
        rows = [(who, *_told(told[who])) for who in ("candidate", "champion")]
        output.console().print(table(["", "answers", "failed", "first token"], rows))


def _told(side: dict[str, Any]) -> tuple[str, str, str]:
    first = side["first_token_s"]
    return str(side["answers"]), str(side["failed"]), "" if first is None else f"{first:.2f} s"
