"""How much leaving the reference costs: a coefficient that is fixed, or follows a target."""

from pydantic import BaseModel, ConfigDict

# Of Ziegler et al. 2019 (arXiv 1909.08593, 2.2): the gain, and the most that an error counts.
_GAIN, _MOST = 0.1, 0.2


class KlControl(BaseModel):
    """The coefficient of the divergence in the reward."""

    model_config = ConfigDict(extra="forbid")

    coefficient: float
    target: float | None = None
    """Divergence to hold, in nats an answer; None: the coefficient stays as it is."""

    def saw(self, divergence: float) -> None:
        """Follow the target, once for each batch.

        The proportional controller of Ziegler et al.: c <- c (1 + 0.1 e), where e is how far the
        divergence is above the target, by the target's size, within 0.2 of nought.

        Args:
            divergence: mean over a batch's answers, in nats an answer.
        """
        if self.target is None:
            return
        error = (divergence - self.target) / self.target
        self.coefficient *= 1 + _GAIN * min(max(error, -_MOST), _MOST)
