"""What models say is shown as it is: it is no markup, and moves no cursor."""

from io import StringIO

import pytest
from rich.console import Console

from judges.aggregate import Preference
from pipelines.preview import Changed, Preview
from pipelines.store.judgements import Compared
from service.previews import show_preview
from service.tables import plain, show_lines, table
from tests.judged import comparison

HOSTILE = ["\\[x^2\\]", "a [/x] b", "[bold]", "\\\\[/]", "[link=http://x]y", ":smile:", "\\"]


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=80, emoji=False, force_terminal=True)


def shown(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_preview_shows_texts_as_they_are(console: Console, text: str) -> None:
    before, after = Preference(state="first", p=0.9), Preference(state="tie", p=0.5)
    two = comparison(text, f"{text} \x1b[2J", text)
    changed = Changed(Compared(two, "round"), "vanishes", before, after)
    show_preview(console, Preview(1, True, {"vanishes": 1}, None, {}, [changed]), 1)
    assert shown(console).count(text) == 3
    assert "\x1b[2J" not in shown(console)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_texts_as_they_are(console: Console, text: str) -> None:
    console.print(table([text], [[f"{text}\n\x9b2J"]]))
    assert shown(console).count(text) == 2
    assert "\x9b" not in shown(console)


def test_lines_have_equal_columns_and_remarks() -> None:
    plainly = Console(file=StringIO(), width=80)
    show_lines(plainly, ["a", "b"], [["one", "2"], ["three", "4"]], ["", "why"], indent=1)
    assert shown(plainly) == " a      b\n one    2\n three  4\n   why\n"


def test_line_breaks_and_tabs_are_text() -> None:
    assert plain("a\n\tb").plain == "a\n\tb"
