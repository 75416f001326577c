"""What a round is: one YAML file, typed, with every field explained and every unknown key refused.

The docstring under a field is its help (`preceptor recipe fields`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from judges.certify import Criteria
from judges.rewards import EFFICIENCY, JUDGE, OWN, REWARD_MODEL, RewardTerm, check_terms
from judges.verifiers import unfit as unfit_parameters
from judges.verifiers import versioned
from pipelines.store.pairs import Authority
from pipelines.training.curriculum import Pacing
from pipelines.training.guards import Guards
from teachers.errors import ConfigError, VerifierError
from teachers.prompting.template import Example, Template
from teachers.records import Sampling


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _a_number_is_no_yes(cls, value: Any, about: ValidationInfo) -> Any:
        """YAML reads `yes` as true, and pydantic would read that as 1."""
        kind = cls.model_fields[str(about.field_name)].annotation
        kinds = {kind, *get_args(kind)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError("has to be a number, and YAML reads true or false here")
        return value


def _check_verifier(name: str) -> None:
    try:
        versioned(name)
    except VerifierError as unknown:
        raise ValueError(f"{unknown.message} {unknown.hint}") from unknown


def _check_terms(terms: Sequence[RewardTerm]) -> None:
    try:
        check_terms(terms)
    except ConfigError as unfit:
        raise ValueError(f"{unfit.message} {unfit.hint}".strip()) from unfit
    for term in terms:
        if term.verifier not in (OWN, EFFICIENCY, JUDGE, REWARD_MODEL):
            _check_verifier(term.verifier)
            if wrong := unfit_parameters(term.verifier, term.entry):
                raise ValueError(f"entry of the term {term.name!r}: {wrong}")


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
    verifier: str = "number"
    """Which verifier decides (`preceptor verify --help` lists them), or `module:function`; `none`
    if there is no right answer: then a judge does."""
    train: int = Field(default=300, ge=0)
    """Most prompts for training."""
    held_out: int = Field(default=100, ge=0)
    """Most prompts for the gate."""

    @field_validator("verifier")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "none":
            _check_verifier(name)
        return name

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


class Place(Section):
    """A model, and where it answers."""

    weights: str | None = None
    """A model as in `student.weights`. If neither this nor `url` is given it is the student's base;
    a judge needs one of the two."""
    url: str | None = Field(default=None, pattern=r"^https?://[^/]")
    """An OpenAI-compatible endpoint to ask instead of an engine of ours."""
    model: str | None = None
    """The endpoint's name of the model."""
    revision: str = ""
    """Change it when the endpoint's model changes under the same name; another address is another
    model too."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the endpoint's key."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Most requests in flight; fewer while the endpoint says it is busy. At servers of ours the
    teacher's counts for everybody."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest one request may take, in seconds."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url and self.weights:
            raise ValueError("has both weights and url: one model, one place")
        if self.url and not self.model:
            raise ValueError("has a url but no model")
        return self

    def names_the_model_of(self, other: "Place") -> bool:
        """Whether two places have one model by their names alone, whatever revisions they state."""
        if self.url and other.url:
            mine, theirs = (url.rstrip("/").removesuffix("/v1") for url in (self.url, other.url))
            return (mine, self.model) == (theirs, other.model)
        return self.weights is not None and self.weights == other.weights


class Teacher(Place):
    """Who writes the answers that the student learns from."""

    sampling: TeacherSampling = TeacherSampling()
    """How answers are sampled."""
    system: str = ""
    """System text, for the teacher only."""
    examples: dict[str, tuple[Example, ...]] = {}
    """Worked examples (question, answer) by task, for the teacher only."""


class JudgeSection(Place):
    """Who compares answers by the principles of a constitution."""

    kind: Literal["compare", "score", "follows"] = "compare"
    """`compare` sees two answers in both orders, `score` grades one from 1 to 5, `follows` says yes
    or no of one: the form in which a judge of one's own is trained."""
    rationale: bool = False
    """Ask for reasons first, then for the verdict: twice the calls. Only for `compare`."""
    certify: Criteria = Criteria()
    """What it has to reach on a principle's cases before it may label with that principle."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.url and not self.weights:
            raise ValueError("needs weights, or a url and a model")
        if self.rationale and self.kind != "compare":
            raise ValueError("gives a rationale only with kind: compare")
        return self


class Student(Section):
    """Who learns."""

    weights: str = "packaged:SmolLM2-135M-Instruct"
    """A local folder, a .gguf file, a hub id, or `packaged:NAME`."""
    instruction: str = ""
    """Put after every question, for teacher and student alike."""


class Pairs(Section):
    """How answers become preference pairs."""

    source: Literal["judge", "construction"] = "judge"
    """Who says which answer is better: a certified judge, or how the two were asked for. Verifiers
    outrank both where there is a right answer, and people outrank everybody."""
    guided: int = Field(default=0, ge=0, le=16)
    """So many more answers a prompt sampled under a principle, and as many under its opposite."""
    revisions: int = Field(default=0, ge=0, le=8)
    """Rounds in which the teacher criticises and revises each plain answer to an open request, by
    a principle each; answer and revision are then compared before any others. No judge may be the
    teacher itself."""
    comparisons: int = Field(default=4, ge=1)
    """Comparisons a prompt that a `compare` judge is asked for; grades give all of them at once."""
    per_prompt: int = Field(default=1, ge=1)
    """Most pairs of one prompt, those with the clearest margins."""
    min_margin: float = Field(default=0.1, ge=0, lt=0.5)
    """Least distance of the preference from indifference, of 0.5 at most."""
    max_margin: float = Field(default=0.5, gt=0, le=0.5)
    """Largest: pairs that are too easy teach little."""
    length_ratio: float | None = Field(default=None, gt=1)
    """Longer answer over shorter one at most, in characters; no limit if not given."""
    allow_cut: bool = False
    """A better answer may be one that was cut at max_tokens. Then set train.max_length below
    prompt and max_tokens together: training cuts there too, and learns no end where none was."""
    anchor: str | None = None
    """An older model, as in `student.weights`, whose answers are the rejected sides: chosen and
    rejected then stay apart as rounds go on (arXiv 2508.06026)."""
    minimum: int = Field(default=50, ge=1)
    """Fewer pairs than this stop the round."""
    weights: dict[Authority, Annotated[float, Field(gt=0)]] = {"human": 2.0}
    """How much a pair counts by who says which side is better (`human`, `verifier`, `construction`,
    `judge`), to a reward model (`train.objective: reward`); 1 if not given."""

    @model_validator(mode="after")
    def _constructed(self) -> Self:
        if self.source == "construction" and not self.guided:
            raise ValueError("source: construction needs guided answers")
        if self.revisions and self.anchor is not None:
            raise ValueError("has both anchor and revisions: the rejected side is one or the other")
        if self.min_margin >= self.max_margin:
            raise ValueError("min_margin has to be below max_margin")
        return self


class Lessons(Section):
    """What a judge of one's own (`train.objective: judge`) learns, and what it has to reach."""

    constitutions: tuple[str, ...] = ()
    """More constitutions, as in `constitution`, whose principles it learns as well: one with a
    principle turned into its opposite teaches it to read the principle."""
    held_out: float = Field(default=0.25, ge=0, lt=1)
    """Share of the constructed pairs that it never sees and is certified on."""
    certify: Criteria = Criteria()
    """What it has to reach on every principle's sealed cases."""


