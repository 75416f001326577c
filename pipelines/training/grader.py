"""A certified judge's score of an answer, as one term of a policy's reward."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from judges import score
from judges.constitution import Principle, about
from judges.judge import Judge
from judges.reading import MOST_OUTSIDE
from judges.records import Answer, Verification
from teachers.client import Client, Endpoint
from teachers.errors import BadAnswer, CallUncertain, CallUnfit, EndpointBusy
from teachers.records import Message, Prompt


class Charge(BaseModel):
    """Who grades, by which principles, and where to ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: Judge
    principles: tuple[Principle, ...]
    endpoint: Endpoint
    key: str | None = None
    """Of a server of ours. Anybody else's is in the environment, and never written down."""

    @classmethod
    def read(cls, path: Path) -> "Charge":
        return cls.model_validate_json(path.read_text())


class Grader:
    """Asks a judge about answers; what it says is kept as a term of the rollout."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._client = Client(charge.endpoint, key=charge.key)

    async def close(self) -> None:
        await self._client.__aexit__()

    async def grade(
        self, prompt: Prompt, conversation: Sequence[Message], text: str
    ) -> Verification | float | None:
        """The weighted mean of the grades by every principle that is about the prompt, 0 to 1.

        None if one of them was not given, or could not be read; not applicable if no principle is.

        Raises:
            EndpointError: the judge cannot be asked at all.
        """
        found = about(self._charge.principles, prompt)
        weighty = [one for one in found if one.weight > 0]
        if not weighty:
            return Verification(state="not_applicable", reason="no principle is about this prompt")
        answer = Answer(conversation=tuple(conversation), text=text)
        grades = await asyncio.gather(*(self._by(one, answer) for one in weighty))
        total = 0.0
        for principle, grade in zip(weighty, grades, strict=True):
            if grade is None:
                return None
            total += principle.weight * grade
        return total / sum(one.weight for one in weighty)

    async def _by(self, principle: Principle, answer: Answer) -> float | None:
        judge = self._charge.judge
        try:
            said = await self._client.chat(score.score_call(judge, answer, principle))
        except (CallUnfit, BadAnswer, CallUncertain, EndpointBusy):
            return None  # it costs this answer its place in the group, and no other
        reading = score.read(judge, said.samples[0])
        if reading.state != "read" or (reading.outside or 0.0) > MOST_OUTSIDE:
            return None
        return reading.value
