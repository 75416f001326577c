"""Pairwise judging: one principle, both orders, one verdict token.

Both orders always (MT-Bench, arXiv 2306.05685): a judge that prefers a place and not an answer
then contradicts itself, which is a flip and never a label.
"""

from judges.constitution import Principle
from judges.judge import Judge
from judges.reading import MOST_OUTSIDE, undecided, weigh
from judges.records import Comparison, Judgement, Order, Reading
from judges.template import fill, request_text, shown
from judges.verdict_call import verdict_call
from teachers.records import Call, Message, Sample, Sampling, content_id


def judgement_id(judge: Judge, comparison: Comparison, principle: Principle, order: Order) -> str:
    """The id of one order's verdict, known before it is asked for."""
    return content_id("judgement", [comparison.id, principle.text_id, judge.id, order])


def rationale_call(
    judge: Judge, comparison: Comparison, principle: Principle, order: Order
) -> Call:
    """The call that asks for the rationale, where the judge gives one."""
    text = fill(judge.reason, _values(judge, comparison, principle, order))
    return Call(
        weights=judge.weights,
        messages=(Message(role="user", content=text),),
        sampling=Sampling(temperature=0.0, max_tokens=judge.rationale_tokens),
    )


def compare_call(
    judge: Judge,
    comparison: Comparison,
    principle: Principle,
    order: Order,
    rationale: str | None = None,
) -> Call:
    """The call that asks for the verdict.

    Args:
        rationale: what the judge said when it was asked for one.
    """
    if rationale is None:
        text = fill(judge.prompt, _values(judge, comparison, principle, order))
        return verdict_call(judge, (Message(role="user", content=text),))
    asked = rationale_call(judge, comparison, principle, order)
    said = Message(role="assistant", content=rationale)
    return verdict_call(judge, (*asked.messages, said, Message(role="user", content=judge.prompt)))


def read(judge: Judge, reply: Sample) -> Reading:
    """The probability that the answer shown as A is the better one."""
    reading, masses = weigh(judge, reply)
    return reading.model_copy(update={"value": masses[0]}) if masses else reading


def settle(forward: Reading, backward: Reading, most_outside: float = MOST_OUTSIDE) -> Judgement:
    """Both orders taken together: p = (p(first | shown first) + p(first | shown second)) / 2.

    RLAIF (arXiv 2309.00267), section 2.1.1. Where the orders name different answers it is a flip;
    where one of them names neither (both letters equally probable) it is a tie.

    Args:
        most_outside: more probability than this on anything but the letters is an abstention.
    """
    if (nothing := undecided(forward, backward, most_outside)) is not None:
        return nothing
    assert forward.value is not None
    assert backward.value is not None
    one, other = forward.value, 1.0 - backward.value
    p = (one + other) / 2
    if 0.5 in (one, other):
        return Judgement(state="tie", p=p)
    if (one > 0.5) != (other > 0.5):
        return Judgement(state="flip", p=p)
    return Judgement(state="win" if p > 0.5 else "loss", p=p)


def _values(
    judge: Judge, comparison: Comparison, principle: Principle, order: Order
) -> dict[str, str]:
    turned = comparison if order == "forward" else comparison.swap()
    return {
        "request": request_text(comparison.conversation),
        "a": shown(turned.first, judge.answer_characters),
        "b": shown(turned.second, judge.answer_characters),
        "principle": principle.text,
    }
