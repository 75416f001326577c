"""What `preceptor serve` is told besides where."""

from typing import Literal, NamedTuple

from service.seat import ANSWER_LIMIT_S
from teachers.engine import EngineSettings

MOST_ADAPTERS = 8


class Options(NamedTuple):
    """What is served, and done beside it."""

    works: bool = False
    """Whether a worker runs beside it, in a process of its own."""
    others: int | None = None
    """Students beside the champion, at most; None: one, or eight as adapters."""
    limit_s: float = ANSWER_LIMIT_S
    """Longest that an answer may take, in seconds."""
    keep_texts: bool = False
    """Whether what students are asked and answer is kept, blotted (service/redaction.py)."""
    served_as: Literal["auto", "merged", "adapter"] = "auto"
    """What students beside the champion are given to servers as: `merged`, each to one of its own,
    or as an `adapter` to their base's; `auto` is that on a GPU."""
    rolls_back: bool = True
    """Whether a new champion that fails more than the one before is rolled back."""
    gpu_share: float = EngineSettings().gpu_memory_share
    """Share of a GPU's memory that each model server takes."""

    def as_adapters(self, device: str) -> bool:
        """Whether students of one base share a server.

        Args:
            device: `cpu` or `gpu`.
        """
        return self.served_as == "adapter" or (self.served_as == "auto" and device == "gpu")

    def most(self, device: str) -> int:
        """Students beside the champion, at most.

        Args:
            device: `cpu` or `gpu`.
        """
        if self.others is not None:
            return self.others
        return MOST_ADAPTERS if self.as_adapters(device) else 1

    def flags(self) -> list[str]:
        """The same for the command line."""
        return [
            "--worker" if self.works else "--no-worker",
            *(("--others", str(self.others)) if self.others is not None else ()),
            *("--answer-limit", str(self.limit_s)),
            "--log-traffic" if self.keep_texts else "--no-log-traffic",
            *("--served-as", self.served_as),
            "--rollback" if self.rolls_back else "--no-rollback",
            *("--gpu-share", str(self.gpu_share)),
        ]


USUAL = Options()
