"""Tokens that let programs and people in: their hashes, their roles, and what they were used for.

A token is 256 random bits, so its SHA-256 tells nothing of it; the token itself is shown once.
"""

import hashlib
import secrets
from typing import Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now
from teachers.errors import ConfigError

Role = Literal["read", "label", "run", "admin"]
ROLES: tuple[Role, ...] = ("read", "label", "run", "admin")
"""Each may do what those before it may."""


class Token(NamedTuple):
    """A token, without its secret."""

    id: str
    name: str
    """Whose it is, or what for."""
    role: Role
    created_at: float
    revoked_at: float | None
    requests_per_minute: int | None = None
    """To students, at most."""
    tokens_per_day: int | None = None
    """Read and written by students for it, from midnight to midnight (UTC), at most."""

    def may(self, role: Role) -> bool:
        """Whether it is good for what needs this role."""
        return ROLES.index(self.role) >= ROLES.index(role)


_COLUMNS = "id, name, role, created_at, revoked_at, requests_per_minute, tokens_per_day"


def digest(secret: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add(
    db: Database,
    name: str,
    role: Role,
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
) -> str:
    """Make a token; returns its secret, which is not kept."""
    secret = f"preceptor_{secrets.token_urlsafe(32)}"
    kept = digest(secret)
    db.execute(
        "insert into tokens (id, digest, name, role, created_at, requests_per_minute,"
        " tokens_per_day) values (?, ?, ?, ?, ?, ?, ?)",
        (kept[:12], kept, name, role, now(), requests_per_minute, tokens_per_day),
    )
    return secret


def listed(db: Database) -> list[Token]:
    """All of them, the newest first."""
    rows = db.execute(f"select {_COLUMNS} from tokens order by created_at desc, id")
    return [Token(*row) for row in rows]


def active(db: Database) -> dict[str, Token]:
    """Those that are good, by their digest."""
    rows = db.execute(f"select digest, {_COLUMNS} from tokens where revoked_at is null")
    return {kept: Token(*row) for kept, *row in rows}


def revoke(db: Database, name: str) -> Token:
    """Let a token be good for nothing more.

    Args:
        name: its id, or its name where only one good token has it.

    Raises:
        ConfigError: there is no such token, or more than one.
    """
    found = [token for token in active(db).values() if name in (token.id, token.name)]
    if len(found) != 1:
        raise ConfigError(
            f"{'More than one' if found else 'No'} good token is called {name!r}.",
            hint="preceptor token list shows them, with their ids.",
        )
    db.execute("update tokens set revoked_at = ? where id = ?", (now(), found[0].id))
    return found[0]


def audit(db: Database, who: str, what: str) -> None:
    """Write down who changed something."""
    db.execute("insert into audit (who, what, at) values (?, ?, ?)", (who, what, now()))
