"""reasoning-gym's own scorers, for the tasks that its generators made."""

from typing import Any

from judges.records import Verification
from judges.verifiers.exact import normal


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the generator's scorer gives the full mark.

    Scorers give part marks for form (0.01 for any answer that holds the right one); only the full
    mark counts. Several of them compare texts, so an answer equal to the reference up to case and
    spaces counts too.
    """
    from reasoning_gym import get_score_answer_fn

    source = entry.get("metadata", {}).get("source_dataset")
    if source is None:
        return Verification(state="not_applicable", reason="not made by a reasoning-gym generator")
    score = float(get_score_answer_fn(source)(answer, entry))
    if score >= 1.0 or (reference is not None and normal(answer) == normal(reference)):
        return Verification(state="verified", reason=f"{source} scores {score:g}")
    return Verification(state="refuted", reason=f"{source} scores {score:g}")


def load() -> None:
    """Import every generator: seconds."""
    import reasoning_gym  # noqa: F401
