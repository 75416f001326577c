"""What a training process is told, what it leaves behind, and the files between it and us."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from judges.rewards import JUDGE, RewardTerm
from pipelines.recipe import Rollouts, Train, Tuning
from pipelines.training.curriculum import Pacing
from pipelines.training.guards import Guards
from pipelines.training.score_job import ScoreJob
from teachers.errors import TrainingError

# How a training process ends, apart from signals and crashes (1 and below).
DONE = 0
REFUSED = 2
"""It cannot be done and would fail again; the last line of the log says why."""
LOCKED = 3
"""Another process is at work on this folder; nothing was touched."""
FULL = 4
"""There was no space left on the disk."""
PAUSED = 5
"""A guard tripped; the evidence is beside the job."""


class Job(Tuning):
    """What every training process is told, whatever its objective."""

    base: Path
    """Folder of the model to start from, in the Hugging Face layout."""
    base_weights: str
    """Fingerprint of that folder."""
    dataset: Path
    """JSONL file; its rows are described in `pipelines.training.dataset`."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter; `all-linear` is every linear layer but the output."""
    device: Literal["cpu", "gpu"] = "cpu"

    module: ClassVar[str]
    """What to run in the child process."""
    answers: ClassVar[bool] = True
    """Whether what is trained answers in words: then it is merged to be served, and measured."""

    def same_as(self, other: "Job") -> bool:
        """Whether both train the same; files may have moved in between.

        Which reward model it is, is part of the run's id.
        """
        places = {"base", "dataset", "reward_model"}
        return self.model_dump(exclude=places) == other.model_dump(exclude=places)


class SftJob(Job):
    """Supervised fine-tuning on prompts and their answers."""

    objective: Literal["sft"] = "sft"
    module = "pipelines.training.sft"


class PreferenceJob(Job, Train):
    """Training on pairs of a better and a worse answer."""

    objective: Literal["dpo", "kto", "orpo", "simpo"]
    module = "pipelines.training.preference"


class JudgeJob(Job):
    """Training a judge that says one of two words of a prompt that holds an answer."""

    objective: Literal["judge"] = "judge"
    module = "pipelines.training.judge"

    words: tuple[str, str] = ("yes", "no")
    """The verdicts good and bad; each must be one token at the start of the judge's turn."""
    center_coefficient: float = Field(default=0.01, ge=0)
    """How strongly the scores of a pair are held around 0, where yes and no are even."""


class RewardJob(Job, Train):
    """Training a model that gives an answer a number."""

    objective: Literal["reward"]
    module = "pipelines.training.reward"
    answers = False


class PolicyJob(Job, Train):
    """Training a policy on the rewards of its own answers."""

    objective: Literal["grpo", "rloo", "ppo"]
    rollouts: Rollouts
    rewards: tuple[RewardTerm, ...]
    """What an answer earns."""
    watched: tuple[RewardTerm, ...] = ()
    """Measured as well, and never learned from."""
    reward_model: ScoreJob | None = None
    """Who gives the score that a term asks for."""
    guards: Guards = Guards()
    pacing: Pacing = Pacing()
    module = "pipelines.training.grpo"

    def same_as(self, other: Job) -> bool:
        """Guards are no part of what is trained: one may be changed to go on."""
        plain = {"guards": Guards()}
        mine = self.model_copy(update=plain)
        return Job.same_as(
            mine, other.model_copy(update=plain) if isinstance(other, PolicyJob) else other
        )

    @property
    def judged(self) -> bool:
        """Whether a judge's score is asked for."""
        return any(term.verifier == JUDGE for term in (*self.rewards, *self.watched))

    @property
    def served_as(self) -> Literal["merged", "adapter"]:
        """How whoever samples is given the policy."""
        if self.rollouts.served_as != "auto":
            return self.rollouts.served_as
        itself = self.rollouts.sampler == "transformers"
        return "adapter" if itself or self.device == "gpu" else "merged"

    @property
    def compares(self) -> bool:
        """Whether an advantage is how an answer compares with its group's; a critic needs none."""
        return True

    @property
    def steps(self) -> int:
        """Optimizer steps a batch."""
        return self.rollouts.updates

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches of each process whose gradients make one update."""
        return self.rollouts.size // (self.batch_size * self.rollouts.updates * self.processes)


class PpoJob(PolicyJob):
    """Training a policy, and its critic beside it."""

    objective: Literal["ppo"]
    module = "pipelines.training.ppo"

    @property
    def compares(self) -> bool:
        return False

    @property
    def steps(self) -> int:
        return self.rollouts.updates * self.ppo_epochs

    @property
    def value_rate(self) -> float:
        """Peak learning rate of the critic."""
        return self.value_learning_rate or self.learning_rate


def read_job(path: Path) -> Job:
    """The job in a file, as the class that its objective names.

    Raises:
        TrainingError: the file is not a job.
    """
    try:
        return _JOBS.validate_json(path.read_text())
    except (OSError, ValidationError) as broken:
        raise TrainingError(f"{path} is not a job: {broken}") from broken


# In this order: a job from before there were several objectives does not say its own.
_Kinds = SftJob | PreferenceJob | JudgeJob | RewardJob | PpoJob | PolicyJob
_JOBS: TypeAdapter[_Kinds] = TypeAdapter(Annotated[_Kinds, Field(union_mode="left_to_right")])


class Result(BaseModel):
    """What a finished training run says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    """Optimizer steps in all."""
    final_loss: float
    """Of the last step; for sft, the mean over completion tokens in nats."""
    seconds: float
    """Wall time of the process that finished; interrupted ones before it are not counted."""
    peak_bytes: int
    """Most memory that this process held resident."""
    adapter_sha256: str
    """Of the adapter's safetensors file."""
    weights: str
    """Fingerprint of the merged copy; where nothing is merged, the adapter's SHA-256."""
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
    def sampled(self) -> Path:
        """Every answer of the policy in training as it came: what a successor need not sample."""
        return self.root / "sampled.jsonl"

    @property
    def rollouts(self) -> Path:
        """The same with rewards and advantages, a batch at a time."""
        return self.root / "rollouts.jsonl"

    @property
    def engine(self) -> Path:
        """Where the server is that samples from the policy; for our own eyes."""
        return self.root / "engine.json"

    @property
    def charge(self) -> Path:
        """Which judge grades the answers, and where; for our own eyes."""
        return self.root / "judge.json"

    @property
    def policy(self) -> Path:
        """The policy as that server reads it."""
        return self.root / "policy"

    @property
    def paused(self) -> Path:
        """Why a guard stopped it."""
        return self.root / "paused.json"

    @property
    def result(self) -> Path:
        """Written last of all."""
        return self.root / "result.json"
