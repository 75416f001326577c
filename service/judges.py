"""How judges and their certificates look in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from judges.certify import Certificate, Criteria, Figures
from judges.judge import Judge, following
from judges.share import Share
from pipelines.certification import ADVICE
from pipelines.store.judgements import Standing
from service.tables import percent, plain, show_lines, start, table

FINGERPRINT_CHARACTERS = 12


def asked_as(judge: Judge) -> str:
    """The kind as a recipe says it: `follows` is a score of two words."""
    return "follows" if judge.words == following(judge.weights).words else judge.kind


def weights_of(judge: Judge) -> str:
    """An endpoint and its model, or the beginning of a fingerprint."""
    if " " in judge.weights:  # an address, a model and the revision that the recipe declares
        return judge.weights.removesuffix("@")
    return judge.weights[:FINGERPRINT_CHARACTERS]


def show_certificates(
    console: Console, judge: Judge, found: Mapping[str, Certificate | None], criteria: Criteria
) -> None:
    """For each principle: whether the judge may label with it, the other figures, and the halves.

    The cases that are open and those that are sealed have a line each; together they decide.
    """
    console.print(plain(f"{asked_as(judge)} {weights_of(judge)} ({judge.id[:8]})"))
    lines = [line for name, one in found.items() for line in _lines(name, one, criteria)]
    columns = ["principle", "pairs", "accuracy", "flips", "unread", ""]
    show_lines(console, columns, [row for row, _ in lines], [remark for _, remark in lines])
    _show_faults(
        console, {name: one.faults(criteria) for name, one in found.items() if one is not None}
    )


def _lines(
    name: str, one: Certificate | None, criteria: Criteria
) -> Iterator[tuple[Sequence[str], str]]:
    """A principle's rows, each with its remark."""
    if one is None:
        yield (name, "0", "-", "-", "-", "no cases"), ""
        return
    yield _measured(name, one, "not passed" if one.faults(criteria) else "passed"), _more(one)
    for half, figures in (("open", one.open), ("sealed", one.sealed)):
        if figures is not None:
            yield _measured(f"  {half}", figures, ""), ""


def _measured(name: str, one: Figures, verdict: str) -> Sequence[str]:
    accuracy = f"{one.accuracy:.0%} [{one.low:.0%}, {one.high:.0%}]"
    return name, str(one.n), accuracy, percent(one.flips), percent(one.unread), verdict


def _more(one: Certificate) -> str:
    """The figures that explain the others; docs/cli.md says what they are."""
    error, temperature = (_number(value) for value in (one.calibration_error, one.temperature))
    return (
        f"kappa {one.kappa:.2f}, first slot {percent(one.first_slot)}, "
        f"picks longer {percent(one.picks_longer)} (is better {percent(one.longer_is_better)}), "
        f"ECE {error}, T {temperature}"
    )


def _show_faults(console: Console, faults: Mapping[str, Sequence[str]]) -> None:
    failed = {name: said for name, said in faults.items() if said}
    for name, said in failed.items():
        console.print(f"{name}: {'; '.join(said)}", highlight=False, soft_wrap=True)
    if failed:
        console.print(f"It may measure, but not label, with: {', '.join(failed)}.", highlight=False)
        console.print(ADVICE, style="dim", highlight=False)


def show_sway(console: Console, judge: Judge, found: Mapping[str, Share]) -> None:
    """A line for each kind of injection: how many verdicts it changed."""
    console.print(plain(f"{asked_as(judge)} {weights_of(judge)} ({judge.id[:8]})"))
    rows = [(kind, str(one.n), str(one.hits), str(one)) for kind, one in found.items()]
    show_lines(console, ["injection", "verdicts", "swayed", "share"], rows)


def show_judges(
    console: Console, judges: Sequence[Judge], standings: Mapping[str, Sequence[Standing]]
) -> None:
    """Every judge with its certificates below it."""
    for judge in judges:
        name = f"{asked_as(judge)} {judge.id[:12]}"
        console.print(plain(f"{name}  weights: {weights_of(judge)}"), style="bold", soft_wrap=True)
        rows = [_standing(one) for one in standings.get(judge.id, ())]
        if not rows:
            console.print("  no certificate", style="dim")
            continue
        columns = ["principle", "measured on", "accuracy", "pairs", ""]
        show_lines(console, columns, rows, indent=2)


def _standing(one: Standing) -> Sequence[str]:
    found = one.certificate
    verdict = "passed" if one.passed else "not passed"
    text, gold = start(one.principle, 32), start(one.gold, 14)
    return text, gold, percent(found.accuracy), str(found.n), verdict


def as_json(
    judges: Sequence[Judge], standings: Mapping[str, Sequence[Standing]]
) -> list[dict[str, Any]]:
    """The same for scripts: a row a certificate, and one for a judge that has none."""
    none: Sequence[Standing | None] = [None]
    return [
        {"judge": judge.id, "kind": asked_as(judge), "weights": judge.weights, **_plainly(one)}
        for judge in judges
        for one in standings.get(judge.id, none)
    ]


def _plainly(one: Standing | None) -> dict[str, Any]:
    if one is None:
        return {}
    told = {"principle": one.principle, "gold": one.gold, "passed": one.passed}
    return told | one.certificate.model_dump()


def show_trained(console: Console, report: Mapping[str, Any]) -> None:
    """What a judge round's certification found, and what to do with the judge."""
    rows = [
        (one["principle"], start(one["text"], 24), who, *_told(one[who]))
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
