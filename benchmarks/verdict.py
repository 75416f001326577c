"""How every benchmark ends: a table, and one last line that others read."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from service.tables import table


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of figures."""
    from rich.console import Console

    console = Console(width=120)
    console.print()
    console.print(table(columns, rows, title))


def conclude(name: str, ratio: float, bar: float, *, at_least: bool, also: bool = True) -> NoReturn:
    """Print the last line and end: 0 if the bar holds, 1 if not.

    Args:
        at_least: the ratio must be at least the bar; else at most.
        also: whether everything else that was asked for holds.
    """
    holds = ratio >= bar if at_least else ratio <= bar
    print(f"{name}: ratio {ratio:.3g} (bar {bar:g})", flush=True)
    sys.exit(0 if holds and also else 1)


def measured(name: str, value: float, *, enough: bool) -> NoReturn:
    """Print the last line of a measurement without a bar and end.

    Args:
        enough: whether as many cases were measured as stated; else the exit status is 1.
    """
    print(f"{name}: measured {value:.3g} (no bar)", flush=True)
    sys.exit(0 if enough else 1)


def skip(name: str, why: str) -> NoReturn:
    """End without a figure, and say what is missing."""
    print(f"{name}: skipped, {why}", flush=True)
    sys.exit(0)
