"""What is known of a reward model, in small files beside its adapter."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from teachers.errors import TrainingError
from teachers.files import write_whole


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    file: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises: TrainingError: it is not there, or says something else."""
        try:
            return cls.model_validate_json((folder / cls.file).read_text())
        except (OSError, ValidationError) as broken:
            raise TrainingError(f"{folder} is no reward model of ours: {broken}") from broken

    def save(self, folder: Path) -> None:
        write_whole(folder / self.file, self.model_dump_json())


class Origin(_Note):
    """What it was trained on."""

    file = "origin.json"

    base: str
    """Fingerprint of the base model."""
    adapter: Literal["lora", "qlora"]
    """Whether that base was held in bf16 or in 4 bits: its hidden states differ."""


class Norm(_Note):
    """Where the scores of usual answers lie."""

    file = "norm.json"

    mean: float
    deviation: float = Field(gt=0)
    samples: int
    """Of how many answers that is."""

    @classmethod
    def of(cls, folder: Path) -> "Norm | None":
        """None where nothing was measured yet."""
        return cls.read(folder) if (folder / cls.file).is_file() else None

    def apply(self, raw: float) -> float:
        """In deviations from the mean."""
        return (raw - self.mean) / self.deviation
