"""How rows and reports look in a terminal."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.store.lookup import Found
from pipelines.store.query import Rows

CELL_CHARACTERS = 80
# What moves a cursor or recolours a terminal is no text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> Text:
    """What a model or a file says, as it stands there: brackets are no markup."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def as_json(rows: Rows) -> str:
    """A list of objects, a row each. The second column of a name is `name:2`; JSON has no number
    for infinity, which becomes text."""
    columns = [
        f"{name}:{before + 1}" if (before := rows.columns[:at].count(name)) else name
        for at, name in enumerate(rows.columns)
    ]
    return json.dumps(
        [dict(zip(columns, map(_for_json, row), strict=True)) for row in rows.rows],
        indent=1,
        default=str,
        allow_nan=False,
    )


def _for_json(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Table:
    """A plain table; long cells are cut, with a mark."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(plain(column))
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def start(text: str, characters: int) -> str:
    """How a text begins, short enough for a column."""
    text = " ".join(text.split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def percent(share: float | None) -> str:
    """A share for a column; a dash where there is none."""
    return "-" if share is None else f"{share:.0%}"


def show_lines(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    remarks: Sequence[str] = (),
    *,
    indent: int = 0,
) -> None:
    """Rows as lines of equal columns that are never wrapped, each with its remark below it."""
    every = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    for row, remark in zip_longest(every, ["", *remarks], fillvalue=""):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        style = "bold" if row is columns else ""
        console.print(plain(" " * indent + cells.rstrip()), style=style, soft_wrap=True)
        if remark:
            console.print(plain(" " * (indent + 2) + remark), style="dim", soft_wrap=True)


def show_rows(console: Console, rows: Rows) -> None:
    """A query's answer."""
    console.print(table(rows.columns, rows.rows))
    more = " (there are more: --limit)" if rows.truncated else ""
    console.print(f"{len(rows.rows)} rows{more}", style="dim")


def show_found(console: Console, found: Found) -> None:
    """A row with all its fields, and what belongs to it."""
    console.print(f"[bold]{found.table}[/bold]")
    for name, value in found.row.items():
        console.print(f"  {name}: ", end="")
        console.print(plain(str(value)))
    for heading, rows in found.related.items():
        console.print(table(rows.columns, rows.rows, heading))


def show_gate(console: Console, report: dict[str, Any]) -> None:
    """The gate's figures: accuracy with 95 % intervals and the bars, or the answers' shift."""
    if report.get("kind") == "preference":
        _show_shift(console, report)
        return
    rows = []
    for task, measured in {**report["by_task"], "all": report["shares"]}.items():
        for who, shares in measured.items():
            rows.append([task, who, *(_share(shares[parser]) for parser in ("strict", "lenient"))])
    title = f"{report['items']} held-out prompts, accuracy with 95 % intervals"
    console.print(table(["task", "who", "strict parser", "lenient parser"], rows, title))
    bars = [
        [bar["name"], f"{bar['gain']:+.1%}", f"{bar['wanted']:+.1%}", f"{bar['p']:.1e}"]
        + ["passed" if bar["passed"] else "missed"]
        for bar in report["bars"]
    ]
    console.print()
    console.print(table(["student", "gain", "wanted", "McNemar p", ""], bars, "the gate"))
    _show_conditions(console, report)


def _show_shift(console: Console, report: dict[str, Any]) -> None:
    rows = [
        [who, int(median(lengths)), min(lengths), max(lengths)]
        for who, lengths in report["lengths"].items()
    ]
    # Not as the table's title, which would be wrapped to its few columns.
    console.print(f"{report['items']} held-out requests, length of the answers in tokens")
    console.print(table(["who", "median", "shortest", "longest"], rows))
    if verdicts := report["verdicts"]:
        told = ", ".join(f"{name} {count}" for name, count in verdicts.items())
        console.print(f"\nthe student's answers, by the judge: {told}")
    _show_conditions(console, report, "the gate")


def _show_conditions(console: Console, report: dict[str, Any], title: str = "") -> None:
    every = [*report.get("conditions", ()), *([report["kl"]] if "kl" in report else ())]
    rows = [
        [one["name"], one["found"], one["wanted"], "" if one["p"] is None else f"{one['p']:.1e}"]
        + ["met" if one["passed"] else "missed"]
        for one in every
    ]
    if rows:
        console.print()
        console.print(table(["condition", "found", "wanted", "p", ""], rows, title))


def _share(share: Sequence[float]) -> str:
    hits, n, low, high = share
    return f"{hits / n:6.1%}  [{low:.1%}, {high:.1%}]"


def _cell(value: Any) -> Text:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return plain(start(text, CELL_CHARACTERS))
