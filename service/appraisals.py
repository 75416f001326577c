"""What a reward model reached on held-out pairs, in a terminal, and what to do with it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from judges.share import Share
from service.tables import plain, table


def show_appraised(console: Console, report: Mapping[str, Any]) -> None:
    """The report of a reward round's last stage."""
    title = "right on held-out pairs, with 95 % intervals"
    console.print(table(["", "", "pairs", "accuracy"], _rows(report), title))
    scores = report["scores"]
    low, middle, high = scores["quartiles"]
    console.print(
        f"calibration error {report['calibration_error']:.3f}; answers of the round score "
        f"{scores['mean']:+.2f} on average, deviation {scores['deviation']:.2f}, quartiles "
        f"{low:+.2f} {middle:+.2f} {high:+.2f}; against length {report['gained']} pairs won, "
        f"{report['lost']} lost, p = {report['p']:.2g}",
        highlight=False,
        soft_wrap=True,
    )
    if report["best_of"]:
        worth = ", ".join(f"{gold:.2f} of {n}" for n, _, gold in report["best_of"])
        console.print(
            f"the best by its score, by judge or verifier: {worth}; picture: {report['picture']}",
            highlight=False,
            soft_wrap=True,
        )
    console.print()
    checkpoint = report["checkpoint"][:16]
    if report["passed"]:
        console.print(f"[green]passed[/green]: {checkpoint} is called {report['alias']} now")
        return
    console.print(f"[yellow]not passed[/yellow]: {checkpoint} may not reward")
    for fault in report["faults"]:
        console.print(plain(f"  {fault}"), soft_wrap=True)
    console.print(
        "More prompts (supply), more epochs or a larger base help; where length gives the labels "
        "away, pairs.length_ratio takes the worst of them out.",
        style="dim",
    )


def _rows(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "all", "", *_figures(report["accuracy"])
    yield "always the longer", "", *_figures(report["longer"])
    for by, groups in report["by"].items():
        for name, found in groups.items():
            yield f"by {by}", name, *_figures(found)


def _figures(found: Sequence[float]) -> tuple[str, str]:
    hits, n, low, high = found
    share = Share(int(hits), int(n), low, high)
    return str(share.n), str(share).strip()
