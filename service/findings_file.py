"""The rows that `preceptor verify` writes: each as it was found, and gone on with after a stop."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from teachers.errors import ConfigError
from teachers.files import PARTIAL, sync
from teachers.records import content_id

if TYPE_CHECKING:
    from judges.records import Verification

ANOTHER = "Name another file, in a folder that is there."


class FindingsFile:
    """A file that gets its name when every row is in it. Until then the rows are in `partial`.

    Args:
        out: where the rows are to be in the end.
        field: the field that findings get in a row.
        settings: whatever else makes another check of it; each has another `partial`.
    """

    def __init__(self, out: Path, field: str, *settings: Any) -> None:
        self._out, self._field = out, field
        self._settings = content_id("findings", [field, *settings])[:8]

    @property
    def partial(self) -> Path:
        return self._out.with_name(f"{self._out.name}.{self._settings}{PARTIAL}")

    def check_place(self, file: Path) -> None:
        """Refuse what could not be written in the end, or would be written over what is read.

        Raises:
            ConfigError: why.
        """
        out = self._out
        if not out.name or out.is_dir() or not out.parent.is_dir():
            raise ConfigError(f"--out {str(out)!r} is no place for a file.", hint=ANOTHER)
        for place in (out, self.partial):
            if place.exists() and place.samefile(file):
                raise ConfigError(f"--out {out}: {place} is the file that is read.", hint=ANOTHER)

    def check_row(self, row: dict[str, Any], where: str) -> None:
        """Refuse a row whose own field a finding would replace.

        Raises:
            ConfigError: it has such a field.
        """
        if self._field in row:
            raise ConfigError(
                f"{where} has a field {self._field!r} already, and the finding would replace it.",
                hint="--finding NAME writes the findings to a field of another name.",
            )

    @contextmanager
    def opened(self) -> Iterator[IO[str]]:
        """The rows' file, to add to; it gets its name if the block ends well."""
        with self.partial.open("a", buffering=1) as rows:
            yield rows
        sync(self.partial)
        self.partial.rename(self._out)
        sync(self._out.parent)

    def line(self, row: dict[str, Any], found: "Verification") -> str:
        """A row with its finding, as it is written."""
        return json.dumps({**row, self._field: found.model_dump()}) + "\n"

    def before(self) -> "Iterator[tuple[dict[str, Any], Verification]]":
        """Rows and findings of a check that was stopped; a line that was cut is cut off.

        Raises:
            ConfigError: there are other things in the file.
        """
        from judges.records import Verification

        if not self.partial.exists():
            return
        with self.partial.open("rb+") as rows:
            whole = 0
            for line in rows:
                if not line.endswith(b"\n"):
                    rows.truncate(whole)
                    return
                whole += len(line)
                try:
                    row = json.loads(line)
                    found = Verification.model_validate(row.pop(self._field))
                except (ValueError, AttributeError, KeyError):
                    raise self.foreign(f"{line[:60]!r} is no row with a finding") from None
                yield row, found

    def check_same(self, before: dict[str, Any], row: dict[str, Any], where: str) -> None:
        """Refuse to go on where the input is not what it was.

        Raises:
            ConfigError: it is another row.
        """
        if json.dumps(before) != json.dumps(row):  # NaN is not equal to itself
            raise self.foreign(f"{where} is another row by now")

    def foreign(self, why: str) -> ConfigError:
        """The error that this file was not begun on the same input."""
        return ConfigError(
            f"What a stopped check left in {self.partial} cannot be gone on with: {why}.",
            hint="Remove it to begin anew, or name another --out.",
        )
