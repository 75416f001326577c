"""How previews of edited constitutions look in a terminal, and as JSON."""

from typing import Any

from rich.console import Console

from pipelines.preview import Changed, Effect, Plan, Preview, Touched
from service.tables import plain, table


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
        console.print(f"share of prompts whose pairs change: {str(preview.affected).strip()}")
    for name, touched in preview.by_principle.items():
        _show_touched(console, name, touched, preview.exact)
    if shown and preview.changed:
        console.print("by: the edited principles that decide, and their pull at the first answer")
    for one in preview.changed[:shown]:
        _show_changed(console, one)
    if len(preview.changed) > shown:
        console.print(f"{len(preview.changed) - shown} more (--show)", style="dim")


def as_json(preview: Preview) -> dict[str, Any]:
    """All of a preview."""
    by_principle = {name: one._asdict() for name, one in preview.by_principle.items()}
    changed = [_changed_as_json(one) for one in preview.changed]
    return preview._asdict() | {"by_principle": by_principle, "changed": changed}


def _changed_as_json(one: Changed) -> dict[str, Any]:
    comparison = one.compared.comparison
    return {
        "comparison": comparison.id,
        "effect": one.effect,
        "request": comparison.conversation[-1].content,
        "first": comparison.first,
        "second": comparison.second,
        "before": one.before.model_dump(),
        "after": one.after.model_dump(),
        "by": [shift._asdict() for shift in one.by],
        "reason": one.reason,
    }


def _show_touched(console: Console, name: str, touched: Touched, exact: bool) -> None:
    interval = ""
    if touched.affected is not None and not exact:
        interval = f"; of its prompts {str(touched.affected).strip()}"
    edits = ", ".join(touched.edits)
    console.print(f"[bold]{name}[/bold], {edits}: {_counts(touched.pairs)}{interval}")
    if touched.verdicts is not None:
        console.print(f"  its verdicts: {_counts(touched.verdicts)}", style="dim")


def _counts(effects: dict[Effect, int]) -> str:
    return ", ".join(f"{effect} {count}" for effect, count in effects.items())


def _show_changed(console: Console, one: Changed) -> None:
    comparison = one.compared.comparison
    reason = f" ({one.reason})" if one.reason else ""
    console.print(f"\n[bold]{one.effect}[/bold]: {one.before.state} -> {one.after.state}{reason}")
    for shift in one.by:
        console.print(
            f"by [bold]{shift.principle}[/bold]: {shift.before:+.2f} -> {shift.after:+.2f}"
        )
    request = comparison.conversation[-1].content
    console.print(plain(request), style="italic")
    grid = table(["first", "second"], [])
    grid.padding = (0, 2, 0, 0)
    grid.add_row(plain(comparison.first), plain(comparison.second))
    console.print(grid)
