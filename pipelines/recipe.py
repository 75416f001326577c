"""What a round is: one YAML file, typed, with every field explained and every unknown key refused.

The docstring under a field is its help (`preceptor recipe fields`).
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from teachers.prompting.template import Example, Template
from teachers.records import Sampling


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Generator(Section):
    """Prompts from a reasoning-gym generator."""

    generator: str
    """Name of the generator, for example `chain_sum`."""
    name: str | None = None
    """What the task is called in reports; the generator's name if not given."""
    config: dict[str, Any] = {}
    """The generator's own parameters: its difficulty knobs."""
    train: int = Field(default=300, ge=0)
    """Prompts for training."""
    held_out: int = Field(default=100, ge=0)
    """Prompts for the gate."""
    seed: int = 1
    """The same seed gives the same prompts."""

    @property
    def task(self) -> str:
        return self.name or self.generator


class PromptFile(Section):
    """Prompts from a JSONL file."""

    path: Path
    """The file; a relative path counts from the recipe's folder."""
    name: str | None = None
    """What the task is called in reports; the file's name if not given."""
    question: str = "question"
    """Field with the question."""
    answer: str = "answer"
    """Field with the answer. A GSM8K answer (`working #### N`) is taken apart."""
    verifier: Literal["number", "exact"] = "number"
    """Which verifier decides."""
    train: int = Field(default=300, ge=0)
    """Most prompts for training."""
    held_out: int = Field(default=100, ge=0)
    """Most prompts for the gate."""

    @property
    def task(self) -> str:
        return self.name or self.path.stem


class Supply(Section):
    """Where prompts come from."""

    generators: tuple[Generator, ...] = ()
    """Verifiable tasks made by generators."""
    files: tuple[PromptFile, ...] = ()
    """JSONL files with a question and an answer a line."""
    held_out_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of all questions that are never trained on; a hash of the question decides."""

    @property
    def sources(self) -> "list[Generator | PromptFile]":
        """Generators and files, in the order they are asked."""
        return [*self.generators, *self.files]

    @property
    def tasks(self) -> list[str]:
        """What the tasks are called in reports."""
        return [source.task for source in self.sources]

    @model_validator(mode="after")
    def _some(self) -> "Supply":
        if not self.generators and not self.files:
            raise ValueError("needs at least one generator or file")
        names = self.tasks
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two tasks are called {min(twice)!r}: give one another name")
        return self


class TeacherSampling(Sampling):
    """Sampling with a teacher's defaults: several answers, different from one another."""

    n: int = Field(default=8, ge=1, le=64)
    """Answers a prompt, in one request."""
    temperature: float = Field(default=0.8, ge=0.0, le=2.0)
    """0 takes the likeliest token every time; 1 samples as the model was trained."""
    max_tokens: int = Field(default=256, ge=1)
    """An answer is cut after this many tokens."""


class Teacher(Section):
    """Who writes the answers that the student learns from."""

    weights: str | None = None
    """A model as in `student.weights`; the student's base itself if not given."""
    url: str | None = Field(default=None, pattern=r"^https?://[^/]")
    """An OpenAI-compatible endpoint to ask instead of an engine of ours."""
    model: str | None = None
    """The endpoint's name of the model."""
    revision: str = ""
    """Change it when the endpoint's model changes under the same name."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the endpoint's key."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Most requests in flight; fewer while the endpoint says it is busy."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest one request may take, in seconds."""
    sampling: TeacherSampling = TeacherSampling()
    """How answers are sampled."""
    system: str = ""
    """System text, for the teacher only."""
    examples: dict[str, tuple[Example, ...]] = {}
    """Worked examples (question, answer) by task, for the teacher only."""

    @model_validator(mode="after")
    def _one_place(self) -> "Teacher":
        if self.url and self.weights:
            raise ValueError("has both weights and url: one teacher, one place")
        if self.url and not self.model:
            raise ValueError("has a url but no model")
        return self


