"""Constitutions as versions: named by their content, with who committed them, when and why."""

import difflib
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

from judges.constitution import Constitution
from judges.constitution_file import SHIPPED, load
from pipelines.store.connection import now
from teachers.errors import ConfigError


class Version(NamedTuple):
    """A constitution as it was committed."""

    id: str
    name: str
    parent: str | None
    """The version that was in force before, also one that comes with Preceptor; None for the
    first."""
    author: str
    message: str
    committed_at: float


class Committed(NamedTuple):
    """The version in force after a commit."""

    version: Version
    new: bool
    """False where it was in force already, and nothing was stored."""


class Named(NamedTuple):
    """A name, and what it stands for."""

    name: str
    in_force: str | None
    """The version's id; None: nothing was committed, and the file that comes with Preceptor
    counts."""
    commits: int
    committed_at: float | None


def commit(db: Database, constitution: Constitution, author: str, message: str) -> Committed:
    """Put a version in force under its name."""
    if (current := head(db, constitution.name)) and current.id == constitution.id:
        return Committed(current, new=False)
    before = current.id if current else _shipped(db, constitution.name)
    version = Version(constitution.id, constitution.name, before, author, message, now())
    keep(db, constitution)
    db.execute(
        "insert into constitution_commits"
        " (constitution_id, name, parent, author, message, committed_at) values (?, ?, ?, ?, ?, ?)",
        version,
    )
    return Committed(version, new=True)


def _shipped(db: Database, name: str) -> str | None:
    """The id of the version that comes with Preceptor, which is kept; None where none does."""
    path = SHIPPED / f"{name}.yaml"
    if not path.is_file():
        return None
    shipped = load(path)
    keep(db, shipped)
    return shipped.id


def keep(db: Database, constitution: Constitution) -> None:
    """Store a version that something was made by, whether or not it is ever put in force."""
    db.execute(
        "insert or ignore into constitutions values (?, ?, ?, ?)",
        (constitution.id, constitution.name, constitution.model_dump_json(), now()),
    )


def head(db: Database, name: str) -> Version | None:
    """The version in force, or None where nothing of this name was committed."""
    return next(iter(log(db, name, limit=1)), None)


def log(db: Database, name: str, limit: int = -1) -> list[Version]:
    """The commits under a name, newest first; all of them if there is no limit."""
    rows = db.execute(
        "select constitution_id, name, parent, author, message, committed_at"
        " from constitution_commits where name = ? order by seq desc limit ?",
        (name, limit),
    )
    return [Version(*row) for row in rows]


def names(db: Database) -> list[str]:
    """The names that something was committed under."""
    return [row[0] for row in db.execute("select distinct name from constitution_commits")]


def listed(db: Database, folder: Path = SHIPPED) -> list[Named]:
    """Every name that something was committed under or comes with Preceptor, in order."""
    # Beside a lone max(), SQLite takes the other columns from the row that it was found in.
    rows = db.execute(
        "select name, constitution_id, count(*), committed_at, max(seq) from constitution_commits"
        " group by name"
    )
    found = {path.stem: Named(path.stem, None, 0, None) for path in folder.glob("*.yaml")}
    found.update((row[0], Named(*row[:-1])) for row in rows)
    return [found[name] for name in sorted(found)]


def version(db: Database, ref: str) -> Constitution | None:
    """The version in force under a name, or of an id or its beginning; None where there is none.

    Raises:
        ConfigError: more than one id begins so.
    """
    if not ref:  # every id begins with nothing
        return None
    current = head(db, ref)
    wanted = current.id if current else ref
    rows = db.execute(
        "select content from constitutions where substr(id, 1, length(?)) = ? limit 2",
        (wanted, wanted),
    ).fetchall()
    if len(rows) > 1:
        raise ConfigError(f"More than one constitution's id begins with {ref!r}.")
    return Constitution.model_validate_json(rows[0][0]) if rows else None


def resolve(ref: str, db: Database | None, folder: Path = SHIPPED) -> Constitution:
    """A constitution by a file's path, a name, or a version's id or its beginning.

    A name means the version in force; a file that comes with Preceptor is read only where nothing
    was committed under its name. So a file that is broken, or half edited, changes nothing.

    Args:
        ref: what has a dot or a slash in it is a path.
        db: the store, where there is one.
        folder: where the files that come with Preceptor are.

    Raises:
        ConfigError: there is none, or the file is wrong.
    """
    if "." in ref or "/" in ref:
        return load(Path(ref).expanduser())
    return named(ref, db, folder)


def named(ref: str, db: Database | None, folder: Path = SHIPPED) -> Constitution:
    """The same by a name or a version alone: no path is read, whatever somebody asks for.

    Raises:
        ConfigError: there is none.
    """
    if db is not None and (found := version(db, ref)):
        return found
    shipped = {path.stem: path for path in folder.glob("*.yaml")}
    if ref in shipped:
        return load(shipped[ref])
    known = sorted({*shipped, *(names(db) if db is not None else ())})
    near = difflib.get_close_matches(ref, known, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"There is no constitution {ref!r}: no version, and no file that comes with Preceptor."
        + meant,
        hint=f"There are: {', '.join(known)}. A file of your own is named with its path.",
    )
