"""An exchange with a student while it lasts: its times, what it took and, if wanted, its texts."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pipelines.store.checkpoints import CHAMPION
from pipelines.store.exchanges import Arm
from pipelines.store.exchanges import Exchange as Stored
from service.asked import Asked
from service.redaction import blotted, redacted

_END = b"\n\n"
# How vLLM begins the event that says what a stream has taken: it has no choices.
_USAGE = b'"choices":[]'
_DONE = b"data: [DONE]"
_ERROR = b'data: {"error"'
_LONGEST_EVENT = 1024 * 1024


class Exchange:
    """One request to one student, from its arrival to the answer's end.

    Args:
        asked: the request.
        checkpoint: who answers.
        arm: how it came to that student.
        caller: who asks.
        token_id: of the token that was shown.
        keep: whether the texts are kept.
        beside: the exchange that this one is made beside.
    """

    def __init__(
        self,
        asked: Asked,
        checkpoint: str,
        arm: Arm,
        caller: str,
        token_id: str | None = None,
        *,
        keep: bool = False,
        beside: str | None = None,
    ) -> None:
        self.id = secrets.token_hex(16)
        self.asked, self.checkpoint, self.keep = asked, checkpoint, keep
        self.arm, self.token_id = arm, token_id
        self._who = (caller, beside)
        self._began, self._at = time.monotonic(), time.time()
        self._first_s: float | None = None
        self._rest = b""
        self._events: list[bytes] = []
        self._usage: bytes | None = None
        self._pieces = 0
        self.ended = self.failed = False
        """Whether a stream has said that this was all; that something went wrong."""
        self._whole: dict[str, Any] = {}

    @cached_property
    def expected_tokens(self) -> int:
        """What it may take of its token's budget; without a token nobody counts."""
        return self.asked.expected_tokens if self.token_id else 0

    @property
    def follows_champion(self) -> bool:
        """Whether it is for whoever is the champion when it is answered."""
        return self.arm == "direct" and self.asked.model == CHAMPION

    def came(self, chunk: bytes) -> bytes:
        """Take a piece of a stream; returns what of it is to be passed on, whole events only.

        Raises:
            ValueError: these are no events.
        """
        if self._first_s is None:
            self._first_s = time.monotonic() - self._began
        *events, self._rest = (self._rest + chunk).split(_END)
        if len(self._rest) > _LONGEST_EVENT:
            raise ValueError("an event without an end")
        return b"".join(event + _END for event in events if self._passes(event))

    def _passes(self, event: bytes) -> bool:
        if _USAGE in event:
            self._usage = event
            return self.asked.wants_usage
        if event == _DONE:
            self.ended = True
        elif event.startswith(_ERROR):
            self.failed = True
        else:
            self._pieces += 1
        if self.keep:
            self._events.append(event)
        return True

    def came_whole(self, body: bytes) -> None:
        """Take an answer that is no stream.

        Raises:
            ValueError: it is no answer.
        """
        self._whole = _read(body)
        if not self._whole:
            raise ValueError("no JSON object")

    def stored(self, status: int) -> Stored:
        """The exchange as it is kept, but for its texts."""
        prompt_tokens, completion_tokens = self._tokens()
        caller, beside = self._who
        return Stored(
            id=self.id,
            name=self.asked.model,
            checkpoint_id=self.checkpoint,
            arm=self.arm,
            caller=caller,
            token_id=self.token_id,
            status=status,
            first_s=self._first_s if status < 400 else None,
            seconds=time.monotonic() - self._began,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            request=None,
            answer=None,
            beside=beside,
            at=self._at,
        )

    def _tokens(self) -> tuple[int, int]:
        """Read and written. A stream that broke off has not told: about as many as were read, and
        at least as many as pieces came."""
        usage = (self._whole or _data(self._usage)).get("usage")
        if not isinstance(usage, dict):
            return (self.asked.question_tokens, self._pieces) if self._pieces else (0, 0)
        return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))

    def with_texts(self, stored: Stored) -> Stored:
        """The same with its texts, if they are to be kept and there is an answer: blotted, which
        takes a while."""
        if not self.keep or stored.status >= 400:
            return stored
        return stored._replace(
            request=json.dumps(blotted(self.asked.forwarded())), answer=redacted(self._text())
        )

    def _text(self) -> str:
        if self._whole:
            return _said(self._whole, "message")
        return "".join(_said(_data(event), "delta") for event in self._events)


def _data(event: bytes | None) -> dict[str, Any]:
    """What an event of a stream carries."""
    return _read((event or b"").removeprefix(b"data: "))


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # the latter of what is nested too deep
        return {}
    return found if isinstance(found, dict) else {}


def _count(told: object) -> int:
    return told if isinstance(told, int) and told > 0 else 0


def _said(answer: Mapping[str, Any], where: str) -> str:
    """The text of the first of several answers, of a chat or a completion."""
    choices: Sequence[Mapping[str, Any]] = answer.get("choices") or []
    for choice in choices:
        if choice.get("index") == 0:
            return str((choice.get(where) or choice).get("content") or choice.get("text") or "")
    return ""
