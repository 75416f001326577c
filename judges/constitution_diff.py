"""What changed between two constitutions, by principle: what an edit means, not which lines."""

from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from judges.constitution import Case, Constitution, Principle

Kind = Literal[
    "renamed", "described", "reordered",  # of the constitution
    "added", "removed", "reworded", "reweighted", "rescoped", "veto", "requests", "cases",
]  # fmt: skip


class Change(NamedTuple):
    """One thing that is not what it was."""

    kind: Kind
    principle: str
    """Its id; empty where the constitution itself changed."""
    old: str
    new: str
    asks_again: bool = False
    """Whether judges have to be asked again: only a new text makes other verdicts."""


def diff(old: Constitution, new: Constitution) -> list[Change]:
    """Everything that differs; empty if, and only if, both are the same version."""
    before = {principle.id: principle for principle in old.principles}
    after = {principle.id: principle for principle in new.principles}
    changes: list[Change] = []
    if old.name != new.name:
        changes.append(Change("renamed", "", old.name, new.name))
    if old.description != new.description:
        changes.append(Change("described", "", old.description, new.description))
    kept = [id for id in before if id in after]
    if kept != (now := [id for id in after if id in before]):
        changes.append(Change("reordered", "", ", ".join(kept), ", ".join(now)))
    for id in [*before, *(id for id in after if id not in before)]:
        changes += _of(id, before.get(id), after.get(id), {one.text for one in old.principles})
    return changes


def _of(
    id: str, old: Principle | None, new: Principle | None, known: Collection[str]
) -> Iterator[Change]:
    """What became of one principle.

    Args:
        known: every text of the old version, under whatever id.
    """
    if old is None and new is not None:
        yield Change("added", id, "", new.text, asks_again=new.text not in known)
    elif old is not None and new is None:
        yield Change("removed", id, old.text, "")
    if old is None or new is None:
        return
    if old.text != new.text:
        yield Change("reworded", id, old.text, new.text, asks_again=new.text not in known)
    if old.weight != new.weight:
        yield Change("reweighted", id, str(old.weight), str(new.weight))
    if old.scope != new.scope:
        yield Change("rescoped", id, old.scope.in_words, new.scope.in_words)
    if old.veto != new.veto:
        yield Change("veto", id, str(old.veto).lower(), str(new.veto).lower())
    requests = zip(_requests(old).items(), _requests(new).values(), strict=True)
    for (name, was), now in requests:
        if was != now:
            yield Change("requests", id, f"{name}: {was}", f"{name}: {now}")
    if old.cases != new.cases:
        yield Change("cases", id, f"{len(old.cases)} cases", _cases(old.cases, new.cases))


def _requests(principle: Principle) -> dict[str, str]:
    """Everything that a model may be asked for the principle's sake, by name."""
    orders = principle.construction
    return {
        "opposite": principle.opposite,
        "construction.better": orders.better if orders else "",
        "construction.worse": orders.worse if orders else "",
        "critique": principle.critique,
        "revision": principle.revision,
    }


def _cases(old: tuple[Case, ...], new: tuple[Case, ...]) -> str:
    """`21 cases: 2 added, 1 removed, 1 changed`; a changed one asks the same and differs else."""
    gone = [case for case in old if case not in new]
    come = [case for case in new if case not in old]
    changed = {case.messages for case in gone} & {case.messages for case in come}
    counts = {
        "added": sum(case.messages not in changed for case in come),
        "removed": sum(case.messages not in changed for case in gone),
        "changed": len(changed),
    }
    words = [f"{count} {what}" for what, count in counts.items() if count]
    return f"{len(new)} cases: {', '.join(words) or 'in another order'}"
