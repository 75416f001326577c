"""What `preceptor serve` is told besides where."""

from typing import NamedTuple

from service.seat import ANSWER_LIMIT_S


class Options(NamedTuple):
    """What is served, and done beside it."""

    works: bool = False
    """Whether a worker runs beside it, in a process of its own."""
    others: int = 1
    """Model servers beside the champion's, at most."""
    limit_s: float = ANSWER_LIMIT_S
    """Longest that an answer may take, in seconds."""
    keep_texts: bool = False
    """Whether what students are asked and answer is kept, blotted (service/redaction.py)."""

    def flags(self) -> list[str]:
        """The same for the command line."""
        return [
            "--worker" if self.works else "--no-worker",
            *("--others", str(self.others)),
            *("--answer-limit", str(self.limit_s)),
            "--log-traffic" if self.keep_texts else "--no-log-traffic",
        ]


USUAL = Options()
