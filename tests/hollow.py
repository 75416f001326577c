"""As much of a model as is looked at before it is loaded: its shape, and bytes to tell it by."""

from pathlib import Path


def hollow_model(folder: Path) -> Path:
    """A folder that counts as weights; folders of different names are different weights."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(folder.name.encode())
    return folder
