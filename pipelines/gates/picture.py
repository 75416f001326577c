"""One picture of a round: what its gate found and how training went, or what choosing by a reward
model comes to.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.overoptimised import Point
from teachers.files import write_whole

# Distinguishable in print and for the colour-blind (Okabe and Ito).
COLOURS = ("#999999", "#56B4E9", "#CC79A7", "#E69F00", "#009E73")


def draw(
    report: Mapping[str, Any], curve: Sequence[tuple[int, float]], told: str, path: Path
) -> None:
    """Draw the gate's report and a figure of training by step into a PNG file.

    Args:
        report: a `Decision` or a `Shift` as JSON.
        curve: (step, figure).
        told: what the figure is.
    """
    figure = _figure(13)
    axes = figure.subplots(1, 3, width_ratios=(5, 5, 3))
    if report.get("kind") == "preference":
        _lengths(axes[0], report["lengths"])
        _verdicts(axes[1], report["verdicts"])
    else:
        _accuracies(axes, report)
    axes[2].plot([step for step, _ in curve], [value for _, value in curve], color=COLOURS[4])
    axes[2].set(title=told, xlabel="step")
    outcome = "promoted" if report["promoted"] else "kept aside"
    figure.suptitle(f"{report['items']} held-out prompts: {outcome}")
    _save(figure, path)


def draw_best_of(points: Sequence[Point], path: Path) -> None:
    """Draw what the best of n answers by a reward model are worth, by its own account and by the
    judge's or the verifier's.
    """
    figure = _figure(9)
    axes = figure.subplots(1, 2)
    choices = [point.n for point in points]
    for axis, told, values in (
        (axes[0], "by the reward model", [point.proxy for point in points]),
        (axes[1], "by judge or verifier", [point.gold for point in points]),
    ):
        axis.plot(choices, values, marker="o", color=COLOURS[4])
        axis.set_xscale("log", base=2)
        axis.set_xticks(choices, [str(n) for n in choices])
        axis.set(title=told, xlabel="best of n by the reward model", ylabel="mean score")
    _save(figure, path)


def _figure(width: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, image.getvalue())


def _accuracies(axes: Any, report: Mapping[str, Any]) -> None:
    groups = {**report["by_task"], "all": report["shares"]}
    for axis, parser in zip(axes, ("strict", "lenient"), strict=False):
        _bars(axis, groups, parser)
    axes[0].set_ylabel("held-out accuracy, 95 % interval")
    axes[1].legend(frameon=False, fontsize=8)


def _lengths(axis: Any, lengths: Mapping[str, Sequence[int]]) -> None:
    """How long each one's answers are: the share of answers up to each length."""
    for colour, (who, tokens) in zip((COLOURS[0], COLOURS[-1]), lengths.items(), strict=True):
        shares = [(place + 1) / len(tokens) for place in range(len(tokens))]
        axis.step(sorted(tokens), shares, where="post", color=colour, label=who)
    axis.set(title="length of answers", xlabel="tokens", ylabel="share up to this length")
    axis.legend(frameon=False, fontsize=8)


def _verdicts(axis: Any, verdicts: Mapping[str, int]) -> None:
    """What the judge says of the student's answers."""
    axis.bar(list(verdicts), list(verdicts.values()), color=COLOURS[: len(verdicts)])
    axis.set(title="the judge on the student's answers" if verdicts else "no judge")


def _bars(axis: Any, groups: Mapping[str, Mapping[str, Any]], parser: str) -> None:
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        shares = [measured[name][parser] for measured in groups.values()]
        values = [hits / n for hits, n, _, _ in shares]
        reach = [
            [max(0.0, value - low) for value, (_, _, low, _) in zip(values, shares, strict=True)],
            [max(0.0, high - value) for value, (_, _, _, high) in zip(values, shares, strict=True)],
        ]
        at = [group + (place - (len(names) - 1) / 2) * width for group in range(len(groups))]
        colour = COLOURS[-1] if name == "student" else COLOURS[place % (len(COLOURS) - 1)]
        axis.bar(at, values, width, yerr=reach, label=name, color=colour, capsize=2)
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set(title=f"{parser} answer parser", ylim=(0, 1))
