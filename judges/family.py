"""Which models are of one family: a judge favours answers that sound like its own kind.

Language models that judge prefer what they could have written themselves (arXiv 2404.13076). A
family is a set of marks; two models that share one are kin.
"""

import re
from collections.abc import Mapping

_WORD = re.compile(r"[a-z]+")


def named(model: str) -> str:
    """The first word of a model's name without its owner: `Qwen/Qwen3-0.6B` is a `qwen`."""
    name = model.lower().rpartition("/")[2]
    word = _WORD.search(name)
    return word[0] if word else name


def marks_of_config(config: Mapping[str, object]) -> frozenset[str]:
    """What the configuration beside local weights says of their family: shape, and name if told.

    The shape is architecture and width, which training leaves alone: a student is kin to its base.
    """
    shape = f"{config.get('model_type')} {config.get('hidden_size')}"
    # Where weights were saved under a path, its last part may say anything; a hub id has one slash.
    names = [str(config.get(key) or "") for key in ("_name_or_path", "_model_name_or_path")]
    told = {named(name) for name in names if name and name.count("/") < 2}
    return frozenset({shape, *told})


def marks_of_source(source: str) -> frozenset[str]:
    """The name that a packaged model or a hub id tells; a path's last part may say anything."""
    name = source.removeprefix("packaged:")
    hub = name.count("/") == 1 and not name.startswith((".", "~", "/"))
    return frozenset({named(name)}) if hub or name != source else frozenset()
