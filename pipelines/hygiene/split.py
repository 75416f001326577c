"""Train or held out: decided by a hash, so that no row ever changes sides."""

import hashlib

from pipelines.hygiene.text import normal
from pipelines.store.calls import Split
from teachers.records import content_id

_BUCKETS = 10_000


def side(question: str, held_out_share: float) -> Split:
    """Which side of the split a question is on.

    The same question in other case or spacing is on the same side, whatever its answer, task or
    file. A larger share moves questions to the held-out side only.
    """
    digest = hashlib.sha256(f"split\n{normal(question)}".encode("utf-8", "surrogatepass")).digest()
    bucket = int.from_bytes(digest[:8], "big") % _BUCKETS
    return "held_out" if bucket < held_out_share * _BUCKETS else "train"


def kept_back(prompt_id: str, share: float) -> bool:
    """Whether what is known of a training prompt is kept to measure a judge or a reward model on.

    Always the same for a prompt; a larger share keeps more back.
    """
    return int(content_id("kept back", prompt_id)[:8], 16) / 16.0**8 < share
