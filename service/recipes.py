"""What a recipe will do, in a few lines; or why it cannot do it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from judges.constitution import Constitution
from pipelines.home import Home
from pipelines.recipe import Place, Recipe
from service import costs, output
from service.home import resolve, stored
from teachers.errors import ConfigError
from teachers.prompting import tasks
from teachers.weights import unfound

_SHIPPED = Path(__file__).parent.parent / "recipes"
_KIND = {"judge": "judge", "reward": "reward model"}


def facts_of(recipe: Recipe) -> dict[str, str]:
    """The answers to what one asks of a recipe before it is run, in the order to tell them.

    Raises:
        ConfigError: its constitutions are not there, or lack a principle that it names; or it
            could only stop half-way, and why.
    """
    names = (recipe.constitution, *recipe.lessons.constitutions) if recipe.constitution else ()
    constitutions = [resolve(name) for name in names]
    described = [_constitution(one, recipe.principles) for one in constitutions]
    refuse_hopeless(recipe, output.home())
    train, base = recipe.train, recipe.student.weights
    prompts, calls = costs.prompts(recipe), costs.calls(recipe, constitutions)
    facts = {
        "trains": base if train.makes_student else f"a {_KIND[train.objective]} from {base}",
        "objective": ", ".join((train.objective, *train.losses)),
        "tasks": ", ".join(recipe.supply.tasks),
        "teacher": _place(recipe.teacher, base),
        "prompts": f"up to {prompts.train}{_answers(recipe)}",
        "held out": f"up to {prompts.held_out} prompts",
        "calls": f"up to {calls.teacher} to the teacher, {calls.judge} to judges, "
        f"{calls.gate} for the gate's answers",
    }
    if described:
        facts["constitution"] = "; ".join(described)
    if recipe.judge is not None:
        judges = (f"{_place(one, base)} ({one.kind})" for one in recipe.judges)
        facts["panel" if recipe.panel else "judge"] = "; ".join(judges)
    if train.wants_rollouts:
        shape = recipe.rollouts
        facts["rollouts"] = (
            f"{shape.batches} batches of {shape.prompts} prompts, {shape.group} answers each; up "
            f"to {costs.rollouts(recipe)} with those that are drawn again"
        )
        facts["rewards"] = ", ".join(f"{one.name} x {one.weight:g}" for one in recipe.rewards)
    if train.wants_pairs:
        facts["pairs"] = f"labelled by {recipe.pairs.source}"
    if recipe.pairs.revisions:
        facts["revisions"] = f"up to {recipe.pairs.revisions} of each plain answer"
    return facts


def refuse_hopeless(recipe: Recipe, home: Home) -> None:
    """See to it that a round is not begun that could only stop half-way.

    Args:
        home: where it would run.

    Raises:
        ConfigError: it could, and why.
    """
    if faults := [*_of_the_supply(recipe), *_of_the_models(recipe, home)]:
        said = "".join(f"\n  {fault}" for fault in faults)
        raise ConfigError(f"The recipe {recipe.name} cannot run:{said}")


def _of_the_supply(recipe: Recipe) -> Iterator[str]:
    """What prompts are missing, and what too few of them come to."""
    for file in recipe.supply.files:
        if not file.path.is_file():
            yield (
                f"supply.files[].path: {file.path} is not there (a relative path counts from the "
                "recipe's folder)"
            )
    for source in recipe.supply.generators:
        try:
            tasks.made(source.generator, source.config, source.seed)
        except ConfigError as wrong:
            yield f"supply.generators[]: {wrong.message} {wrong.hint}".strip()
    if not costs.prompts(recipe).train:
        yield "supply: no source gives a prompt to train on; raise train of one"
        return
    wants_pairs = recipe.train.wants_pairs
    if recipe.train.makes_student:
        yield from _of_the_gate(recipe)
    if recipe.train.wants_rollouts or recipe.train.objective == "judge":
        return
    place = "pairs" if wants_pairs else "build"
    least = recipe.pairs.minimum if wants_pairs else recipe.build.minimum
    if (most := costs.rows(recipe)) < least:
        yield (
            f"{place}.minimum: {least} are asked for, and at most {most} can come out; raise "
            f"train of the supply's sources, teacher.sampling.n or {place}.per_prompt, or lower "
            "this"
        )


def _of_the_gate(recipe: Recipe) -> Iterator[str]:
    """What prompts it lacks."""
    held_out = (costs.open_prompts if recipe.prefers else costs.prompts)(recipe).held_out
    if held_out < (least := recipe.gate.min_items):
        kind = "open prompts (verifier: none)" if recipe.prefers else "prompts"
        yield (
            f"gate.min_items: {least} are asked for, and at most {held_out} {kind} are held out; "
            "raise held_out of the supply's sources, or lower this"
        )


def _of_the_models(recipe: Recipe, home: Home) -> Iterator[str]:
    """Checkpoints and files that are not there."""
    from pipelines.source import CHECKPOINT
    from pipelines.store import checkpoints

    named = {
        "student.weights": recipe.student.weights,
        "teacher.weights": recipe.teacher.weights,
        "pairs.anchor": recipe.pairs.anchor,
        "judge.weights": recipe.judge.weights if recipe.judge else None,
        "reward_model.weights": recipe.reward_model.weights if recipe.reward_model else None,
    }
    every = [*named.items(), *(("panel[].weights", one.weights) for one in recipe.panel)]
    with stored(home) as db:
        for place, weights in every:
            if weights is None:
                continue
            if not weights.startswith(CHECKPOINT):
                if fault := unfound(weights):
                    yield f"{place}: {fault}"
                continue
            name = weights.removeprefix(CHECKPOINT)
            try:
                found = checkpoints.checkpoint(db, name) if db else None
            except ConfigError:
                found = None
            if found is None:
                shipped = (_SHIPPED / f"{name}.yaml").is_file()
                maker = f"recipes/{name}.yaml" if shipped else "the round that makes it"
                yield (
                    f"{place}: no checkpoint is called {name!r}; {maker} has to be run first "
                    "(preceptor status shows rounds and judges)"
                )


def _answers(recipe: Recipe) -> str:
    plain, guided = recipe.teacher.sampling.n, 2 * recipe.pairs.guided
    if recipe.train.wants_rollouts:
        return ""
    if recipe.train.objective == "sft":
        return f", {plain} answers each"
    told = [] if recipe.pairs.source == "construction" else [f"{plain} answers"]
    told += [f"{guided} guided answers"] if guided else []
    return f", {' and '.join(told)} each"


def _place(place: Place, base: str) -> str:
    return f"{place.model} at {place.url}" if place.url else place.weights or base


def _constitution(found: Constitution, principles: Sequence[str]) -> str:
    """A constitution's name and version, and the principles that it is asked for."""
    chosen = [found.principle(one).id for one in principles]
    what = ", ".join(chosen) or f"all {len(found.principles)} principles"
    return f"{found.name} {found.id[:12]} ({what})"
