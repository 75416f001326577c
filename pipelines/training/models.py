"""The model in a training process: base, adapter, merged copy, and what they say of a probe.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipelines.training.job import Job
from teachers.errors import TrainingError
from teachers.files import sync, whole_folder
from teachers.sync import MIN_TOKENS, PROBE_TEXT

# Not "default": with several adapters on one model, the trainer would forget that one on resume.
ADAPTER = "policy"
PROBE_TOKENS = 640


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """A model's own tokenizer.

    Raises:
        TrainingError: it has no chat template.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        raise TrainingError(f"{folder} has no chat template, so it cannot be trained to chat.")
    return tokenizer


def base_model(job: Job) -> PreTrainedModel:
    """The base as it is trained on: bf16, or 4 bits with bf16 arithmetic."""
    return loaded(job.base, job.device, nf4() if job.adapter == "qlora" else None)


def nf4(*spared: str) -> BitsAndBytesConfig:
    """How a base is held in 4 bits.

    Args:
        spared: layers that are not, instead of the output alone.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(spared) or None,  # of 4 bits as well, whatever its name says
    )


def loaded(
    folder: Path,
    device: str,
    quantization: BitsAndBytesConfig | None = None,
    kind: Any = AutoModelForCausalLM,
    **how: Any,
) -> PreTrainedModel:
    """A model in bf16 or quantized.

    Args:
        device: as in a job.
        kind: which of transformers' automatic classes opens it.
        how: what its configuration is to say otherwise.
    """
    model: PreTrainedModel = kind.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=quantization,
        device_map={"": "cuda" if device == "gpu" else "cpu"},
        **how,
    )
    return model


def with_adapter(
    model: PreTrainedModel, job: Job, task: str = "CAUSAL_LM", name: str = ADAPTER
) -> PeftModel:
    """The model with a new adapter on it, in float32; torch's seed decides its first weights."""
    wrapped: PeftModel = get_peft_model(model, adapter_config(job, task), adapter_name=name)
    return wrapped


def adapter_config(job: Job, task: str = "CAUSAL_LM") -> LoraConfig:
    """What the job's adapter is; one for SEQ_CLS has the head with it."""
    modules = job.target_modules
    return LoraConfig(
        task_type=task,
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=job.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
    )


def in_float32(model: PeftModel) -> None:
    """Hold the adapter in float32 again: TRL casts it to bf16 over a 4-bit base.

    There a step of 1e-4 is rounded away.
    """
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)


def save_adapter(model: PeftModel, target: Path) -> None:
    """Save the adapter as a plain folder that vLLM and PEFT open whatever its name was."""
    with whole_folder(target) as partial:
        put_adapter(model, partial)


def put_adapter(model: PeftModel, folder: Path) -> None:
    """The same into a folder that is there; of several adapters the one that acts."""
    acting = str(model.active_adapter)
    model.save_pretrained(str(folder), selected_adapters=[acting])
    if (named := folder / acting).is_dir():
        for path in named.iterdir():
            path.rename(folder / path.name)
        named.rmdir()


def merge(job: Job, adapter: Path, target: Path) -> None:
    """Save base and adapter as one bf16 model."""
    model = merged(job, adapter)
    with whole_folder(target) as partial:
        model.save_pretrained(partial)
        tokenizer_of(job.base).save_pretrained(partial)


def merged(job: Job, adapter: Path) -> PreTrainedModel:
    """Base and adapter as one bf16 model.

    A 4-bit base is merged as the values its 4 bits stand for: what is served is what was trained.
    """
    model = base_model(job)
    if job.adapter == "qlora":
        model = model.dequantize(dtype=torch.bfloat16)
    wrapped = PeftModel.from_pretrained(model, str(adapter), adapter_name=ADAPTER)
    together: PreTrainedModel = wrapped.merge_and_unload()
    return together


def put_weights(model: PreTrainedModel, folder: Path) -> None:
    """Save a model's weights alone into a folder that has the rest; each file is whole at once."""
    with TemporaryDirectory(dir=folder.parent) as place:
        model.save_pretrained(place)
        for path in sorted(Path(place).glob("*.safetensors")):
            sync(path)
            path.rename(folder / path.name)
    sync(folder)


def measured(job: Job, folders: Mapping[str, Path]) -> dict[str, object]:
    """What the models in some folders say of the probe text, as `teachers.sync.Probe` reads it.

    Args:
        folders: bf16 models by their fingerprint; held in memory one at a time.
    """
    tokens = probe_tokens(job.base)
    rows = {
        weights: logprobs(loaded(path, job.device), tokens) for weights, path in folders.items()
    }
    return {"tokens": tokens, "logprobs": rows}


def probe_tokens(folder: Path) -> list[int]:
    """The probe text as a model's tokens, at least as many as a proof takes."""
    once: list[int] = tokenizer_of(folder)(PROBE_TEXT, add_special_tokens=False)["input_ids"]
    return (once * -(-MIN_TOKENS // len(once)))[:PROBE_TOKENS]


def logprobs(model: PreTrainedModel | PeftModel, tokens: Sequence[int]) -> list[float]:
    """Log-probability, in nats, of each token but the first; dropout is off meanwhile."""
    was_training = model.training
    model.eval()
    ids = torch.tensor([list(tokens)], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0].float()
    model.train(was_training)
    chosen = logits.gather(1, ids[0, 1:, None])[:, 0]
    found: list[float] = (chosen - logits.logsumexp(1)).tolist()
    return found
