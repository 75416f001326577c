"""What a training process is told, what it leaves behind, and the files between it and us."""

from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from teachers.errors import TrainingError

# How a training process ends, apart from signals and crashes (1 and below).
DONE = 0
REFUSED = 2
"""It cannot be done and would fail again; the last line of the log says why."""
LOCKED = 3
"""Another process is at work on this folder; nothing was touched."""
FULL = 4
"""There was no space left on the disk."""


class SftJob(BaseModel):
    """Supervised fine-tuning of an adapter on prompts and their answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    """Folder of the model to start from, in the Hugging Face layout."""
    base_weights: str
    """Fingerprint of that folder."""
    dataset: Path
    """JSONL file; each row has `prompt` and `completion`, lists of messages."""
    adapter: Literal["lora", "qlora"] = "lora"
    """`qlora` holds the base in 4 bits (NF4, double quantization) while training."""
    rank: int = Field(default=16, ge=1)
    """Inner width of the adapter's matrices."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that are dropped while training."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter; `all-linear` is every linear layer but the output."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Highest learning rate. Adapters want about 10 times that of full fine-tuning."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """How the learning rate goes on after the warm-up."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the dataset."""
    batch_size: int = Field(default=8, ge=1)
    """Rows that go through the model at once (packs of rows with `packing`)."""
    accumulation: int = Field(default=1, ge=1)
    """Batches that make one optimizer step."""
    max_length: int = Field(default=1024, ge=1)
    """Longest prompt and completion together, in tokens; longer rows are left out and counted."""
    packing: bool = False
    """Join rows into packs of `max_length` tokens; they do not see each other."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a fifth more time."""
    save_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints: the most that a kill can cost."""
    seed: int = 0
    """Order of the rows, first adapter weights and dropout."""
    device: Literal["cpu", "gpu"] = "cpu"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises: TrainingError: the file is not a job."""
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, ValidationError) as broken:
            raise TrainingError(f"{path} is not a job: {broken}") from broken

    def same_as(self, other: Self) -> bool:
        """Whether both train the same; files may have moved in between."""
        places = {"base", "dataset"}
        return self.model_dump(exclude=places) == other.model_dump(exclude=places)


class Result(BaseModel):
    """What a finished training run says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    """Optimizer steps in all."""
    final_loss: float
    """Mean loss of the last step's completion tokens, in nats."""
    seconds: float
    """Wall time of the process that finished; interrupted ones before it are not counted."""
    peak_bytes: int
    """Most memory that this process held resident."""
    adapter_sha256: str
    """Of the adapter's safetensors file."""
    weights: str
    """Fingerprint of the merged copy."""
    resumed_from: int
    """Step that this process went on from; 0 if it began."""


class RunFolder(NamedTuple):
    """The folder of one training run. A file that exists under its own name here is whole."""

    root: Path

    @property
    def job(self) -> Path:
        return self.root / "job.json"

    @property
    def lock(self) -> Path:
        """Held by the training process for as long as it lives."""
        return self.root / "lock"

    @property
    def process(self) -> Path:
        """Which process that is."""
        return self.root / "process.json"

    @property
    def journal(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def merged(self) -> Path:
        return self.root / "merged"

    @property
    def probe(self) -> Path:
        return self.root / "probe.json"

    @property
    def result(self) -> Path:
        """Written last of all."""
        return self.root / "result.json"
