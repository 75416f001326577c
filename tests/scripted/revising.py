"""The scripted server as a reviser. It knows its prompts by their last lines.

What it makes of an answer is written in the answer or in the request: `[same]`, `[empty]`,
`[refuse]`, `[more]` for a sentence more and a wrapping around it, or nothing for one word more.
"""

import re
from typing import Any

_CRITIQUE = "do not write a new answer yet."
_REVISE = "without a word about what was changed."
_ANSWER = re.compile(r"<answer>\n(.*?)\n</answer>", re.DOTALL)


def revision(body: dict[str, Any]) -> list[str]:
    """The critique or the revision that is asked for; nothing if neither is."""
    messages = [str(message.get("content", "")) for message in body["messages"]]
    answer = found[1] if (found := _ANSWER.search(messages[0])) else ""
    if messages[-1].endswith(_CRITIQUE):
        return [f"It has {len(answer.split())} words, and none of them is warm."]
    return [_revised(answer, messages[0])] if messages[-1].endswith(_REVISE) else []


def _revised(answer: str, asked: str) -> str:
    if "[same]" in asked:
        return answer
    if "[empty]" in asked:
        return 'Revised answer: ""'
    if "[refuse]" in asked:
        return "I'm sorry, but I can't help with that. Warmly. [refuse]"
    more = "Warmly, with all of my heart." if "[more]" in asked else "Warmly."
    return f'Sure, here is a revised version of the answer:\n\n"{answer} {more}"'
