"""What preference rounds and judge rounds are tested with: principles, cases and open requests.

The scripted judge's habit is to prefer answers with a word that about half of all scripted answers
have, whatever the principle says.
"""

import json
from pathlib import Path
from typing import Any

import yaml

WORD = "the"
CASES = 32


def principle(id: str, text: str, word: str = WORD, **more: Any) -> dict[str, Any]:
    """A principle with cases, half of them sealed; the better answer is longer in half of them.

    Args:
        word: what every better answer has.
    """
    return {"id": id, "text": text, "cases": [_case(id, word, n) for n in range(CASES)], **more}


def _case(id: str, word: str, number: int) -> dict[str, Any]:
    return {
        "prompt": f"Question {number} about what is {id}?",
        "better": f"It is {word} one." + " And more of it." * (number % 2),
        "worse": "It is a thing." + " And so it goes on." * ((number + 1) % 2),
        "sealed": number % 4 < 2,
    }


CAREFUL = principle(
    "careful",
    "The answer is written with care.",
    opposite="The answer is written without care.",
    construction={"better": "Take care.", "worse": "Be careless."},
)
CALM = principle("calm", "The answer is calm.", weight=0.5)


def constitution(folder: Path, *principles: dict[str, Any], name: str = "tested") -> Path:
    """Write a constitution's file."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": "tested", "principles": list(principles)}))
    return path


def requests(folder: Path, count: int, name: str = "open", mark: str = "") -> Path:
    """Write a file of requests that have no right answer.

    Args:
        mark: put after each question: what the scripted reviser is to do.
    """
    questions = (f"What do you make of thing {n}?{mark}" for n in range(count))
    lines = [json.dumps({"question": question}) for question in questions]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines))
    return path
