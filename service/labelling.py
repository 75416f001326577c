"""Labelling in the terminal: what is shown, and which keys there are. A line is an answer."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Generic, NamedTuple, TypeVar

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from sqlite_utils import Database

from judges.constitution import Principle
from judges.labels import Choice
from judges.records import Comparison
from judges.template import request_text
from pipelines import labelling, ranking
from pipelines.store.judgements import Origin
from service.tables import plain
from teachers.records import Message

KEYS = "a  b  t(ie)  n (both bad)  s(kip)  o (add a note)  q(uit)"
RANKING_KEYS = "the best first, ties with =, as in: b a=c    s(kip)  o (add a note)  q(uit)"
OVERALL = "Which answer is better, all things considered?"
NOTHING = (
    "Nothing is left to label here. A round with a constitution compares more answers: "
    "preceptor run RECIPE. --origin gate, case or gold may have others. "
    "What was labelled: preceptor label --stats"
)
_OTHERS: dict[str, Choice] = {"t": "tie", "n": "both_bad", "s": "skip"}
_QUIT = "q"
# Narrower than this, answers stand one below the other.
_SIDE_BY_SIDE_COLUMNS = 110

Meaning = TypeVar("Meaning")


class Said(NamedTuple, Generic[Meaning]):
    """A line that was understood, with the note that came before it."""

    meaning: Meaning
    seconds: float
    note: str


class Session(NamedTuple):
    """Who labels what, and where. Each answer is stored before the next one is asked for."""

    console: Console
    db: Database
    annotator: str
    principle: Principle | None
    origin: Origin

    def label(self, limit: int | None) -> int:
        """Ask for labels until none is left, `limit` are given or one quits; returns how many."""
        who = self.annotator, self.principle, self.origin
        left = labelling.left_to_label(self.db, *who)
        total = left if limit is None else min(limit, left)
        done = 0
        while done < total and (one := labelling.next_to_label(self.db, *who)):
            choices = self._show_pair(one.comparison, f"{done + 1} of {total}")
            said: Said[Choice] | None = self._ask(KEYS, choices.get)
            if said is None:
                break
            labelling.record(self.db, one.comparison, self.annotator, self.principle, *said)
            done += 1
        return done

    def rank(self, limit: int | None) -> int:
        """Ask for rankings in the same way."""
        who = self.annotator, self.principle, self.origin
        done = 0
        while done != limit and (one := ranking.next_to_rank(self.db, *who)):
            answers = dict(zip(ascii_lowercase, one.answers, strict=False))
            self._show(one.conversation, answers, f"ranking {done + 1}")
            if (said := self._ask(RANKING_KEYS, partial(_groups, answers))) is None:
                break
            ranking.record_ranking(self.db, one, self.annotator, self.principle, *said)
            done += 1
        return done

    def what_next(self, done: int) -> str:
        """What to say in the end."""
        left = labelling.left_to_label(self.db, self.annotator, self.principle, self.origin)
        if done:
            return f"{done} done and kept, {left} comparisons left for {self.annotator}"
        if left:
            return f"nothing done, {left} comparisons left for {self.annotator}: preceptor label"
        return NOTHING

    def _show_pair(self, comparison: Comparison, place: str) -> dict[str, Choice]:
        """Show two answers; returns what each key means."""
        forward = labelling.shown(self.annotator, comparison) == "forward"
        seen = comparison if forward else comparison.swap()
        self._show(seen.conversation, {"a": seen.first, "b": seen.second}, place)
        order: tuple[Choice, Choice] = ("first", "second") if forward else ("second", "first")
        return dict(zip("ab", order, strict=True)) | _OTHERS

    def _show(
        self, conversation: Sequence[Message], answers: Mapping[str, str], place: str
    ) -> None:
        self.console.rule(place)
        self.console.print(Panel(plain(request_text(conversation)), title="request"))
        wide = len(answers) == 2 and self.console.width >= _SIDE_BY_SIDE_COLUMNS
        width = self.console.width // 2 - 1 if wide else None
        panels = [
            Panel(plain(text), title=name.upper(), width=width) for name, text in answers.items()
        ]
        for shown in [Columns(panels)] if wide else panels:
            self.console.print(shown)
        self.console.print(plain(self.principle.text if self.principle else OVERALL), style="bold")

    def _ask(self, keys: str, understand: Callable[[str], Meaning | None]) -> Said[Meaning] | None:
        """Read lines until one is understood; None once it is time to stop."""
        began, note = time.monotonic(), ""
        self.console.print(keys, style="dim", markup=False, highlight=False)
        while (line := self._line("> ").lower()) != _QUIT:
            if line == "o":
                note = self._line("note: ")
            elif (meaning := understand(line)) is not None:
                return Said(meaning, round(time.monotonic() - began, 1), note)
            else:
                self.console.print(f"Not understood. {keys}", markup=False, highlight=False)
        return None

    def _line(self, prompt: str) -> str:
        """The next line that is typed or piped in; at its end, what quits."""
        try:
            line = self.console.input(prompt, markup=False)
        except EOFError:
            return _QUIT
        except UnicodeDecodeError:
            return ""
        return line.encode("utf-8", "replace").decode().strip()


def _groups(answers: Mapping[str, str], line: str) -> list[list[str]] | None:
    """`b a=c` as groups of answers, the best first; none for a skip, None if it is no ranking."""
    if line == "s":
        return []
    names = [group.split("=") for group in re.sub(r"\s*=\s*", "=", line).split()]
    if sorted(name for group in names for name in group) != sorted(answers):
        return None
    return [[answers[name] for name in group] for group in names]
