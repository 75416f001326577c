"""Prompts from verifiable tasks: reasoning-gym's generators, with their difficulty knobs."""

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from teachers.errors import ConfigError
from teachers.records import Prompt

# Generators repeat themselves where there are few different questions: then they are exhausted.
MAX_REPEATS = 5


def generate(
    generator: str, config: Mapping[str, Any], seed: int, name: str | None = None
) -> Iterator[Prompt]:
    """An endless stream of prompts that ends only when the generator repeats itself.

    Args:
        generator: a reasoning-gym dataset, for example `chain_sum`.
        config: its own parameters, for example `{"max_terms": 3}`.
        seed: the same seed gives the same prompts.
        name: what the task is called in reports; the generator's name if not given.

    Raises:
        ConfigError: the generator or one of its parameters does not exist or is out of range.
    """
    dataset = made(generator, config, seed)
    seen: set[str] = set()
    repeats = 0
    for index in range(len(dataset)):
        entry = json.loads(json.dumps(dataset[index], default=str))
        if entry["question"] in seen:
            repeats += 1
            if repeats > MAX_REPEATS * max(len(seen), 20):
                return
            continue
        seen.add(entry["question"])
        yield Prompt(
            task=name or generator,
            question=entry["question"],
            reference=None if entry["answer"] is None else str(entry["answer"]),
            verifier="reasoning_gym",
            entry=entry,
        )


def made(generator: str, config: Mapping[str, Any], seed: int) -> Any:
    """The generator itself: a million tasks by their number, of which none is made yet.

    Raises:
        ConfigError: it or one of its parameters does not exist or is out of range.
    """
    from reasoning_gym import create_dataset
    from reasoning_gym.factory import DATASETS

    if generator not in DATASETS:
        near = difflib.get_close_matches(generator, DATASETS, n=1)
        raise ConfigError(
            f"There is no generator {generator!r}.",
            hint=f"Did you mean {near[0]!r}?" if near else "See reasoning-gym's gallery of tasks.",
        )
    known = {field.name for field in dataclasses.fields(DATASETS[generator][1])}
    if unknown := sorted(set(config) - known):
        raise ConfigError(
            f"The generator {generator} has no parameter {unknown[0]!r}.",
            hint="It has: " + ", ".join(sorted(known - {"seed", "size"})),
        )
    try:
        return create_dataset(generator, size=1_000_000, seed=seed, **config)
    except (AssertionError, TypeError, ValueError) as wrong:
        raise ConfigError(f"The generator {generator} refuses its parameters: {wrong}") from wrong
