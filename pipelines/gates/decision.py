"""From measurements to promote or keep, with every reason said."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from judges.records import Parser
from judges.share import Share, share
from pipelines.gates.evaluation import Evaluation
from pipelines.gates.statistics import Paired, mcnemar
from pipelines.recipe import Gate

PARSERS: tuple[Parser, Parser] = ("strict", "lenient")


class Bar(BaseModel):
    """One condition of the gate."""

    model_config = ConfigDict(frozen=True)

    name: str
    against: str
    parser: Parser
    gain: float
    """Share of the student minus share of what it is held against."""
    wanted: float
    p: float
    alpha: float
    passed: bool

    def __str__(self) -> str:
        need = f"at least {self.wanted:+.1%}" if self.wanted else "a gain"
        found = f"{self.name}: {self.gain:+.1%} (p = {self.p:.2g})"
        return f"{found}, needs {need} with p below {self.alpha:g}"


class Decision(BaseModel):
    """What the gate decided, and the figures it decided on."""

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reason: str
    items: int
    shares: dict[str, dict[Parser, Share]]
    """By who was measured and by parser, over all items."""
    by_task: dict[str, dict[str, dict[Parser, Share]]]
    """The same by task, first key the task."""
    bars: list[Bar]


def decide(
    student: Evaluation, others: Mapping[str, Evaluation], incumbent: str, gate: Gate
) -> Decision:
    """Hold the student against the incumbent and, where the recipe says so, the few-shot base.

    Args:
        student: the new checkpoint, asked zero-shot.
        others: what else was measured on the same prompts, by name; holds `incumbent`, and
            `base few-shot` if the gate wants it beaten.
        incumbent: which of them is to be replaced.
    """
    wanted = {"strict": gate.min_gain, "lenient": gate.min_gain_lenient}
    bars = [
        _bar(incumbent, parser, others[incumbent], student, wanted[parser], gate.alpha)
        for parser in PARSERS
    ]
    if gate.beat_few_shot:
        bars += [
            _bar(FEW_SHOT, parser, others[FEW_SHOT], student, 0.0, gate.alpha) for parser in PARSERS
        ]
    failed = [bar for bar in bars if not bar.passed]
    everybody = {**others, STUDENT: student}
    return Decision(
        promoted=not failed,
        reason="every bar is passed" if not failed else "; ".join(map(str, failed)),
        items=len(student.prompts),
        shares={name: _shares(measured) for name, measured in everybody.items()},
        by_task={
            task: {name: _shares(measured, task) for name, measured in everybody.items()}
            for task in sorted({prompt.task for prompt in student.prompts})
        },
        bars=bars,
    )


BASE, FEW_SHOT, STUDENT = "base", "base few-shot", "student"


def _bar(
    against: str,
    parser: Parser,
    other: Evaluation,
    student: Evaluation,
    wanted: float,
    alpha: float,
) -> Bar:
    paired: Paired = mcnemar(other.right(parser), student.right(parser))
    return Bar(
        name=f"{parser} against {against}",
        against=against,
        parser=parser,
        gain=paired.difference,
        wanted=wanted,
        p=paired.p,
        alpha=alpha,
        passed=paired.difference > 0 and paired.difference >= wanted and paired.p < alpha,
    )


def _shares(measured: Evaluation, task: str | None = None) -> dict[Parser, Share]:
    of_task = [task is None or prompt.task == task for prompt in measured.prompts]
    return {
        parser: share([r for r, mine in zip(measured.right(parser), of_task, strict=True) if mine])
        for parser in PARSERS
    }
