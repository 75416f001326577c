"""`preceptor verify`: any verifier on the rows of a JSONL file."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from service import output
from service.output import Json

if TYPE_CHECKING:
    from judges.records import Parser, Verification

EXAMPLES = 2
# Written out: importing the verifiers would make `--help` wait. A test holds it against them.
VERIFIERS = (
    "choice, code, constraints, exact, format, json_schema, language, length, math, number, "
    "reasoning_gym, regex, repetition, similarity, text"
)


class Fields(NamedTuple):
    """Where in a row things are."""

    text: str
    reference: str
    entry: str
    """A field, `.` for the row itself, or the entry as JSON."""


class Line(NamedTuple):
    """A line of the file: a row that can be checked, or why it cannot."""

    number: int
    """Counted from 1."""
    row: dict[str, Any]
    """A bad line stands here as it is, as `line`."""
    job: dict[str, Any] | None
    why: str = ""


def verify(
    file: Annotated[Path, typer.Argument(help="A JSONL file with a text a line.")],
    verifier: Annotated[str, typer.Option(help=f"One of {VERIFIERS}; or MODULE:FUNCTION.")],
    parser: Annotated[
        Literal["strict", "lenient"], typer.Option(help="How the final answer is found.")
    ] = "lenient",
    text: Annotated[str, typer.Option(help="Field with the text.")] = "text",
    reference: Annotated[str, typer.Option(help="Field with the right answer.")] = "reference",
    entry: Annotated[
        str, typer.Option(help="Field with the parameters, `.` for the row, or them as JSON.")
    ] = "entry",
    out: Annotated[Path | None, typer.Option(help="Write the rows there, with findings.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1, max=64)] = 2,
    json_: Json = False,
) -> None:
    """Check every row of a file; a bad line is told with its number, and the others go on."""
    from judges.verifiers import versioned
    from teachers.errors import ConfigError
    from teachers.files import write_whole

    versioned(verifier)  # one that is not there is told before anything is read
    if not file.is_file():
        raise ConfigError(f"There is no file {file}.")
    lines = list(_lines(file, Fields(text, reference, entry)))
    if not lines:
        raise ConfigError(f"{file} is empty.", hint="It needs one JSON object a line.")
    findings = asyncio.run(_findings(lines, verifier, parser, workers, quiet=json_))
    if out is not None:
        write_whole(out, "".join(map(_written, lines, findings)))
    bad = [f"{file}:{line.number}: {line.why}" for line in lines if line.job is None]
    if json_:
        states = Counter(found.state for found in findings)
        output.print_json({"verifier": versioned(verifier), "states": states, "bad_lines": bad})
    else:
        _show(lines, findings)
    for why in bad:
        typer.echo(why, err=True)
    if bad:
        raise typer.Exit(1)


def _lines(file: Path, fields: Fields) -> Iterator[Line]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                    yield Line(number, row, _job(row, fields))
                except (ValueError, TypeError, RecursionError) as wrong:
                    raw = line.decode(errors="backslashreplace").rstrip("\n")
                    yield Line(number, {"line": raw}, None, str(wrong))


def _job(row: Any, fields: Fields) -> dict[str, Any]:
    """What to ask the pool.

    Raises:
        TypeError: the row lacks something, or has something else there.
        ValueError: the entry is no JSON.
    """
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    text, reference = row.get(fields.text), row.get(fields.reference)
    if not isinstance(text, str):
        raise TypeError(f"no text in {fields.text!r}")
    if not isinstance(reference, str | int | float | None):
        raise TypeError(f"{fields.reference!r} is neither text nor number")
    if fields.entry.lstrip().startswith("{"):
        entry = json.loads(fields.entry)
    else:
        entry = row if fields.entry == "." else row.get(fields.entry, {})
    if not isinstance(entry, dict):
        raise TypeError(f"{fields.entry!r} is not an object")
    return {
        "text": text,
        "reference": None if reference is None else str(reference),
        "entry": entry,
    }


async def _findings(
    lines: Sequence[Line], verifier: str, parser: "Parser", workers: int, *, quiet: bool
) -> "list[Verification]":
    """What is found of each line, in order; a bad one is an error without being checked."""
    from judges.records import Verification
    from judges.verifiers.pool import Pool
    from service.progress import Shown
    from teachers.progress import step

    progress, done = Shown(output.console(stderr=quiet)), count(1)

    async def check(line: Line) -> Verification:
        if line.job is None:
            return Verification(state="error", reason=line.why)
        found = await pool.check(verifier=verifier, parser=parser, **line.job)
        progress.update(next(done))
        return found

    async with Pool(workers) as pool:
        with step(progress, "checking", sum(line.job is not None for line in lines)):
            return await asyncio.gather(*map(check, lines))


def _written(line: Line, found: "Verification") -> str:
    return json.dumps({**line.row, "verification": found.model_dump()}) + "\n"


def _show(lines: Sequence[Line], findings: "Sequence[Verification]") -> None:
    """How often each state was found, and the first lines of each with the reason."""
    from service.tables import percent, show_lines, start

    counted = Counter(found.state for found in findings).most_common()
    rows = [(state, str(n), percent(n / len(findings))) for state, n in counted]
    console = output.console()
    show_lines(console, ("state", "rows", "share"), rows)
    for state, _ in counted:
        of_state = [pair for pair in zip(lines, findings, strict=True) if pair[1].state == state]
        shown = [
            (state, str(line.number), start(found.answer or "-", 40), start(found.reason, 100))
            for line, found in of_state[:EXAMPLES]
        ]
        console.print()
        show_lines(console, ("state", "line", "answer", "reason"), shown)
