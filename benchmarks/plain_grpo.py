"""A plain TRL script for GRPO with TRL's own generation: what `grpo_speed` holds ours against.

    python -m benchmarks.plain_grpo SETTINGS FOLDER

It prints nothing and leaves steps.json: of each step its tokens and seconds, sampling and all.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from judges.verifiers.repetition import repeated


class Clock:
    """When steps begin, and when their answers are there."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.began = 0.0

    def answered(self, completion_ids: list[list[int]]) -> None:
        lengths = [len(row) for row in completion_ids]
        seconds = time.monotonic() - self.began
        self.steps.append({"lengths": lengths, "rollout_seconds": seconds})

    def ended(self) -> None:
        self.steps[-1]["seconds"] = time.monotonic() - self.began


def main(settings: Path, folder: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    told = json.loads(settings.read_text())
    clock = Clock()

    class Times(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.ended()

    def unrepeated(
        completions: list[list[dict[str, str]]], completion_ids: list[list[int]], **_: Any
    ) -> list[float | None]:
        clock.answered(completion_ids)
        return [1.0 - repeated(one[0]["content"].split(), 4) for one in completions]

    prompts = [[{"role": "user", "content": text}] for text in told["prompts"]]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(told["base"], dtype=torch.bfloat16),
        processing_class=AutoTokenizer.from_pretrained(told["base"]),
        reward_funcs=[unrepeated],
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"
        ),
        args=GRPOConfig(**told["args"], output_dir=str(folder / "out")),
        callbacks=[Times()],
    )
    trainer.train()
    equal = _equal(trainer, told["prompts"], told["args"]["num_generations"], told["equal_tokens"])
    (folder / "steps.json").write_text(json.dumps({"steps": clock.steps, "equal_seconds": equal}))


def _equal(trainer: Any, prompts: list[str], group: int, tokens: int) -> float:
    """Seconds that answers of one length take."""
    import torch

    tokenizer = trainer.processing_class
    rows = [[{"role": "user", "content": text}] for text in prompts for _ in range(group)]
    asked = tokenizer.apply_chat_template(
        rows,
        add_generation_prompt=True,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        return_dict=True,
    )
    trainer.model.eval()
    began = time.monotonic()
    with torch.no_grad():
        trainer.model.generate(
            **asked, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True
        )
    return time.monotonic() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
