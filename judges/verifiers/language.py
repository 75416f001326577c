"""The language of a text, by langdetect (character n-grams, 55 languages)."""

from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from judges.records import Verification

# Below this any guess is as good as another.
MIN_LETTERS = 20


class Entry(BaseModel):
    """What a prompt asks for."""

    language: str | None = None
    """ISO 639-1, for example `de`; `zh` means any of `zh-cn` and `zh-tw`."""
    at_least: float = Field(default=0.8, ge=0.0, le=1.0)
    """How sure langdetect has to be, as a probability."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the text is surely in the language, refuted if it is surely in another."""
    asked = Entry.model_validate(entry)
    if asked.language is None:
        return Verification(state="not_applicable", reason="the entry names no language")
    if not any(_means(asked.language, known) for known in _profiles().get_lang_list()):
        reason = f"langdetect does not know {asked.language!r}"
        return Verification(state="not_applicable", reason=reason)
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return Verification(state="unparsed", reason=f"fewer than {MIN_LETTERS} letters")
    detector = _profiles().create()
    detector.append(text)
    likeliest = detector.get_probabilities()[0]
    reason = f"{likeliest.lang} with probability {likeliest.prob:.2f}"
    if likeliest.prob < asked.at_least:
        return Verification(state="unparsed", reason=reason)
    same = _means(asked.language, likeliest.lang)
    return Verification(state="verified" if same else "refuted", reason=reason)


def load() -> None:
    """Read langdetect's profiles: a second."""
    _profiles()


@cache
def _profiles() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    DetectorFactory.seed = 0  # it draws at random
    profiles = DetectorFactory()
    profiles.load_profile(PROFILES_DIRECTORY)
    return profiles


def _means(asked: str, found: str) -> bool:
    return found == asked or found.partition("-")[0] == asked
