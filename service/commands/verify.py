"""`preceptor verify`: any verifier on the rows of a JSONL file."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from service import output
from service.output import Json

if TYPE_CHECKING:
    from judges.records import Parser, Verification
    from judges.verifiers.pool import Pool
    from service.findings_file import FindingsFile

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
    """A line that holds none stands here as it is, as `line`."""
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
    finding: Annotated[
        str, typer.Option(help="Field that the finding gets in a written row.")
    ] = "verification",
    json_: Json = False,
) -> None:
    """Check every row of a file; a bad line is told with its number, and the others go on."""
    from judges.verifiers import versioned
    from service.findings_file import FindingsFile

    named = versioned(verifier)  # one that is not there is told before anything is read
    total = _count(file)
    _check_parameters(verifier, entry)
    fields, report = Fields(text, reference, entry), Report(file)
    lines, written = _lines(file, fields), None
    if out is not None:
        written = FindingsFile(out, finding, named, parser, fields)
        written.check_place(file)
        for line in _lines(file, fields):
            written.check_row(line.row, f"{file}:{line.number}")
        _go_on(written, lines, report)
    try:
        with written.opened() if written else nullcontext() as rows:

            def keep(line: Line, found: "Verification") -> None:
                if written and rows:
                    rows.write(written.line(line.row, found))
                report.add(line, found)

            checker = Checker(verifier, parser, workers, keep)
            asyncio.run(checker.check(lines, total, report.rows, quiet=json_))
    except (Exception, KeyboardInterrupt) as ended:
        where = f", and what was found is in {written.partial}" if written and report.rows else ""
        typer.echo(f"stopped: {report.rows} of {total} rows were checked{where}", err=True)
        if isinstance(ended, KeyboardInterrupt):
            raise typer.Exit(130 if where else 1) from None  # 130: the same command goes on
        raise
    if json_:
        output.print_json({"verifier": named, **report.as_json()})
    else:
        report.show()
    for said in (*report.bad, *report.hints(verifier, fields)):
        typer.echo(said, err=True)
    if report.bad:
        raise typer.Exit(1)


def _count(file: Path) -> int:
    """How many rows there are.

    Raises:
        ConfigError: there is no such file, or nothing in it.
    """
    from teachers.errors import ConfigError

    hint = "It needs one JSON object a line."
    if file.is_dir():
        raise ConfigError(f"{file} is a folder.", hint=f"Name a JSONL file in it. {hint}")
    if not file.is_file():
        raise ConfigError(f"There is no file {file}.")
    with file.open("rb") as rows:
        total = sum(not row.isspace() for row in rows)
    if not total:
        raise ConfigError(f"{file} is empty.", hint=hint)
    return total


def _check_parameters(verifier: str, entry: str) -> None:
    """Refuse parameters on the command line that the rule does not take.

    Raises:
        ConfigError: what is wrong with them.
    """
    from judges.verifiers import unfit
    from teachers.errors import ConfigError

    if not entry.lstrip().startswith("{"):
        return
    try:
        given = json.loads(entry)
    except ValueError as wrong:
        raise ConfigError(f"--entry is no JSON: {wrong}") from wrong
    if fault := unfit(verifier, given):
        raise ConfigError(f"--entry: {fault}.", hint="docs/verifiers.md lists the parameters.")


def _go_on(written: "FindingsFile", lines: Iterator["Line"], report: "Report") -> None:
    """Take over what a check of the same rows had found when it was stopped.

    Raises:
        ConfigError: the rows are not the same.
    """
    for row, found in written.before():
        line = next(lines, None)
        if line is None:
            raise written.foreign("it has more rows than there are by now")
        written.check_same(row, line.row, f"row {line.number}")
        report.add(line, found)
    if report.rows:
        typer.echo(f"going on after {report.rows} rows in {written.partial}", err=True)


def _lines(file: Path, fields: Fields) -> Iterator[Line]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row: Any = None
                try:
                    row = json.loads(line)
                    yield Line(number, row, _job(row, fields))
                except (ValueError, TypeError, RecursionError) as wrong:
                    raw = line.decode(errors="backslashreplace").rstrip("\n")
                    kept = row if isinstance(row, dict) else {"line": raw}
                    yield Line(number, kept, None, str(wrong))


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


class Checker:
    """Checks rows as they are read, several at a time.

    Args:
        keep: gets every row with its finding, in the order of the file; a bad one is an error
            without being checked.
    """

    def __init__(
        self,
        verifier: str,
        parser: "Parser",
        workers: int,
        keep: "Callable[[Line, Verification], None]",
    ) -> None:
        self._verifier, self._parser, self._workers = verifier, parser, workers
        self._keep = keep

    async def check(
        self, lines: Iterator[Line], total: int, before: int = 0, *, quiet: bool
    ) -> None:
        """Check every line. What is done waits for a slower one before it, and nothing else does.

        Args:
            total: how many there are, for the progress that is shown.
            before: how many of them were checked another time.
        """
        from judges.verifiers.pool import BATCH, Pool
        from pipelines.workbench import together
        from service.progress import Shown
        from teachers.progress import step

        progress = Shown(output.console(stderr=quiet))
        numbered = enumerate(lines)
        done: dict[int, tuple[Line, Verification]] = {}
        turn = 0

        async def work() -> None:
            nonlocal turn
            for at, line in numbered:
                done[at] = line, await self._found(pool, line)
                while turn in done:
                    self._keep(*done.pop(turn))
                    turn += 1
                    progress.update(before + turn)

        async with Pool(self._workers) as pool:
            with step(progress, "checking", total):
                # A worker's next batch is ready when it has done the one before.
                await together(work, 2 * BATCH * self._workers)

    async def _found(self, pool: "Pool", line: Line) -> "Verification":
        from judges.records import Verification

        if line.job is None:
            return Verification(state="error", reason=line.why)
        return await pool.check(verifier=self._verifier, parser=self._parser, **line.job)


class Report:
    """What is told at the end: how often each state was found, with the first rows of each."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._states, self._jails = Counter[str](), Counter[str]()
        self._examples: dict[str, list[tuple[str, ...]]] = {}
        self.rows = 0
        self.bad: list[str] = []
        """Lines that could not be checked, and why."""
        self._references, self._parameters = False, set[str]()

    def add(self, line: Line, found: "Verification") -> None:
        from service.tables import start

        self.rows += 1
        self._states[found.state] += 1
        if found.jail:
            self._jails[found.jail] += 1
        if line.job is None:
            self.bad.append(f"{self._file}:{line.number}: {line.why}")
        else:
            self._references |= line.job["reference"] is not None
            self._parameters |= line.job["entry"].keys()
        examples = self._examples.setdefault(found.state, [])
        if len(examples) < EXAMPLES:
            answer, reason = start(found.answer or "-", 40), start(found.reason, 100)
            examples.append((found.state, str(line.number), answer, reason))

    def hints(self, verifier: str, fields: Fields) -> Iterator[str]:
        """What was asked for on the command line and is in no row."""
        from judges.verifiers import parameters_of

        if not self._references and fields.reference != "reference":
            yield f"hint: no row has a reference in {fields.reference!r} (--reference)"
        known = parameters_of(verifier)
        if fields.entry == "entry" and not self._parameters:
            return  # nobody has asked for any
        if not self._parameters:
            yield f"hint: no row has parameters in {fields.entry!r} (--entry)"
        elif known is not None and not self._parameters & known:
            takes = f"takes {', '.join(sorted(known))}" if known else "takes no parameters"
            yield f"hint: {verifier} {takes}: no row's entry ({fields.entry}) says anything to it"

    def as_json(self) -> dict[str, Any]:
        return {"states": self._states, "jails": self._jails, "bad_lines": self.bad}

    def show(self) -> None:
        from service.tables import percent, show_lines

        counted = self._states.most_common()
        rows = [(state, str(n), percent(n / self.rows)) for state, n in counted]
        console = output.console()
        show_lines(console, ("state", "rows", "share"), rows)
        for jail, n in self._jails.items():
            console.print(f"\n{n} programs ran in the jail {jail}", highlight=False)
        for state, _ in counted:
            console.print()
            show_lines(console, ("state", "line", "answer", "reason"), self._examples[state])