class Appraisal(Section):
    """What a reward model (`train.objective: reward`) has to show before it is used."""

    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the prompts whose pairs it never learns from and is measured on."""
    min_pairs: int = Field(default=50, ge=1)
    """Fewer held-out pairs than this stop the round before training."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """It has to be right more often than whoever always takes the longer answer, with a p-value
    (McNemar, exact, two-sided) below this; the interval of its accuracy has to lie above 50 %."""


class RewardModel(Section):
    """A reward model that gives a term of the reward its value (`verifier: reward_model`)."""

    weights: str = Field(pattern=r"^checkpoint:.+")
    """`checkpoint:NAME`; it has to have passed its appraisal. With ppo it is one more adapter on
    the student's base where it was trained on that; else it has a base of its own."""


class Build(Section):
    """How verified answers become a dataset."""

    per_prompt: int = Field(default=4, ge=1)
    """Most answers of one prompt: easy prompts would fill the dataset otherwise."""
    minimum: int = Field(default=50, ge=1)
    """Fewer verified rows than this stop the round: there is nothing to learn from."""


class Tuning(Section):
    """How an adapter is trained, whatever the objective."""

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
    """Longest row, in tokens. Longer ones are left out; of pairs, the sides are cut there."""
    packing: bool = False
    """Several short rows in one sequence."""
    gradient_checkpointing: bool = False
    """Less memory for about a third more time."""
    save_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints that a killed run goes on from."""
    seed: int = 17
    """Seed of initialisation and order."""


class Rollouts(Section):
    """How the policy in training is sampled (grpo, rloo, ppo). Answers are drawn at temperature 1
    from the whole distribution: anything else would not be the policy that is trained."""

    batches: int = Field(default=40, ge=1)
    """Batches of rollouts in all; the policy is the same throughout a batch."""
    prompts: int = Field(default=8, ge=1)
    """Prompts a batch."""
    group: int = Field(default=8, ge=1, le=64)
    """Answers a prompt: an answer's advantage is how it compares with the others of its group. With
    a critic (ppo) one will do."""
    updates: int = Field(default=1, ge=1)
    """Optimizer steps a batch; with ppo for each of its epochs over it."""
    max_tokens: int = Field(default=256, ge=1)
    """An answer is cut after this many tokens."""
    draws: int = Field(default=2, ge=1, le=8)
    """A group whose rewards are all the same teaches nothing and is replaced by another prompt's;
    so often at most is drawn (DAPO's dynamic sampling, arXiv 2503.14476, 3.2). Not with ppo."""
    sampler: Literal["engine", "transformers"] = "engine"
    """`engine` samples from a vLLM server that is given the policy before each batch;
    `transformers` samples in the training process: from the policy itself, exactly and slowly, or
    with `served_as: merged` from a copy."""
    served_as: Literal["auto", "merged", "adapter"] = "auto"
    """How whoever samples is given the policy: `merged` with its base, rounded to bf16, or as an
    `adapter` beside it (LoRA and rsLoRA), which keeps all of an update. `auto` is `adapter` with
    `transformers` and on a GPU, and else `merged`: on a CPU a server's answers through an adapter
    take eight times as long."""
    truncate: float = Field(default=2.0, gt=1)
    """The server's arithmetic is not the trainer's: a token counts by the ratio of the two
    probabilities, at most by this much (truncated importance sampling)."""

    @property
    def size(self) -> int:
        """Answers a batch."""
        return self.prompts * self.group


Objective = Literal["sft", "dpo", "kto", "orpo", "simpo", "judge", "reward", "grpo", "rloo", "ppo"]

# By TRL's names, the one that is meant if none is given first.
_LOSSES = {
    "dpo": (
        *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
        *("aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
    ),
    "kto": ("kto", "apo_zero_unpaired"),
    # gspo is TRL's grpo with ratios of whole answers.
    "grpo": ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "gspo"),
}
_GROUPS = ("grpo", "rloo")
_POLICY = (*_GROUPS, "ppo")
_CLIPS = {"gspo": (3e-4, 4e-4), "cispo": (0.2, 5.0), "ppo": (0.2, 0.2)}
_USUAL_CLIPS = (0.2, 0.28)
_SMOOTHED = {"sigmoid", "robust", "exo_pair", "aot", "aot_unpaired"}
# Whoever sets one of these expects it to be obeyed: set for another objective, it is an error.
_ONLY_FOR = {
    "dropout": ("sft", "judge"),
    "packing": ("sft",),
    "loss": ("dpo", "kto", "grpo"),
    "loss_weights": ("dpo",),
    "beta": ("dpo", "kto", "orpo", "simpo"),
    "label_smoothing": ("dpo", "orpo", "simpo"),
    "soft_labels": ("dpo", "orpo", "simpo"),
    "margin": ("simpo",),
    "precompute_reference": ("dpo", "kto"),
    "center_coefficient": ("judge", "reward"),
    "kl": _GROUPS,
    "clip_low": _POLICY,
    "clip_high": _POLICY,
    "scale": ("grpo",),
    "leave_out_cut": _GROUPS,
    **dict.fromkeys(
        (
            *("ppo_epochs", "discount", "gae_lambda", "kl_coefficient", "kl_target", "stop_kl"),
            *("clip_value", "value_learning_rate", "value_from", "value_warmup"),
            *("missing_end_penalty", "entropy_bonus", "whiten_rewards", "processes"),
            "first_pass_gib",
        ),
        ("ppo",),
    ),
}


class Train(Tuning):
    """How the student is trained."""

    objective: Objective = "sft"
    """`sft` learns from right answers, dpo, kto, orpo and simpo from pairs of a better and a worse
    one; `judge` makes a judge of the model, not a student, and `reward` a reward model, from the
    same pairs as dpo; grpo, rloo and ppo learn from the rewards of what the student answers while
    it learns, ppo with a critic that says what each token was worth."""
    loss: tuple[str, ...] = ()
    """Losses of dpo, kto or grpo by TRL's names; `sigmoid` for dpo, `kto` for kto, `dapo` for grpo
    if not given."""
    loss_weights: tuple[float, ...] = ()
    """Factor of each of several losses; 1 if not given."""
    beta: float = Field(default=0.1, gt=0)
    """Pull back to the base (dpo, kto), weight of the odds ratio (orpo), scale (simpo: 2 to 10)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the pairs that are taken to be labelled the wrong way round."""
    soft_labels: bool = False
    """Smooth each pair by its own `p` instead, the probability that its better side is better."""
    margin: float = Field(default=0.5, ge=0)
    """By how much a chosen answer's scaled log-probability is to lead (simpo's gamma)."""
    precompute_reference: bool = False
    """Ask the base about every answer once, before training: saves time from two epochs on."""
    center_coefficient: float = Field(default=0.01, ge=0)
    """How strongly the scores of a pair (judge, reward) are held around 0 (arXiv 2312.09244)."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the base; 0 leaves the base out."""
    clip_low: float | None = Field(default=None, gt=0, lt=1)
    """A token's probability counts as changed by this share at most, downwards,"""
    clip_high: float | None = Field(default=None, gt=0)
    """and upwards. If not given 0.2 and 0.28: rare tokens need more room (DAPO's clip-higher, arXiv
    2503.14476, 3.1); of whole answers (gspo) 0.0003 and 0.0004 (arXiv 2507.18071, 5.1); cispo's is
    the largest weight of a token itself, 5; ppo's are 0.2 and 0.2."""
    scale: Literal["group", "batch", "none"] = "group"
    """Advantages are divided by the standard deviation of their group's rewards, or the batch's;
    with `none` hard and easy prompts do not count more than others (Dr. GRPO, arXiv 2503.20783)."""
    leave_out_cut: bool = False
    """Answers that were cut at rollouts.max_tokens are not learned from, neither way."""

    ppo_epochs: int = Field(default=4, ge=1)
    """Passes over each batch of answers."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """What the next token's worth counts (gamma)."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """How far advantages look ahead: 0 trusts the critic, 1 the rewards (arXiv 1506.02438)."""
    kl_coefficient: float = Field(default=0.05, ge=0)
    """What it costs in the reward to leave the base, for each nat of each token."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats an answer that the coefficient is adapted to hold (arXiv 1909.08593, 2.2)."""
    stop_kl: float | None = Field(default=None, gt=0)
    """The policy learns no more from a batch once an epoch has moved it so far, in nats a token."""
    clip_value: float = Field(default=0.2, gt=0)
    """How far the critic moves in a batch, in the unit of the reward."""
    value_learning_rate: float | None = Field(default=None, gt=0)
    """Of the critic; `learning_rate` if not given."""
    value_from: Literal["base", "reward_model"] = "base"
    """What the critic begins as. A reward model trained on the student's base foresees something
    from the first batch; the base foresees nothing."""
    value_warmup: int = Field(default=0, ge=0)
    """Batches in which the critic alone learns, at first."""
    processes: int = Field(default=1, ge=1)
    """How many processes learn from each update's answers together, each on a GPU of its own, or
    with its share of the cores."""
    missing_end_penalty: float = Field(default=1.0, ge=0)
    """What an answer that was cut at rollouts.max_tokens loses of its reward."""
    entropy_bonus: float = Field(default=0.0, ge=0)
    """Weight of the entropy in the policy's loss, in its favour."""
    whiten_rewards: bool = False
    """Scale a batch's rewards of tokens to deviation 1; their mean stays."""
    first_pass_gib: float = Field(default=1.0, ge=0)
    """Memory for forward passes that are not computed twice, in GiB and for each process: what
    policy and critic say of a batch before they learn, the first update learns from as it is."""

    @field_validator("loss", mode="before")
    @classmethod
    def _one_or_several(cls, loss: object) -> object:
        return (loss,) if isinstance(loss, str) else loss

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, objectives in _ONLY_FOR.items():
            if self.objective not in objectives and not self._is_default(name):
                raise ValueError(f"{name} is for {', '.join(objectives)}, not {self.objective}")
        known = _LOSSES.get(self.objective, ())
        if strange := [loss for loss in self.loss if loss not in known]:
            raise ValueError(f"no such loss: {strange[0]!r}; known: {', '.join(known)}")
        if self.loss_weights and len(self.loss_weights) != len(self.losses):
            raise ValueError("loss_weights needs one number for each loss")
        if self.objective in ("kto", "grpo") and len(self.loss) > 1:
            raise ValueError(f"{self.objective} takes one loss")
        if self.losses == ("kto",) and self.batch_size < 2:
            raise ValueError("kto compares the rows of a batch: batch_size must be 2 or more")
        self._check_smoothing()
        return self

    def _check_smoothing(self) -> None:
        smooth = self.soft_labels or self.label_smoothing > 0
        if self.soft_labels and self.label_smoothing:
            raise ValueError("has both soft_labels and label_smoothing: one or the other")
        if "exo_pair" in self.losses and not self.label_smoothing:
            raise ValueError("exo_pair needs label_smoothing, for example 0.001")
        if self.objective != "dpo" or not smooth or self.losses == ("sigmoid",):
            return
        if self.soft_labels:
            raise ValueError("soft_labels go with the loss sigmoid alone")
        if rough := [loss for loss in self.losses if loss not in _SMOOTHED - {"sigmoid"}]:
            raise ValueError(f"label_smoothing does nothing to {rough[0]!r} here")

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses by TRL's names; none for an objective with one loss only."""
        return self.loss or _LOSSES.get(self.objective, ())[:1]

    @property
    def clips(self) -> tuple[float, float]:
        """How far a ratio of probabilities may go, downwards and upwards."""
        low, high = _CLIPS.get(next(iter(self.losses), self.objective), _USUAL_CLIPS)
        return self.clip_low or low, self.clip_high or high

    @property
    def wants_pairs(self) -> bool:
        """Whether the dataset has pairs of answers, not single ones."""
        return self.objective not in ("sft", "judge", *_POLICY)

    @property
    def makes_student(self) -> bool:
        """Whether what is trained answers people, and passes a gate before it does."""
        return self.objective not in ("judge", "reward")

    @property
    def wants_rollouts(self) -> bool:
        """Whether the student learns from what it answers while it is trained."""
        return self.objective in _POLICY

    @model_serializer(mode="wrap")
    def _brief(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that sft did not have from the start are told only where they are not default.

        So training runs from before those fields keep their ids. A default here may therefore
        never change.
        """
        kept: dict[str, Any] = whole(self)
        later = Train.model_fields.keys() - Tuning.model_fields.keys()
        return {k: v for k, v in kept.items() if k not in later or not self._is_default(k)}

    def _is_default(self, name: str) -> bool:
        return bool(getattr(self, name) == type(self).model_fields[name].default)


_UNDECIDED = "needs a judge or gate.length, or the gate has nothing to decide by"


class Gate(Section):
    """When a checkpoint becomes champion. Gains are shares: 0.15 is 15 points."""

    max_tokens: int = Field(default=256, ge=1)
    """Longest answer in the eval, for base and student alike; tasks are answered greedily."""
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
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling of the answers to open requests; tasks are always greedy."""
    length: Literal["shorter", "longer"] | None = None
    """Open requests: answers must get shorter, or longer (Wilcoxon, two-sided, `alpha`)."""
    max_loss: float = Field(default=0.05, gt=0, lt=1)
    """Open requests: the interval of the change in the tasks' accuracy must lie above minus
    this."""
    max_kl: float | None = Field(default=None, gt=0)
    """Rollouts: so far may the student have gone from its base, in nats a token, by the
    last two figures of its training; with ppo there is one as each batch begins."""


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
    constitution: str | None = Field(default=None, min_length=1)
    """What good means: a shipped constitution's name, a version, or a path that ends in `.yaml`."""
    principles: tuple[str, ...] = ()
    """Only these principles of it, by id; all if not given."""
    judge: JudgeSection | None = None
    """Who compares answers by the principles."""
    panel: tuple[JudgeSection, ...] = ()
    """More judges beside `judge`: together they are a panel, and each has to be certified."""
    quorum: int | None = Field(default=None, ge=1)
    """Least number of a panel's judges that have decided; more than half of them if not given."""
    build: Build = Build()
    """How verified answers become a dataset."""
    pairs: Pairs = Pairs()
    """How answers become preference pairs."""
    lessons: Lessons = Lessons()
    """What a judge of one's own learns, and what it has to reach."""
    appraisal: Appraisal = Appraisal()
    """What a reward model has to show before it is used."""
    rollouts: Rollouts = Rollouts()
    """How the policy in training is sampled (grpo, rloo, ppo)."""
    rewards: tuple[RewardTerm, ...] = (RewardTerm(name="right", verifier=OWN),)
    """What its answers earn: the weighted sum of these terms; each is kept by itself as well."""
    watched: tuple[RewardTerm, ...] = (RewardTerm(name="watched", verifier=OWN, parser="lenient"),)
    """Measured on every answer and never learned from: the first one's score has to rise with the
    reward."""
    reward_model: RewardModel | None = None
    """Whose score the terms `reward_model` are."""
    guards: Guards = Guards()
    """When training pauses because its reward may be hacked."""
    pacing: Pacing = Pacing()
    """Which prompts are left alone, because they are solved or out of reach."""
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

    @property
    def judges(self) -> tuple[JudgeSection, ...]:
        """The judge and those beside it."""
        return (self.judge, *self.panel) if self.judge else ()

    @property
    def reviser(self) -> Place:
        """Who revises answers: the teacher, which is the student's base where none is named."""
        if self.teacher.url or self.teacher.weights:
            return self.teacher
        return self.teacher.model_copy(update={"weights": self.student.weights})

    @model_validator(mode="after")
    def _panel_fits(self) -> Self:
        if self.panel and self.judge is None:
            raise ValueError("panel is for judges beside judge, and there is none")
        if len(set(self.judges)) < len(self.judges):
            raise ValueError("panel has the same judge twice")
        if self.quorum is not None and not self.panel:
            raise ValueError("quorum is for a panel, and there is none")
        if (self.quorum or 0) > len(self.judges):
            raise ValueError(f"quorum is larger than the panel of {len(self.judges)} judges")
        return self

    @model_validator(mode="after")
    def _revisions_are_judged(self) -> Self:
        judged = self.judge is not None and self.pairs.source == "judge" and self.train.wants_pairs
        if self.pairs.revisions and not (judged and self.train.makes_student):
            raise ValueError("pairs.revisions are for a student's pairs, labelled by a judge")
        own = any(one.names_the_model_of(self.reviser) for one in self.judges)
        if self.pairs.revisions and own:
            raise ValueError(
                "pairs.revisions need judges that are not the reviser (the teacher, or the "
                "student's base): name another model in judge and panel, or in teacher"
            )
        return self

    @model_validator(mode="after")
    def _batches_come_out_even(self) -> Self:
        train, rollouts = self.train, self.rollouts
        if not train.wants_rollouts:
            return self
        if train.accumulation != 1:
            raise ValueError("train.accumulation follows from rollouts and train.batch_size here")
        if rollouts.size % (train.batch_size * rollouts.updates * train.processes):
            raise ValueError(
                f"a batch of {rollouts.size} answers (rollouts.prompts x group) cannot be shared "
                f"out to {rollouts.updates} updates of train.batch_size {train.batch_size}"
                + (f" in {train.processes} processes" if train.processes > 1 else "")
            )
        steps = rollouts.updates * (train.ppo_epochs if train.objective == "ppo" else 1)
        if train.save_steps % steps:
            raise ValueError(
                f"train.save_steps has to be a multiple of {steps}, the steps of a batch "
                "(rollouts.updates, times train.ppo_epochs with ppo): a checkpoint within a batch "
                "could not be gone on from exactly"
            )
        self._check_groups()
        _check_terms(self.rewards)
        if self.watched:
            _check_terms(self.watched)
        names = [term.name for term in (*self.rewards, *self.watched)]
        if len(set(names)) < len(names):
            raise ValueError("rewards and watched have two terms of one name")
        self._check_judge_of_rewards()
        self._check_reward_model()
        if rollouts.sampler == "engine":
            self._check_engine_of_rollouts()
        elif rollouts.served_as == "merged" and train.adapter == "qlora":
            raise ValueError("a 4-bit policy cannot be merged yet: rollouts.served_as adapter")
        if not any(term.weight for term in self.rewards):
            raise ValueError("every term of the rewards weighs 0, so nothing is paid for")
        own = [term.name for term in (*self.rewards, *self.watched) if term.verifier == OWN]
        if own and (open_ := [file.task for file in self.supply.files if file.verifier == "none"]):
            raise ValueError(
                f"{open_[0]!r} has no verifier of its own, and the term {own[0]!r} asks for it"
                + (": watched: [] leaves the usual one out" if own[0] == "watched" else "")
            )
        return self

    def _check_groups(self) -> None:
        if self.train.objective == "ppo":
            if "draws" in self.rollouts.model_fields_set and self.rollouts.draws > 1:
                raise ValueError("rollouts.draws is for groups that are compared: not with ppo")
        elif self.rollouts.group < 2:
            raise ValueError("rollouts.group has to be 2 or more: its answers are compared")

    def _check_engine_of_rollouts(self) -> None:
        longest = self.train.max_length + self.rollouts.max_tokens
        # One to spare: reading an answer's log-probabilities takes a token more.
        if longest >= self.engine.max_model_len:
            raise ValueError(
                f"train.max_length and rollouts.max_tokens come to {longest} tokens, and "
                f"engine.max_model_len, {self.engine.max_model_len}, has to be more"
            )
        if self.train.adapter == "qlora":
            raise ValueError(
                "a 4-bit policy cannot be handed over yet: rollouts.sampler transformers"
            )

    def _check_judge_of_rewards(self) -> None:
        if not any(term.verifier == JUDGE for term in (*self.rewards, *self.watched)):
            return
        if self.judge is None or self.constitution is None:
            raise ValueError("a reward asks for a judge: name one, and a constitution")
        if self.judge.kind == "compare" or self.panel:
            raise ValueError("rewards take one judge that grades: kind score or follows")

    def _check_reward_model(self) -> None:
        asked = any(term.verifier == REWARD_MODEL for term in (*self.rewards, *self.watched))
        if asked != (self.reward_model is not None):
            raise ValueError("reward_model names the model that terms with that verifier ask")
        paid = any(term.verifier == REWARD_MODEL for term in self.rewards)
        if self.train.value_from == "reward_model" and not paid:
            raise ValueError("train.value_from: reward_model, and no term of the reward asks one")

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one recipe from another.

        Defaults are left out: a field that a later release adds makes no other recipe of this.
        Guards say when to pause: whoever changes one goes on with the same round.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"guards"})

    @property
    def prefers(self) -> bool:
        """Whether the gate compares answers to open requests, instead of counting right ones."""
        if not self.train.makes_student:
            return False
        open_ = any(file.verifier == "none" and file.held_out for file in self.supply.files)
        return self.train.wants_pairs or (self.train.wants_rollouts and open_)

    @model_validator(mode="after")
    def _gate_asks_what_it_sees(self) -> Self:
        usual = Gate.model_fields
        asked = {name for name in usual if getattr(self.gate, name) != usual[name].default}
        if self.prefers and (unseen := asked & {"min_gain", "min_gain_lenient"}):
            raise ValueError(
                f"gate.{min(unseen)} is about right answers, and where there are open requests the "
                "gate compares answers to those: judge or gate.length, and gate.max_loss for tasks"
            )
        if not self.prefers and (unseen := asked & {"length", "max_loss"}):
            raise ValueError(
                f"gate.{min(unseen)} is about answers to open requests, and this round's gate sees "
                "none"
            )
        return self

    @model_validator(mode="after")
    def _pairs_have_labels(self) -> Self:
        if self.train.objective == "judge":
            if self.constitution is None:
                raise ValueError("a judge is trained for a constitution: name one")
            if self.pairs.source != "construction" or self.pairs.anchor is not None:
                raise ValueError(
                    "a judge learns from constructed pairs: pairs.source, and no pairs.anchor"
                )
            return self
        if self.train.wants_rollouts:
            if self.prefers and self.judge is None and self.gate.length is None:
                raise ValueError(_UNDECIDED)
            return self
        if self.gate.max_kl is not None:
            raise ValueError("gate.max_kl is for objectives that learn from rollouts")
        if not self.train.wants_pairs:
            if unchecked := [file.task for file in self.supply.files if file.verifier == "none"]:
                raise ValueError(
                    f"{unchecked[0]!r} has no right answers, and sft learns from those alone"
                )
            return self
        if self.constitution is None:
            raise ValueError(f"{self.train.objective} learns from pairs: it needs a constitution")
        if self.pairs.source == "judge" and self.judge is None:
            raise ValueError("pairs.source is judge, and there is no judge")
        if self.pairs.source == "construction" and self.pairs.anchor is not None:
            raise ValueError("pairs.anchor is for pairs that a judge labels")
        if self.train.objective == "reward":
            return self
        if self.judge is None and self.gate.length is None:
            raise ValueError(_UNDECIDED)
        return self

    @model_validator(mode="after")
    def _only_for_its_objective(self) -> Self:
        if self.name == "champion" and not self.train.makes_student:
            raise ValueError(
                "champion is the student that is served; a judge or a reward model needs another "
                "name"
            )
        weighted = self.pairs.weights != Pairs.model_fields["weights"].default
        if self.train.objective != "reward" and (weighted or self.appraisal != Appraisal()):
            raise ValueError("pairs.weights and appraisal are for train.objective reward")
        return self

    @model_validator(mode="after")
    def _examples_have_tasks(self) -> "Recipe":
        if stray := sorted(set(self.teacher.examples) - set(self.supply.tasks)):
            raise ValueError(f"teacher.examples names {stray[0]!r}, which no task is called")
        return self
