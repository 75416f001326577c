"""Which judge a command asks: the options that name one, and what they come to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judges.constitution import Constitution, Principle
    from pipelines.recipe import JudgeSection, Recipe

_RECIPE = "Take the judge, its criteria and the engine from this recipe."
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help=_RECIPE)]
Weights = Annotated[str | None, typer.Option(help="The judge's weights, as in a recipe.")]
Url = Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint to ask instead.")]
Model = Annotated[str | None, typer.Option(help="The model's name at that endpoint.")]
KeyVariable = Annotated[
    str | None, typer.Option(help="Name of the environment variable with the endpoint's key.")
]
Kinds = Literal["compare", "score", "follows"]
Kind = Annotated[
    Kinds, typer.Option(help="How it judges: compare, score or follows; see docs/recipe.md.")
]
Principles = Annotated[list[str] | None, typer.Option(help="Only this principle; may be repeated.")]
Rationale = Annotated[bool, typer.Option("--rationale", help="Ask for reasons first (compare).")]


def named(constitution: "Constitution", names: "Sequence[str] | None") -> "list[Principle]":
    """The principles that `--principle` names; all of them, if it names none.

    Raises:
        ConfigError: there is no such principle.
    """
    wanted = names or [one.id for one in constitution.principles]
    return [constitution.principle(name) for name in wanted]


def loaded_recipe(path: Path | None) -> "Recipe | None":
    """The recipe that `--recipe` names, if it names one."""
    from pipelines.recipe_file import load

    return load(path) if path else None


def judge_section(
    recipe: "Recipe | None",
    weights: str | None,
    url: str | None,
    model: str | None,
    api_key_env: str | None,
    kind: Kinds,
    rationale: bool,
) -> "JudgeSection":
    """The judge that the options describe, or the recipe's.

    Raises:
        ConfigError: they describe none.
    """
    from pydantic import ValidationError

    from pipelines.recipe import JudgeSection
    from pipelines.recipe_file import in_words
    from teachers.errors import ConfigError

    if weights is None and url is None and recipe is not None and recipe.judge is not None:
        return recipe.judge
    try:
        return JudgeSection.model_validate(
            {"weights": weights, "url": url, "model": model, "api_key_env": api_key_env}
            | {"kind": kind, "rationale": rationale}
        )
    except ValidationError as wrong:
        error = wrong.errors(include_url=False)[0]
        whose = f"The judge's {error['loc'][0]}" if error["loc"] else "The judge"
        raise ConfigError(
            f"{whose} {in_words(error)}.",
            hint="--recipe, --weights, or --url and --model name one.",
        ) from wrong
