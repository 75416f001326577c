"""How constitutions, their versions and what changed between them look in a terminal."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from judges.constitution import Constitution
from judges.constitution_diff import Change
from judges.constitution_lint import Weakness, lint
from pipelines.store.constitutions import Version
from service.tables import plain, table


def show_constitution(console: Console, constitution: Constitution) -> None:
    """Its principles with what they count for, then what they say."""
    console.print(f"[bold]{constitution.name}[/bold]  {constitution.id[:16]}", highlight=False)
    console.print(plain(constitution.description))
    rows = [
        (one.id, one.weight, "veto" if one.veto else "", one.scope.in_words, len(one.cases))
        + (sum(case.sealed for case in one.cases),)
        for one in constitution.principles
    ]
    columns = ["principle", "weight", "", "scope", "cases", "sealed"]
    console.print()
    console.print(table(columns, rows))
    for principle in constitution.principles:
        console.print(f"\n[bold]{principle.id}[/bold]")
        console.print(plain(principle.text))


def show_weaknesses(console: Console, weaknesses: Sequence[Weakness]) -> None:
    """What lint found, a line each."""
    for weakness in weaknesses:
        console.print(plain(f"weak: {weakness}"), soft_wrap=True)


def mention_weaknesses(console: Console, constitution: Constitution, file: str) -> None:
    """How many weak points there are, and how to see them; nothing where there are none."""
    if found := len(lint(constitution)):
        said = f"{counted(found, 'weak point')}: preceptor constitution lint {file}"
        console.print(plain(said), soft_wrap=True)


def counted(number: int, what: str) -> str:
    """`1 weak point`, `2 weak points`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def show_changes(console: Console, changes: Sequence[Change]) -> None:
    """Each change by its principle, the old side above the new one."""
    if not changes:
        console.print("no difference")
    for change in changes:
        again = "  (judges are asked again)" if change.asks_again else ""
        console.print(f"[bold]{change.kind}[/bold] {change.principle}{again}", highlight=False)
        for mark, side in (("-", change.old), ("+", change.new)):
            if side:
                console.print(plain(f"  {mark} {side}"), soft_wrap=True)


def show_log(console: Console, versions: Sequence[Version]) -> None:
    """Versions, newest first."""
    rows = [
        (one.id[:16], (one.parent or "")[:16], _when(one.committed_at), one.author, one.message)
        for one in versions
    ]
    console.print(table(["version", "after", "committed", "author", "message"], rows))


def _when(seconds: float) -> str:
    """A time of the store, in this machine's time zone."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
