"""Supervised fine-tuning as one writes it with TRL alone: what `benchmarks.train` is held against.

python -m benchmarks.plain_sft JOB.json FOLDER
"""

import json
import sys
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer


def sft(job_file: Path, folder: Path) -> None:
    job = json.loads(job_file.read_text())
    trainer = SFTTrainer(
        model=job["base"],
        args=SFTConfig(
            output_dir=str(folder / "checkpoints"),
            model_init_kwargs={"dtype": "bfloat16"},
            num_train_epochs=job["epochs"],
            per_device_train_batch_size=job["batch_size"],
            gradient_accumulation_steps=job["accumulation"],
            learning_rate=job["learning_rate"],
            lr_scheduler_type=job["schedule"],
            warmup_steps=job["warmup_share"],
            max_length=job["max_length"],
            packing=job["packing"],
            gradient_checkpointing=job["gradient_checkpointing"],
            seed=job["seed"],
            use_cpu=job["device"] == "cpu",
            bf16=job["device"] == "gpu",
            save_strategy="steps",
            save_steps=job["save_steps"],
            save_total_limit=2,
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=load_dataset("json", data_files=job["dataset"], split="train"),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=job["rank"],
            lora_alpha=job["alpha"],
            lora_dropout=job["dropout"],
            target_modules=job["target_modules"],
        ),
    )
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    (folder / "loss.json").write_text(json.dumps(losses[-1]))


if __name__ == "__main__":
    sft(Path(sys.argv[1]), Path(sys.argv[2]))
