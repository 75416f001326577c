"""What a recipe will do, in a few lines."""

from pipelines.recipe import Place, Recipe
from service.commands.constitution import resolve


def facts_of(recipe: Recipe) -> dict[str, str]:
    """The answers to what one asks of a recipe before it is run, in the order to tell them.

    Raises:
        ConfigError: its constitutions are not there, or lack a principle that it names.
    """
    supply, train = recipe.supply, recipe.train
    asked = sum(source.train for source in supply.sources)
    held_out = sum(source.held_out for source in supply.sources)
    base = recipe.student.weights
    facts = {
        "trains": f"a judge from {base}" if train.objective == "judge" else base,
        "objective": ", ".join((train.objective, *train.losses)),
        "tasks": ", ".join(supply.tasks),
        "teacher": _place(recipe.teacher, base),
        "calls": f"up to {asked}, {_answers(recipe)} each",
        "held out": f"up to {held_out} prompts",
    }
    if recipe.constitution is not None:
        names = (recipe.constitution, *recipe.lessons.constitutions)
        facts["constitution"] = "; ".join(_constitution(name, recipe.principles) for name in names)
    if recipe.judge is not None:
        judges = (f"{_place(one, base)} ({one.kind})" for one in recipe.judges)
        facts["panel" if recipe.panel else "judge"] = "; ".join(judges)
    if train.wants_pairs:
        facts["pairs"] = f"labelled by {recipe.pairs.source}"
    if recipe.pairs.revisions:
        facts["revisions"] = f"up to {recipe.pairs.revisions} of each plain answer"
    return facts


def _answers(recipe: Recipe) -> str:
    plain, guided = recipe.teacher.sampling.n, 2 * recipe.pairs.guided
    if recipe.train.objective == "sft":
        return f"{plain} answers"
    told = [] if recipe.pairs.source == "construction" else [f"{plain} answers"]
    told += [f"{guided} guided answers"] if guided else []
    return " and ".join(told)


def _place(place: Place, base: str) -> str:
    return f"{place.model} at {place.url}" if place.url else place.weights or base


def _constitution(name: str, principles: tuple[str, ...]) -> str:
    """A constitution's name and version, and the principles that it is asked for."""
    found = resolve(name)
    chosen = [found.principle(one).id for one in principles or ()]
    what = ", ".join(chosen) or f"all {len(found.principles)} principles"
    return f"{found.name} {found.id[:12]} ({what})"
