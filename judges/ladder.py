"""What an endpoint can do for a judge, found out by trying: four rungs, the best one first.

    logprobs      the probabilities of the verdict's words at one token
    choice        the reply is held to the words, without probabilities
    json_schema   the reply is held to JSON with a verdict in it
    text          the reply is free, and the verdict is looked for in it

The lower the rung, the coarser the verdict: without probabilities there is no margin.
"""

from collections.abc import Sequence
from typing import NamedTuple

from judges.judge import Judge, Rung
from judges.reading import weigh
from judges.verdict_call import verdict_call
from teachers.client import Client
from teachers.errors import BadAnswer, CallUnfit
from teachers.records import Call, Message, Sample, Sampling

_RUNGS: tuple[Rung, ...] = ("logprobs", "choice", "json_schema")


class Footing(NamedTuple):
    """Where an endpoint stands."""

    rung: Rung
    thinks: bool
    """Whether it thinks before it answers: then its verdict is read from the answer alone."""
    notes: tuple[str, ...]
    """Why it does not stand higher, a line a rung."""


async def climb(client: Client, judge: Judge) -> Footing:
    """Try the rungs from the best down; takes one to a dozen short calls.

    Args:
        judge: whose weights and words are tried; its own rung does not matter.

    Raises:
        EndpointError: the endpoint does not answer at all.
    """
    notes: list[str] = []
    if await _thinks(client, judge):
        # A constraint would hold back the thinking, or fall on its first token.
        return Footing("text", True, ("anything but text: it thinks before it answers",))
    for rung in _RUNGS:
        fault = await _fault(client, judge, rung)
        if fault is None:
            return Footing(rung, False, tuple(notes))
        notes.append(f"{rung}: {fault}")
    return Footing("text", False, tuple(notes))


async def _thinks(client: Client, judge: Judge) -> bool:
    """Whether it thinks before it answers.

    A chat template may open the thinking in the prompt, and then its end alone tells. A reply that
    was cut before that says nothing, so it is asked for again with the room that thinking gets.
    """
    call = _call(judge, "text", judge.words)
    plain = await _reply(client, call)
    if plain.thinking is None and plain.finish_reason == "length":
        roomy = judge.model_copy(update={"rung": "text", "thinks": True})
        try:
            plain = await _reply(client, verdict_call(roomy, call.messages))
        except (CallUnfit, BadAnswer):
            return False  # the verdict of one that thinks would not fit in either
    return plain.thinking is not None


async def _fault(client: Client, judge: Judge, rung: Rung) -> str | None:
    """Why the endpoint does not stand on this rung, or None if it does."""
    try:
        if rung == "logprobs":
            return await _hides_words(client, judge)
        for word in judge.words:
            reply = await _reply(client, _call(judge, rung, (word,)))
            masses = weigh(judge.model_copy(update={"rung": rung}), reply)[1]
            if not masses or not masses[judge.words.index(word)]:
                return f"a reply held to {word!r} was {reply.text[:40]!r}"
    except (CallUnfit, BadAnswer) as refused:
        return refused.message[:200]
    return None


async def _hides_words(client: Client, judge: Judge) -> str | None:
    """A word has to be one token: else its probability cannot be read at one place."""
    reply = await _reply(client, _call(judge, "logprobs", judge.words))
    if not reply.first_token:
        return "no log-probabilities come back"
    seen = _tokens(reply)
    for word in judge.words:
        if word.casefold() not in seen:
            held = await _reply(client, _call(judge, "logprobs", (word,)))
            if held.text.strip().casefold() != word.casefold():
                return f"{word!r} is not a single token, or is not told among the likeliest"
    return None


async def _reply(client: Client, call: Call) -> Sample:
    return (await client.chat(call)).samples[0]


def _tokens(reply: Sample) -> set[str]:
    return {token.strip().casefold() for token, _ in reply.first_token}


def _call(judge: Judge, rung: Rung, words: Sequence[str]) -> Call:
    """A call held to some of the judge's words; all are named to it, so none can be guessed."""
    text = f"This is a test. Reply with one of these and nothing else: {', '.join(judge.words)}"
    message = Message(role="user", content=text)
    if rung == "text":
        sampling = Sampling(temperature=0.0, max_tokens=64)
        return Call(weights=judge.weights, messages=(message,), sampling=sampling)
    asked = judge.model_copy(update={"rung": rung, "words": tuple(words)})
    return verdict_call(asked, (message,))
