"""What a judge says of a sample. Only the first two states ever become a label or a reward."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from teachers.records import Prompt, content_id

Parser = Literal["strict", "lenient"]
"""How the answer is found in the text: by the agreed form alone, or wherever it may stand."""

VerificationState = Literal["verified", "refuted", "unparsed", "timeout", "not_applicable", "error"]


class Verification(BaseModel):
    """A verifier's finding about one text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: VerificationState
    reason: str
    answer: str | None = None
    """The final answer that was read from the text, where one was found."""

    @property
    def decided(self) -> bool:
        """Whether the finding says anything about the sample, rather than about the check."""
        return self.state in ("verified", "refuted")


class Verdict(BaseModel):
    """A verification, tied to the sample it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str
    verifier: str
    """Name and version, `number/1`: a new version of a verifier asks again."""
    parser: Parser
    state: VerificationState
    reason: str
    answer: str | None
    reference: dict[str, Any]
    """What the sample was checked against."""

    @property
    def id(self) -> str:
        return verdict_id(self.sample_id, self.verifier, self.parser, self.reference)


def verdict_id(sample_id: str, verifier: str, parser: Parser, reference: dict[str, Any]) -> str:
    """The id of a verdict, known before it is made."""
    return content_id("verdict", [sample_id, verifier, parser, reference])


def reference_of(prompt: Prompt) -> dict[str, Any]:
    """What an answer to `prompt` is checked against."""
    return {"reference": prompt.reference, "entry": prompt.entry}
