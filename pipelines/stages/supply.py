"""Prompts: made or read, split by hash, stored."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.context import Context
from pipelines.gates.statistics import change
from pipelines.hygiene.dedup import Seen
from pipelines.hygiene.split import side
from pipelines.recipe import Generator, PromptFile
from pipelines.store import calls
from pipelines.store.calls import Split, StoredPrompt
from pipelines.store.connection import transaction
from teachers.errors import ConfigError, RoundStopped
from teachers.progress import step
from teachers.prompting import files, tasks
from teachers.prompting.files import BadLine
from teachers.records import Prompt

NAME = "supply"
# Enough to see what is wrong with a file; the rest is counted.
BAD_LINES_SHOWN = 5


async def run(context: Context) -> dict[str, Any]:
    """Store the round's prompts; the report counts them by task and side.

    Raises:
        RoundStopped: there are too few to learn from or to decide on, said before anything is paid.
    """
    supply = context.recipe.supply
    seen = Seen()
    for example in (one for some in context.recipe.teacher.examples.values() for one in some):
        seen.add(example.question)  # whoever is shown it may not be measured by it
    bad: list[BadLine] = []
    rows: list[tuple[Prompt, Split, str]] = []
    for source in supply.sources:
        with step(context.progress, f"prompts: {source.task}", source.train + source.held_out):
            stream = _stream(source, bad)
            taken = _take(source, stream, seen, supply.held_out_share, context.number)
            rows.extend((prompt, split, source.task) for prompt, split in taken)
    if not rows:
        raise ConfigError(
            "No prompt came out of the recipe's sources.", hint="\n  ".join(map(str, bad[:5]))
        )
    for line in bad[:BAD_LINES_SHOWN]:
        context.progress.say(f"left out: {line}")
    if len(bad) > BAD_LINES_SHOWN:
        context.progress.say(f"left out: {len(bad) - BAD_LINES_SHOWN} more bad lines")
    with transaction(context.db) as db:
        calls.add_prompts(db, context.round_id, rows)
    # A prompt that an earlier round put on the other side is still there.
    stored = calls.prompts_of(context.db, context.round_id)
    _refuse_too_few(context, stored)
    counts = Counter((prompt.task, split) for prompt, split in stored)
    return {
        "prompts": {f"{task}/{split}": count for (task, split), count in sorted(counts.items())},
        "bad_lines": [str(line) for line in bad],
    }


def _refuse_too_few(context: Context, stored: Sequence[StoredPrompt]) -> None:
    recipe, least = context.recipe, context.recipe.gate.min_items
    held_out = [prompt for prompt, split in stored if split == "held_out"]
    if recipe.prefers:
        held_out = [prompt for prompt in held_out if prompt.verifier == "none"]
    # A judge or a reward model is held against what it never saw, not against a gate's prompts.
    if recipe.train.makes_student and len(held_out) < least:
        kind = "open held-out" if recipe.prefers else "held-out"
        raise RoundStopped(
            f"There are {len(held_out)} {kind} prompts; the gate wants at least {least}.",
            hint="Raise held_out of the supply's sources, or lower gate.min_items.",
        )
    if recipe.prefers:
        _refuse_undecidable(context, stored)
    if all(split == "held_out" for _, split in stored):
        raise RoundStopped(
            "There is no prompt to train on.", hint="Raise train of the supply's sources."
        )


def _refuse_undecidable(context: Context, stored: Sequence[StoredPrompt]) -> None:
    """So few tasks with a right answer that not even an unchanged student could keep the bar."""
    most = context.recipe.gate.max_loss
    checked = [
        True for prompt, split in stored if split == "held_out" and prompt.verifier != "none"
    ]
    if checked and change(checked, checked).low <= -most:
        raise RoundStopped(
            f"{len(checked)} held-out tasks cannot show that less than {most:.0%} is lost.",
            hint="Raise held_out of the tasks' sources, raise gate.max_loss, or leave them out.",
        )


def _stream(source: Generator | PromptFile, bad: list[BadLine]) -> Iterator[Prompt]:
    if isinstance(source, Generator):
        yield from tasks.generate(source.generator, source.config, source.seed, source.task)
        return
    for row in files.read(
        source.path,
        source.task,
        question=source.question,
        answer=source.answer,
        verifier=source.verifier,
    ):
        if isinstance(row, BadLine):
            bad.append(row)
        else:
            yield row


def _take(
    source: Generator | PromptFile,
    stream: Iterator[Prompt],
    seen: Seen,
    held_out_share: float,
    number: int,
) -> list[tuple[Prompt, Split]]:
    """Different prompts until both sides are full or the source is empty.

    Every round of a recipe is measured on the same prompts, and learns from the next.
    """
    wanted: dict[Split, int] = {"train": source.train * number, "held_out": source.held_out}
    found: list[tuple[Prompt, Split]] = []
    for prompt in stream:
        split = side(prompt.question, held_out_share)
        if wanted[split] and seen.add(prompt.question):
            wanted[split] -= 1
            found.append((prompt, split))
        if not any(wanted.values()):
            break
    mine = _turn([prompt.id for prompt, split in found if split == "train"], source.train, number)
    return [(prompt, split) for prompt, split in found if split == "held_out" or prompt.id in mine]


def _turn(prompts: Sequence[str], size: int, number: int) -> set[str]:
    """The prompts of one round; where a source has no more, it begins anew."""
    if not prompts:
        return set()
    first = size * (number - 1)
    return {prompts[at % len(prompts)] for at in range(first, first + size)}
