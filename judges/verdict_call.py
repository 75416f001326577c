"""The call that asks for one verdict token, in the best form that the endpoint can do."""

from collections.abc import Sequence
from typing import Any

from judges.judge import Judge
from teachers.records import Call, Message, Output, Sampling

# Enough for any of our words even where nothing constrains the reply.
_FREE_TOKENS = 16
_THINKING_TOKENS = 2048
TOP_LOGPROBS = 20


def verdict_call(judge: Judge, messages: Sequence[Message]) -> Call:
    """Greedy, and as short as the judge's rung allows."""
    return Call(
        weights=judge.weights,
        messages=tuple(messages),
        sampling=Sampling(temperature=0.0, max_tokens=_longest(judge)),
        output=_output(judge),
    )


def _longest(judge: Judge) -> int:
    if judge.thinks:
        return _THINKING_TOKENS
    return 1 if judge.rung == "logprobs" else _FREE_TOKENS


def _output(judge: Judge) -> Output | None:
    match judge.rung:
        case "logprobs":
            return Output(choices=judge.words, top_logprobs=TOP_LOGPROBS)
        case "choice":
            return Output(choices=judge.words)
        case "json_schema":
            return Output(json_schema=_schema(judge))
        case "text":
            return None


def _schema(judge: Judge) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(judge.words)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }
