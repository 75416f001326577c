"""Critique and revision: an answer is criticised by one principle and written again, in rounds.

The first stage of Constitutional AI (arXiv 2212.08073, section 3.1). The critique stays in the
conversation as the reviser's own turn, so the revision sees it and the prompt's prefix is shared.
"""

import math
from collections.abc import Iterable

from judges.constitution import Principle
from judges.records import Answer
from judges.template import fill, prompt_text, request_text
from teachers.records import Call, Message, Sampling, content_id

ROUNDS = 2
# Close to the likeliest words: a revision should follow the critique, not wander off.
TEMPERATURE = 0.2
CRITIQUE_TOKENS, REVISION_TOKENS = 160, 512

_CRITIQUE = "Say what in the answer goes against the rule; if nothing does, say that."
_REVISION = "Now write the answer again so that it follows the rule."


def drawn(
    principles: Iterable[Principle], answer: Answer, number: int, seed: int
) -> Principle | None:
    """The principle of round `number` (from 0) for the first answer; None if none counts.

    Args:
        principles: those in scope.

    Each answer goes through the principles in an order of its own, drawn without replacement in
    proportion to the weights (Efraimidis and Spirakis 2006). Only answer, seed, id and weight
    decide: rewording or adding a principle leaves the other draws as they were.
    """

    def lateness(one: Principle) -> float:
        name = content_id("draw", [answer.id, seed, one.id])
        uniform = (int(name[:13], 16) + 0.5) / 16**13
        # A veto may weigh nothing, and then comes last.
        return -math.log(uniform) / one.weight if one.weight else math.inf

    order = sorted((one for one in principles if one.counts), key=lateness)
    return order[number % len(order)] if order else None


def critique_call(weights: str, answer: Answer, principle: Principle) -> Call:
    """The call that asks what is wrong with an answer by one principle."""
    return _call(weights, (_question(answer, principle),), CRITIQUE_TOKENS)


def revision_call(
    weights: str,
    answer: Answer,
    principle: Principle,
    critique: str,
    max_tokens: int = REVISION_TOKENS,
) -> Call:
    """The call that asks for the answer once more, with its critique in mind."""
    ask = fill(prompt_text("revise"), {"ask": principle.revision or _REVISION})
    conversation = (
        _question(answer, principle),
        Message(role="assistant", content=critique),
        Message(role="user", content=ask),
    )
    return _call(weights, conversation, max_tokens)


def _question(answer: Answer, principle: Principle) -> Message:
    values = {
        "request": request_text(answer.conversation),
        "answer": answer.text,
        "principle": principle.text,
        "ask": principle.critique or _CRITIQUE,
    }
    return Message(role="user", content=fill(prompt_text("critique"), values))


def _call(weights: str, messages: tuple[Message, ...], max_tokens: int) -> Call:
    sampling = Sampling(temperature=TEMPERATURE, max_tokens=max_tokens)
    return Call(weights=weights, messages=messages, sampling=sampling)