class Student(Section):
    """Who learns."""

    weights: str = "packaged:SmolLM2-135M-Instruct"
    """A local folder, a .gguf file, a hub id, or `packaged:NAME`."""
    instruction: str = ""
    """Put after every question, for teacher and student alike."""


class Build(Section):
    """How verified answers become a dataset."""

    per_prompt: int = Field(default=4, ge=1)
    """Most answers of one prompt: easy prompts would fill the dataset otherwise."""
    minimum: int = Field(default=50, ge=1)
    """Fewer verified rows than this stop the round: there is nothing to learn from."""


class Train(Section):
    """How the student is trained."""

    adapter: Literal["lora", "qlora"] = "lora"
    """`qlora` holds the frozen base in 4 bits (NF4), on the CPU too."""
    rank: int = Field(default=16, ge=1)
    """Rank of the adapter's matrices."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate; LoRA wants about ten times that of full tuning."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """How the learning rate falls."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    epochs: int = Field(default=2, ge=1)
    """How often the dataset is seen."""
    batch_size: int = Field(default=8, ge=1)
    """Rows a step and device."""
    accumulation: int = Field(default=1, ge=1)
    """Steps whose gradients are added up before the weights move."""
    max_length: int = Field(default=512, ge=16)
    """Longest row, in tokens."""
    packing: bool = False
    """Several short rows in one sequence."""
    gradient_checkpointing: bool = False
    """Less memory for about a third more time."""
    save_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints that a killed run goes on from."""
    seed: int = 17
    """Seed of initialisation and order."""


class Gate(Section):
    """When a checkpoint becomes champion. Gains are shares: 0.15 is 15 points."""

    max_tokens: int = Field(default=256, ge=1)
    """Longest answer in the eval, for base and student alike; sampled greedily."""
    min_gain: float = Field(default=0.0, ge=0, lt=1)
    """Least gain over the incumbent with the strict answer parser."""
    min_gain_lenient: float = Field(default=0.0, ge=0, lt=1)
    """Least gain with the lenient parser, so that a learned form is not sold as skill."""
    beat_few_shot: bool = True
    """The student, asked plainly, must also beat the base that is given the teacher's examples."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Every gain's p-value (McNemar, exact, two-sided) must be below it."""
    min_items: int = Field(default=100, ge=1)
    """Fewer held-out prompts than this decide nothing: the round stops."""


class EngineSection(Section):
    """How model servers of ours are started."""

    max_model_len: int = Field(default=1024, ge=660)
    """Longest prompt and answer together, in tokens; the proof of a weight swap needs 641."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Answers decoded at once."""
    kv_cache_gib: int = Field(default=2, ge=1)
    """Key-value cache on the CPU, in GiB."""
    command: tuple[str, ...] = ()
    """A program to start instead of vLLM that speaks the same protocol."""


class Recipe(Section):
    """One kind of round."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """What the round is called: lower-case letters, digits, `-` and `_`."""
    student: Student = Student()
    """Who learns."""
    teacher: Teacher = Teacher()
    """Who writes the answers that the student learns from."""
    supply: Supply
    """Where prompts come from."""
    build: Build = Build()
    """How verified answers become a dataset."""
    train: Train = Train()
    """How the student is trained."""
    gate: Gate = Gate()
    """When a checkpoint becomes champion."""
    engine: EngineSection = EngineSection()
    """How model servers of ours are started."""

    @property
    def template(self) -> Template:
        """How questions are put."""
        teacher = self.teacher
        return Template(
            instruction=self.student.instruction, system=teacher.system, examples=teacher.examples
        )

    @model_validator(mode="after")
    def _examples_have_tasks(self) -> "Recipe":
        if stray := sorted(set(self.teacher.examples) - set(self.supply.tasks)):
            raise ValueError(f"teacher.examples names {stray[0]!r}, which no task is called")
        return self
