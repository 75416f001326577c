"""Who may do what: tokens with roles; where none is asked for, programs of this machine."""

import hmac
import ipaddress
import re
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from pipelines.home import Home
from pipelines.store import tokens
from pipelines.store.connection import connect
from pipelines.store.tokens import Role, Token
from service import output
from teachers.errors import StoreError

TOKEN_VARIABLE = "PRECEPTOR_TOKEN"
"""Of the environment: one more token, good for everything."""
REFRESH_S = 1.0
"""A token that was made or revoked is known after so many seconds."""
_SCHEME = "bearer "
_ORIGIN = re.compile(r"https?://(\[[^\]]*\]|[^:/]+)(?::\d+)?")


class Caller(NamedTuple):
    """Who asks; as text, what the audit calls them."""

    name: str
    token_id: str = ""
    """Empty for callers without a token of their own."""

    def __str__(self) -> str:
        return f"{self.name} {self.token_id}".strip()


MASTER, HERE = Caller("the master token"), Caller("this machine")


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Door:
    """Lets callers in.

    Args:
        home: whose store has the tokens.
        master: one more token, good for everything.
        open_: whether callers need no token, and may do everything; for loopback alone.
    """

    def __init__(self, home: Home, master: str | None = None, *, open_: bool = False) -> None:
        self._home, self._master, self._open = home, master, open_
        self._known: dict[str, Token] = {}
        self._read_at = -REFRESH_S

    def check(self, request: Request, role: Role) -> Caller:
        """Returns who asks.

        Raises:
            HTTPException: 401 without a good token, 403 with one that may not.
        """
        secret = _secret(request)
        if self._master and hmac.compare_digest(secret.encode(), self._master.encode()):
            return MASTER
        token = self._good().get(tokens.digest(secret)) if secret else None
        if self._open:
            self._refuse_web_pages(request)
            return _caller(token) if token else HERE
        if token is None:
            raise HTTPException(
                401,
                "A good token is needed: Authorization: Bearer TOKEN (preceptor token create).",
                {"WWW-Authenticate": "Bearer"},
            )
        if not token.may(role):
            raise HTTPException(403, f"This needs the role {role!r}; the token has {token.role!r}.")
        return _caller(token)

    def token(self, request: Request) -> Token | None:
        """The good token that was shown, if one was."""
        return self._good().get(tokens.digest(_secret(request)))

    def _refuse_web_pages(self, request: Request) -> None:
        """A page may have a name of its own point here (DNS rebinding), or post a form to here."""
        names = [request.url.hostname or ""]
        if (origin := request.headers.get("origin")) is not None:
            found = _ORIGIN.fullmatch(origin)
            names.append(found[1] if found else "")
        for name in names:
            if not is_loopback(name.strip("[]")):
                raise HTTPException(403, "Without a token this address answers to loopback names.")

    def _good(self) -> dict[str, Token]:
        if abs(time.monotonic() - self._read_at) >= REFRESH_S:
            # Whoever was good a moment ago is let in while the store cannot be read.
            with suppress(StoreError), closing(connect(self._home.store)) as db:
                self._known = tokens.active(db)
            self._read_at = time.monotonic()
        return self._known


def _secret(request: Request) -> str:
    given = request.headers.get("authorization", "")
    return given[len(_SCHEME) :] if given.lower().startswith(_SCHEME) else ""


def _caller(token: Token) -> Caller:
    return Caller(token.name, token.id)


def needs(role: Role) -> Callable[[Request], None]:
    """A dependency of routes that are for callers with this role."""

    def check(request: Request) -> None:
        door: Door = request.app.state.door
        request.state.caller = door.check(request, role)

    return check


def _person(request: Request) -> str:
    caller: Caller = request.state.caller
    return caller.name if caller.token_id else output.user()


Person = Annotated[str, Depends(_person)]
"""Who asks, as labels and commits name people: a token's name; without one, as commands do, the
user that this runs as."""
