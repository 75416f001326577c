"""Child process: one GGUF file in, a Hugging Face folder with bf16 safetensors out.

python -m teachers.convert MODEL.gguf FOLDER
"""

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file and save model and tokenizer.

    Raises:
        ValueError: transformers does not read this architecture, or the file has no chat template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf.name} carries no chat template")
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
