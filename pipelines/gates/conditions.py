"""What a student's answers to open requests have to show, one condition at a time, by figures."""

from pydantic import BaseModel, ConfigDict

from pipelines.gates.statistics import Change, even
from pipelines.recipe import Gate


class Condition(BaseModel):
    """One condition of the gate, as it is told."""

    model_config = ConfigDict(frozen=True)

    name: str
    found: str
    wanted: str
    p: float | None
    passed: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.found}, needs {self.wanted}"


def moves_length(gate: Gate, ratio: Change, p: float) -> Condition:
    """The answers have become shorter, or longer, as `gate.length` says.

    Args:
        ratio: median length over the incumbent's.
        p: that the lengths of the same items moved at random.
    """
    right_way = ratio.value < 1 if gate.length == "shorter" else ratio.value > 1
    return Condition(
        name="length",
        found=f"median {ratio.value:.2f} of the incumbent's",
        wanted=f"{gate.length}, p below {gate.alpha:g}",
        p=p,
        passed=right_way and p < gate.alpha,
    )


def is_preferred(gate: Gate, wins: int, losses: int) -> Condition:
    """The judge prefers the student's answers."""
    p = even(wins, losses)
    return Condition(
        name="judge",
        found=f"{wins} wins, {losses} losses",
        wanted=f"more wins, p below {gate.alpha:g}",
        p=p,
        passed=wins > losses and p < gate.alpha,
    )


def keeps_accuracy(gate: Gate, accuracy: Change) -> Condition:
    """No more accuracy may be lost than `gate.max_loss`, as far as the interval goes."""
    return Condition(
        name="accuracy",
        found=str(accuracy),
        wanted=f"the interval above -{gate.max_loss:.0%}",
        p=None,
        passed=accuracy.low > -gate.max_loss,
    )


def stays_near(most: float, divergence: float) -> Condition:
    """The policy has not gone farther from its base than `gate.max_kl`.

    Args:
        divergence: where it ended, in nats a token.
    """
    return Condition(
        name="kl",
        found=f"{divergence:.3f} nats a token from the base",
        wanted=f"at most {most:g}",
        p=None,
        passed=divergence <= most,
    )
