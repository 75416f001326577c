"""People's labels in figures: their habits, and how far judges agree with them."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich.console import Console

from judges.agreement import Agreement
from judges.labels import Annotator
from pipelines.agreement import WithPeople
from service.tables import percent, plain, show_lines, start, table


def show_annotators(console: Console, annotators: Sequence[Annotator]) -> None:
    """A line a person, and a line for each two who have labelled the same."""
    rows = [
        (one.name, one.labels, one.skipped, percent(one.first_slot), percent(one.picks_longer))
        + (f"{one.seconds:.1f} s",)
        for one in annotators
    ]
    columns = ["annotator", "labels", "skipped", "chose A", "chose the longer", "median time"]
    console.print(table(columns, rows, "people"))
    pairs = [
        (one.name, other, *_said(agreed))
        for one in annotators
        for other, agreed in one.against.items()
        if one.name < other
    ]
    if pairs:
        console.print()
        console.print(table(["annotator", "and", "agree", "kappa"], pairs))


def show_judges(console: Console, judges: Sequence[WithPeople]) -> None:
    """Two lines for each judge, principle, and what people were asked."""
    by_judge = attrgetter("judge")
    for name, its in groupby(sorted(judges, key=by_judge), key=by_judge):
        found = list(its)
        rows = [
            (start(one.principle, 36), "overall" if one.overall else "the same", *_said(one.all))
            for one in found
        ]
        remarks = [_where_both_prefer(one.decided) if one.decided else "" for one in found]
        console.print(plain(name), style="bold", soft_wrap=True)
        columns = ["principle", "people asked", "agree", "kappa"]
        show_lines(console, columns, rows, remarks, indent=2)


def _where_both_prefer(agreed: Agreement) -> str:
    share, kappa = _said(agreed)
    return f"where both prefer one: {share}, kappa {kappa}"


def as_json(annotators: Sequence[Annotator], judges: Sequence[WithPeople]) -> dict[str, Any]:
    """The same figures for scripts."""
    return {
        "annotators": [
            one._asdict()
            | {"against": {other: _figures(agreed) for other, agreed in one.against.items()}}
            for one in annotators
        ],
        "judges": [
            one._asdict()
            | {"all": _figures(one.all), "decided": one.decided and _figures(one.decided)}
            for one in judges
        ],
    }


def _figures(agreed: Agreement) -> dict[str, float]:
    return {"agree": agreed.share.value, **agreed.share._asdict(), "kappa": agreed.kappa}


def _said(agreed: Agreement) -> tuple[str, str]:
    share = agreed.share
    told = f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n}"
    return told, f"{agreed.kappa:.2f}"
