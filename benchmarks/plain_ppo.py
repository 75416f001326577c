"""A plain script for TRL 1.12.0's PPO trainer, the last that it had: what `ppo_speed` holds ours
against.

    PEER/bin/python -m benchmarks.plain_ppo SETTINGS FOLDER

PEER is an environment with that version. It prints nothing and leaves batches.json: when each of
its batches was done, in seconds. `torch.distributed.run` may start it in several processes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

HEAD = "base_model.model.score.weight"


def main(settings: Path, folder: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from safetensors import safe_open
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    told = json.loads(settings.read_text())
    done: list[float] = []

    class Times(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.append(time.monotonic())

    def rating() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            told["base"], num_labels=1, dtype=torch.bfloat16
        )

    def policy() -> Any:
        return AutoModelForCausalLM.from_pretrained(told["base"], dtype=torch.bfloat16)

    reward = rating()
    with safe_open(Path(told["reward_model"], "adapter_model.safetensors"), "pt") as weights:
        reward.score.weight.data.copy_(weights.get_tensor(HEAD))
    tokenizer = AutoTokenizer.from_pretrained(told["base"], padding_side="left")
    # It takes an answer's end for padding where both are one token.
    tokenizer.pad_token = tokenizer.unk_token
    asked = [[{"role": "user", "content": text}] for text in told["prompts"]]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    rows = Dataset.from_dict({"input_ids": ids})
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    trainer = PPOTrainer(
        args=PPOConfig(**told["args"], output_dir=str(folder / "out")),
        processing_class=tokenizer,
        model=policy(),
        ref_model=None if told["adapter"] else policy(),
        reward_model=reward,
        value_model=rating(),
        train_dataset=rows,
        eval_dataset=rows,
        peft_config=lora if told["adapter"] else None,
        callbacks=[Times()],
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        (folder / "batches.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
