"""`preceptor rollouts`: what a policy in training answered, and what it was paid for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import output
from service.home import stored
from service.output import Json

if TYPE_CHECKING:
    from pipelines.store.rollouts import StoredRollout


def rollouts(
    run: Annotated[
        str | None,
        typer.Argument(help="A training run's id, or its beginning; the newest if not given."),
    ] = None,
    best: Annotated[int, typer.Option(help="So many with the highest reward.", min=0)] = 2,
    worst: Annotated[int, typer.Option(help="So many with the lowest reward.", min=0)] = 2,
    suspicious: Annotated[
        int, typer.Option(help="So many well-paid ones that look hacked.", min=0)
    ] = 3,
    prompt: Annotated[
        str | None, typer.Option(help="All rollouts of this prompt instead: its id's beginning.")
    ] = None,
    weigh: Annotated[
        list[str] | None,
        typer.Option(
            help="Make rewards again with another weight of a term. May be repeated.",
            metavar="NAME=WEIGHT",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Rollouts of a training run: its curve, the best, the worst and the most hacked-looking."""
    from service.rollouts import as_json, choose, curve, of_prompt, show, show_curve

    name, found, questions, weights = _read(run or "", weigh or [])
    if prompt is None:
        parts = choose(found, best, worst, suspicious)
    else:
        parts = {"rollout": of_prompt(found, prompt)}
    lines = curve(found)
    if json_:
        listed: dict[str, Any] = {
            heading: [as_json(one, questions) for one in its] for heading, its in parts.items()
        }
        run_and_weights = {"training_run": name, "weights": weights or None}
        output.print_json({**run_and_weights, "curve": lines, **listed})
        return
    console = output.console()
    console.print(f"training run {name[:16]}, {len(found)} rollouts", highlight=False)
    if weights:
        told = ", ".join(f"{term} {weight:g}" for term, weight in weights.items())
        console.print(f"rewards made again, nothing stored: {told}", highlight=False, markup=False)
    show_curve(console, lines)
    for heading, its in parts.items():
        show(console, heading, its, questions)


def _read(
    beginning: str, weigh: list[str]
) -> "tuple[str, list[StoredRollout], dict[str, str], dict[str, float]]":
    """A run's id, its rollouts, their questions by prompt, and new weights if there are any."""
    from pipelines.store import calls
    from pipelines.store.rollouts import of_run, reward_terms, run_with_rollouts
    from service.rollouts import rewarded_again, weighed
    from teachers.errors import StoreError

    with stored() as db:
        if db is None:
            raise StoreError("There is no store yet.", hint="preceptor run RECIPE makes one.")
        name = run_with_rollouts(db, beginning)
        found = of_run(db, name)
        prompts = calls.prompts(db, [one.prompt_id for one in found])
        terms = weighed(reward_terms(db, name), weigh) if weigh else []
    questions = {prompt_id: prompt.question for prompt_id, prompt in prompts.items()}
    if terms:
        found = rewarded_again(found, terms)
    return name, found, questions, {term.name: term.weight for term in terms}
