"""Pointwise judging: one answer, one principle, the expectation over the score's tokens.

G-Eval (arXiv 2303.16634), equation 1: the score is the sum of each grade times its probability. It
costs one call an answer, so many answers can be ranked; a comparison of two grades has no order
and cannot flip.
"""

import math

from judges.constitution import Principle
from judges.judge import Judge
from judges.reading import MOST_OUTSIDE, undecided, weigh
from judges.records import Answer, Judgement, Reading
from judges.template import fill, request_text, shown
from judges.verdict_call import verdict_call
from teachers.records import Call, Message, Sample, content_id

# A grade of exactly 0 or 1 would be infinitely far from any other.
_EDGE = 1e-6


def score_id(judge: Judge, answer: Answer, principle: Principle) -> str:
    """The id of a grade, known before it is asked for."""
    return content_id("score", [answer.id, principle.text_id, judge.id])


def score_call(judge: Judge, answer: Answer, principle: Principle) -> Call:
    """The call that asks for the grade."""
    values = {
        "request": request_text(answer.conversation),
        "answer": shown(answer.text, judge.answer_characters),
        "principle": principle.text,
    }
    return verdict_call(judge, (Message(role="user", content=fill(judge.prompt, values)),))


def read(judge: Judge, reply: Sample) -> Reading:
    """The expected grade, from 0 (the worst word) to 1 (the best)."""
    reading, masses = weigh(judge, reply)
    if not masses:
        return reading
    best = len(judge.words) - 1
    value = sum(grade / best * mass for grade, mass in enumerate(masses))
    return reading.model_copy(update={"value": value})


def settle(first: Reading, second: Reading, most_outside: float = MOST_OUTSIDE) -> Judgement:
    """Two grades as a comparison: p = sigmoid(logit(s1) - logit(s2)).

    With two words this is Bradley-Terry on the difference of their logits, the way judges of ours
    are trained; with more it is the same curve over the expected grade.
    """
    if (nothing := undecided(first, second, most_outside)) is not None:
        return nothing
    assert first.value is not None
    assert second.value is not None
    p = 1.0 / (1.0 + math.exp(logit(second.value) - logit(first.value)))
    if p == 0.5:
        return Judgement(state="tie", p=p)
    return Judgement(state="win" if p > 0.5 else "loss", p=p)


def logit(share: float) -> float:
    """Log-odds of a share, kept finite."""
    share = min(max(share, _EDGE), 1.0 - _EDGE)
    return math.log(share / (1.0 - share))
