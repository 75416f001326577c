"""How much a key may ask of the students: requests a minute, and tokens a day."""

import time
from collections import Counter
from contextlib import closing

from starlette.exceptions import HTTPException

from pipelines.home import Home
from pipelines.store import exchanges
from pipelines.store.connection import connect
from pipelines.store.tokens import Token

_DAY_S, _SOON_S = 86400, 2.0


def midnight(at: float) -> float:
    """When the day began (UTC) that a time falls into; seconds since 1970, as the time is."""
    return at - at % _DAY_S


class Limits:
    """Counts what each key has asked for.

    Args:
        home: whose store knows what was spent before this process began.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        # By token: how many requests are left, and when that was so.
        self._left: dict[str, tuple[float, float]] = {}
        self._spent: dict[str, int] = {}
        self._under_way: Counter[str] = Counter()
        self._day = 0.0

    def admit(self, token: Token | None) -> None:
        """Count a request, if it may be made.

        Raises:
            HTTPException: 429, with the seconds after which it may be.
        """
        if token is None:
            return
        if (most := token.tokens_per_day) is not None:
            spent = self.spent(token.id)
            if spent >= most:
                raise _later(
                    f"The {most} tokens a day of {token.name!r} are used up.",
                    _DAY_S - time.time() % _DAY_S,
                )
            if spent + self._under_way[token.id] >= most:
                raise _later(
                    f"What {token.name!r} is being answered may use up its {most} tokens a day.",
                    _SOON_S,
                )
        if token.requests_per_minute is not None:
            self._count(token, token.requests_per_minute)

    def begin(self, token_id: str | None, expected: int) -> None:
        """Count tokens that a request may take, until `spend` says what it took."""
        if token_id is not None:
            self._under_way[token_id] += expected

    def spend(self, token_id: str | None, tokens: int, expected: int) -> None:
        """Count tokens that were read and written.

        Args:
            expected: what `begin` was told of this request.
        """
        if token_id is None:
            return
        self._under_way[token_id] -= expected
        if token_id in self._today():
            self._spent[token_id] += tokens

    def spent(self, token_id: str) -> int:
        """Tokens that a key has used up since midnight (UTC)."""
        known = self._today()
        if token_id not in known:
            with closing(connect(self._home.store)) as db:
                known[token_id] = exchanges.spent(db, token_id, midnight(time.time()))
        return known[token_id]

    def _today(self) -> dict[str, int]:
        if (today := midnight(time.time())) != self._day:
            self._day, self._spent = today, {}
        return self._spent

    def _count(self, token: Token, each_minute: int) -> None:
        """As many at once as a minute has, and then one after another (a token bucket)."""
        at = time.monotonic()
        left, then = self._left.get(token.id, (float(each_minute), at))
        left = min(float(each_minute), left + (at - then) * each_minute / 60)
        if left < 1:
            raise _later(
                f"{token.name!r} may ask {each_minute} times a minute.",
                (1 - left) * 60 / each_minute,
            )
        self._left[token.id] = left - 1, at


def _later(why: str, seconds: float) -> HTTPException:
    return HTTPException(429, why, {"Retry-After": str(int(seconds) + 1)})
