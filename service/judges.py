"""How certificates and previews look in a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from judges.certify import Certificate, Criteria
from pipelines.preview import Changed, Plan, Preview
from service.tables import table


def show_certificates(
    console: Console, judge: str, found: Mapping[str, Certificate], criteria: Criteria
) -> None:
    """A row a principle: its figures, and whether the judge may label with it."""
    rows = [
        (name, one.n, f"{one.accuracy:.0%} [{one.low:.0%}, {one.high:.0%}]", f"{one.kappa:.2f}")
        + (f"{one.flips:.0%}", _percent(one.first_slot))
        + (f"{_percent(one.picks_longer)} ({_percent(one.longer_is_better)})",)
        + (_number(one.calibration_error), _number(one.temperature), f"{one.unread:.0%}")
        + ("passed" if not one.faults(criteria) else "not passed",)
        for name, one in found.items()
    ]
    columns = ["principle", "pairs", "accuracy", "kappa", "flips", "first slot"]
    columns += ["picks longer (is better)", "ECE", "T", "unread", ""]
    console.print(table(columns, rows, f"{judge}: right on pairs whose better answer is known"))
    failed = {name: faults for name, one in found.items() if (faults := one.faults(criteria))}
    for name, faults in failed.items():
        console.print(f"{name}: {'; '.join(faults)}", highlight=False, soft_wrap=True)
    if failed:
        console.print(
            "It may measure with these principles, not label. A stronger judge, a clearer "
            "principle, labels by construction, or a judge trained for it (train.objective: "
            "judge) is what helps.",
            style="dim",
        )


def show_trained(console: Console, report: Mapping[str, Any]) -> None:
    """What a judge round's certification found, and what to do with the judge."""
    rows = [
        (one["principle"], _start(one["text"]), who, *_told(one[who]))
        for one in report["principles"]
        for who in ("base", "judge")
    ]
    columns = ["principle", "text", "who", "sealed cases", "constructed pairs", ""]
    title = "right on what neither has seen, with 95 % intervals"
    console.print(table(columns, rows, title))
    console.print()
    checkpoint = report["checkpoint"][:16]
    if report["passed"]:
        console.print(f"[green]certified[/green]: {checkpoint} is called {report['alias']} now")
        place = f'judge: {{weights: "checkpoint:{report["alias"]}", kind: follows}}'
        console.print(f"to label with it: {place}", highlight=False, soft_wrap=True)
        return
    console.print(f"[yellow]not certified[/yellow]: {checkpoint} may not label")
    for line in _faults(report):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(
        "More prompts (supply), more open cases, more epochs or a larger student help; with "
        "pairs.source: construction no judge is needed.",
        style="dim",
    )


def _told(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    cases, constructed = figures["cases"], figures.get("constructed")
    passed = not any(held["faults"] for held in figures.values())
    verdict = "passed" if passed else "not passed"
    return _accuracy(cases), _accuracy(constructed) if constructed else "-", verdict


def _accuracy(found: Mapping[str, Any]) -> str:
    low, high = found["low"], found["high"]
    return f"{found['accuracy']:.0%} [{low:.0%}, {high:.0%}] of {found['n']}"


def _faults(report: Mapping[str, Any]) -> Iterator[str]:
    for one in report["principles"]:
        for gold, held in one["judge"].items():
            if held["faults"]:
                yield f"{one['principle']}, {gold}: {'; '.join(held['faults'])}"


def _start(text: str, characters: int = 24) -> str:
    """How a principle's text begins, short enough for a column."""
    return text if len(text) <= characters else f"{text[:characters]}…"


def show_cost(console: Console, plan: Plan) -> None:
    """What a preview would spend."""
    time = f", about {plan.seconds:.0f} s" if plan.seconds is not None else ""
    console.print(f"{plan.calls} calls to the judge are missing for this{time}.")


def show_preview(console: Console, preview: Preview, shown: int) -> None:
    """What an edit would change, and some of the pairs in full."""
    kind = "exact" if preview.exact else "judged on a sample"
    console.print(f"{preview.comparisons} stored comparisons, {kind}")
    effects = [(name, count) for name, count in preview.effects.items()]
    console.print(table(["pairs", ""], effects))
    if preview.affected is not None and not preview.exact:
        console.print(f"share of pairs that change: {str(preview.affected).strip()}")
    for name, counts in preview.by_principle.items():
        told = ", ".join(f"{effect} {count}" for effect, count in counts.items())
        console.print(f"[bold]{name}[/bold], reworded: {told}")
    for one in preview.changed[:shown]:
        _show_changed(console, one)
    if len(preview.changed) > shown:
        console.print(f"{len(preview.changed) - shown} more (--show)", style="dim")


def _show_changed(console: Console, one: Changed) -> None:
    comparison = one.compared.comparison
    console.print(f"\n[bold]{one.effect}[/bold]: {one.before.state} -> {one.after.state}")
    request = comparison.conversation[-1].content
    console.print(request, markup=False, highlight=False, style="italic")
    grid = table(["first", "second"], [])
    grid.padding = (0, 2, 0, 0)
    grid.add_row(_plain(comparison.first), _plain(comparison.second))
    console.print(grid)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
