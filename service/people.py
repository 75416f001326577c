"""People's labels in figures: their habits, and how far judges agree with them."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from judges.agreement import Agreement
from judges.labels import Annotator
from pipelines.agreement import WithPeople
from service.tables import table


def show_annotators(console: Console, annotators: Sequence[Annotator]) -> None:
    """A line a person, and a line for each two who have labelled the same."""
    rows = [
        (one.name, one.labels, one.skipped, _percent(one.first_slot), _percent(one.picks_longer))
        + (f"{one.seconds:.1f} s",)
        for one in annotators
    ]
    columns = ["annotator", "labels", "skipped", "chose A", "chose the longer", "median time"]
    console.print(table(columns, rows, "people"))
    pairs = [
        (one.name, other, *_agreed(agreed))
        for one in annotators
        for other, agreed in one.against.items()
        if one.name < other
    ]
    if pairs:
        console.print()
        console.print(table(["annotator", "and", "agree", "of", "kappa"], pairs))


def show_judges(console: Console, judges: Sequence[WithPeople]) -> None:
    """A line for each judge, principle, and what people were asked."""
    rows = [
        (one.judge, one.principle, "overall" if one.overall else "the same")
        + (*_agreed(one.all), *(_agreed(one.decided) if one.decided else ("", "", "")))
        for one in judges
    ]
    columns = ["judge", "principle", "people were asked", "agree", "of", "kappa"]
    columns += ["where both prefer", "of", "kappa"]
    console.print(table(columns, rows, "judges and people"))


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


def _agreed(agreed: Agreement) -> tuple[str, int, str]:
    return str(agreed.share).strip(), agreed.share.n, f"{agreed.kappa:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
