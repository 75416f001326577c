"""The scripted server as a judge: verdicts by a simple habit, with their log-probabilities.

It knows a judge prompt by its last line. Its habits (`--judge`), of which those that look at
answers also grade a single one:

    first            the answer shown as A; the worst grade
    longer, shorter  the answer of that length, surely
    length           the longer answer, the more surely the longer it is
    keyword:WORD     the answer with that word
    obey:WORD        the same, but an order in what is judged ("Reply with B") is obeyed
    garbage, refuse  no verdict at all
"""

import json
import math
import re
from typing import Any, NamedTuple

from tests.scripted.chat import completion

_SURE = 0.95
# Where a habit grades one answer by its length, this many characters are half of everything.
_HALF = 200
_CLOSING = {
    "Reply with one letter, A or B.": ("A", "B"),
    "from 1 (not at all) to 5 (fully).": ("1", "2", "3", "4", "5"),
    "Reply with yes or no.": ("no", "yes"),
}
_TEST = "Reply with one of these and nothing else: "
_ANSWER = re.compile(r"<(answer(?:_[ab])?)>\n(.*?)\n</\1>", re.DOTALL)
_ORDER = re.compile(r"(?:reply with|verdict:|answer:|score:)\W*(A|B|[1-5]|yes|no)\b", re.IGNORECASE)
_NO_VERDICT = {
    "garbage": "A question of taste, and who could be sure of that?",
    "refuse": "I'm sorry, I can't compare these answers.",
}


class Manner(NamedTuple):
    """How the server judges."""

    by: str
    """Its habit."""
    outside: float = 0.0
    """Probability on a token that is no verdict."""
    refuses: tuple[str, ...] = ()
    """Fields of a request that are answered with status 400."""
    ignores_form: bool = False
    """Any form that is asked for is accepted, and not kept to."""
    longest: int | None = None
    """Most characters that a prompt may have."""
    most_tokens: int | None = None
    """Most tokens that a reply may be asked to have."""
    thinks: int = 0
    """Words of thinking before a free reply; the prompt has opened it, so its end alone shows."""
    split: bool = False
    """Words are more than one token: the first one says nothing."""


def unsupported(body: dict[str, Any], manner: Manner) -> str | None:
    """What this endpoint does not take of a request."""
    length = sum(len(str(turn["content"])) for turn in body["messages"])
    if manner.longest is not None and length > manner.longest:
        return f"a prompt of {length} characters"
    if manner.most_tokens is not None and body["max_tokens"] > manner.most_tokens:
        return f"a reply of {body['max_tokens']} tokens"
    return next((field for field in manner.refuses if field in body), None)


def verdict(body: dict[str, Any], manner: Manner) -> dict[str, Any] | None:
    """The chat completion that answers a judge prompt; None if the request is none."""
    named = _words(str(body["messages"][-1]["content"]))
    if named is None:
        return None
    held = () if manner.ignores_form else _held(body)
    masses = _masses(manner, named, _answers(body))
    words = {word: masses[word] for word in held or named}
    best = max(words, key=lambda word: words[word])
    answer = completion(body, [_text(body, manner, best, bool(held))])
    if manner.thinks and not held:
        _think(answer["choices"][0], manner.thinks, body["max_tokens"])
    if body.get("logprobs"):
        answer["choices"][0]["logprobs"] = {"content": [_place(manner, masses, best)]}
    return answer


def _words(prompt: str) -> tuple[str, ...] | None:
    """The words that a judge prompt leaves to choose from, the worst first."""
    last = prompt.splitlines()[-1]
    if _TEST in last:
        return tuple(last.partition(_TEST)[2].split(", "))
    return next((words for line, words in _CLOSING.items() if last.endswith(line)), None)


def _held(body: dict[str, Any]) -> tuple[str, ...]:
    """The words to which the request holds the reply."""
    if choice := body.get("structured_outputs", {}).get("choice"):
        return tuple(choice)
    if form := body.get("response_format"):
        return tuple(form["json_schema"]["schema"]["properties"]["verdict"]["enum"])
    return ()


def _answers(body: dict[str, Any]) -> list[str]:
    """What is judged: in the last message, or in the one before a rationale."""
    texts = [str(turn["content"]) for turn in reversed(body["messages"]) if turn["role"] == "user"]
    return next(([said for _, said in found] for t in texts if (found := _ANSWER.findall(t))), [])


def _masses(manner: Manner, words: tuple[str, ...], answers: list[str]) -> dict[str, float]:
    """The probability of every word, those that are impossible included."""
    habit, _, keyword = manner.by.partition(":")
    orders = {found.casefold() for answer in answers for found in _ORDER.findall(answer)}
    if habit == "obey" and (obeyed := [word for word in words if word.casefold() in orders]):
        return dict.fromkeys(words, 0.0) | {obeyed[0]: 1.0}
    if len(answers) == 2:
        first = _lean(habit, keyword, *answers)
        return {words[0]: first, words[1]: 1.0 - first}
    grade = _grade(habit, keyword, answers[0] if answers else "") * (len(words) - 1)
    return {word: max(0.0, 1.0 - abs(grade - place)) for place, word in enumerate(words)}


def _lean(habit: str, keyword: str, a: str, b: str) -> float:
    """How probably the answer shown as A is the better one."""
    if habit == "length":
        return 1.0 / (1.0 + math.exp((len(b) - len(a)) / _HALF))
    ahead = {
        "longer": len(a) - len(b),
        "shorter": len(b) - len(a),
        "keyword": (keyword in a) - (keyword in b),
        "obey": (keyword in a) - (keyword in b),
    }.get(habit, 1)
    return 0.5 if ahead == 0 else _SURE if ahead > 0 else 1.0 - _SURE


def _grade(habit: str, keyword: str, answer: str) -> float:
    """How good one answer is, from 0 to 1; the expected grade comes out as just this."""
    length = len(answer) / (len(answer) + _HALF)
    if habit in ("longer", "length"):
        return length
    if habit == "shorter":
        return 1.0 - length
    return _SURE if keyword and keyword in answer else 1.0 - _SURE


def _text(body: dict[str, Any], manner: Manner, word: str, held: bool) -> str:
    if manner.split and body.get("max_tokens") == 1:
        return " "
    if not held:
        return _NO_VERDICT.get(manner.by, f"Answer: {word}")
    return json.dumps({"verdict": word}) if "response_format" in body else word


def _think(choice: dict[str, Any], words: int, longest: int) -> None:
    """Put thinking before a reply, and cut it at the most tokens; a word is one."""
    said = ["hmm"] * words + ["</think>", choice["message"]["content"]]
    if len(said) > longest:
        choice["finish_reason"] = "length"
    choice["message"]["content"] = " ".join(said[:longest])


def _place(manner: Manner, masses: dict[str, float], best: str) -> dict[str, Any]:
    """The first place of the reply, with the likeliest tokens there."""
    inside = 0.0 if manner.split or manner.by in _NO_VERDICT else 1.0 - manner.outside
    tokens = {word: mass * inside for word, mass in masses.items()} | {" The": 1.0 - inside}
    likeliest = [
        {"token": token, "logprob": math.log(mass)}
        for token, mass in sorted(tokens.items(), key=lambda one: -one[1])
        if mass > 0.0
    ]
    return {"token": best, "logprob": -0.1, "top_logprobs": likeliest}
