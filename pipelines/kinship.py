"""Judges that are not independent: a warning for kin, a refusal for who judges own revisions."""

import json
from collections.abc import Iterable

from judges.family import marks_of_config, marks_of_source, named
from pipelines.recipe import Place
from pipelines.seat import Seat
from pipelines.source import identity, prepared
from pipelines.workbench import Workbench
from teachers.errors import RoundStopped


def family(bench: Workbench, place: Place) -> frozenset[str]:
    """The marks of a model's family: from its configuration, or from an endpoint's model name.

    Raises:
        WeightsError: local weights cannot be found.
    """
    if place.weights is None:
        return frozenset({named(place.model or "")})
    folder = prepared(place.weights, bench.home, bench.progress).path
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return marks_of_config(config) | marks_of_source(place.weights)


def warn_of_kin(bench: Workbench, seats: Iterable[Seat], model: Place) -> list[str]:
    """Say which judges are not independent of a model, and return what was said."""
    own = family(bench, model)
    weights = identity(model, None, bench.home, bench.progress)
    found = []
    for seat in seats:
        if seat.judge.weights == weights:
            found.append(f"{seat.judge.name} judges its own answers: the weights are the same")
        elif common := own & family(bench, seat.place):
            found.append(f"{seat.judge.name} judges its own family: both are {min(common)}")
    for line in found:
        bench.progress.say(line)
    return found


def refuse_the_reviser(bench: Workbench, judges: Iterable[Place], reviser: Place) -> None:
    """Make sure that nobody judges revisions of their own, whatever names the models go by.

    Raises:
        RoundStopped: a judge's weights are the reviser's.
        WeightsError: local weights cannot be found.
    """
    own = identity(reviser, None, bench.home, bench.progress)
    for place in judges:
        if identity(place, None, bench.home, bench.progress) == own:
            raise RoundStopped(
                f"The judge {place.weights or place.model} has the weights of who revises answers, "
                "and a critic that praises its own revision is no evidence.",
                hint="Name another model in judge or panel, or in teacher; or pairs.revisions: 0.",
            )
