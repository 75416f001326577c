"""IFEval's and IFBench's instructions, by the checkers that `if-verifiable` packs.

IFEval: Zhou et al. 2023 (arXiv:2311.07911); IFBench: Pyatkin et al. 2025 (arXiv:2507.02833).
Seven checkers may need data of NLTK (`NEED_DATA`). Nothing is fetched: where the data is not
installed such an instruction is not applicable, and says so.
"""

from functools import cache
from typing import Any

from pydantic import BaseModel

from judges.records import Verification

NEED_DATA = {
    "length_constraints:number_sentences",
    "change_case:capital_word_frequency",
    "ratio:stop_words",
    "words:start_verb",
    "words:words_position",
    "words:keywords_specific_position",
    "format:title_case",
}
# Their checkers take a text whose language cannot be told for one that follows.
NEED_LANGUAGE = {
    "language:response_language",
    "change_case:english_capital",
    "change_case:english_lowercase",
}


class Entry(BaseModel):
    """A row of IFEval or IFBench, as it stands there."""

    instruction_id_list: list[str] = []
    """For example `punctuation:no_comma`."""
    kwargs: list[dict[str, Any]] = []
    """The parameters of each."""
    prompt: str = ""
    """What was asked; some checkers compare with it."""
    loose: bool = False
    """Forgive a first or last line and asterisks, as the benchmarks' loose accuracy does."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if every instruction is followed. The score is the share of those that are."""
    from if_verifiable.common import evaluate_instructions

    asked = Entry.model_validate(entry)
    if not asked.instruction_id_list:
        return Verification(state="not_applicable", reason="the entry has no instructions")
    if reason := _unfit(asked):
        return Verification(state="not_applicable", reason=reason)
    if NEED_LANGUAGE.intersection(asked.instruction_id_list) and not _language(text):
        return Verification(state="unparsed", reason="no language can be told")
    try:
        results, _ = evaluate_instructions(
            text, asked.instruction_id_list, asked.kwargs, asked.prompt, _checkers()
        )
    except LookupError as missing:
        if type(missing) is not LookupError:  # an IndexError is a checker's own
            raise
        needing = ", ".join(sorted(NEED_DATA.intersection(asked.instruction_id_list)))
        reason = f"NLTK's data is not installed, and {needing} need it"
        return Verification(state="not_applicable", reason=reason)
    if not results:
        return Verification(state="refuted", reason="an empty text follows nothing", score=0.0)
    kept = [one.loose_pass if asked.loose else one.strict_pass for one in results]
    missed = [one.instruction_id for one, so in zip(results, kept, strict=True) if not so]
    return Verification(
        state="refuted" if missed else "verified",
        reason=f"not followed: {', '.join(missed)}"[:300] if missed else "all followed",
        score=sum(kept) / len(kept),
    )


def load() -> None:
    """Import both registries: a second."""
    _checkers()


@cache
def _checkers() -> dict[str, Any]:
    import nltk
    from langdetect import DetectorFactory

    # IFBench's module asks a server for data as it is imported; a verifier asks nobody.
    nltk.download = lambda *_, **__: False
    DetectorFactory.seed = 0  # it draws at random
    from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as ifbench
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as ifeval

    return {**ifeval, **ifbench}


def _unfit(asked: Entry) -> str:
    """Why the instructions cannot be checked, or nothing.

    A checker that lacks a parameter draws one at random: that is no verdict.
    """
    names = asked.instruction_id_list
    if asked.kwargs and len(asked.kwargs) != len(names):
        return f"{len(names)} instructions with {len(asked.kwargs)} kwargs"
    for name, given in zip(names, asked.kwargs or [{}] * len(names), strict=True):
        if name not in _checkers():
            return f"there is no instruction {name!r}"
        wanted = set(_checkers()[name](name).get_instruction_args_keys())
        lacking = wanted - {key for key, value in given.items() if value is not None}
        if lacking:
            return f"{name} lacks {', '.join(sorted(lacking))}"
    return ""


def _language(text: str) -> bool:
    from langdetect import LangDetectException, detect

    try:
        return bool(detect(text))
    except LangDetectException:
        return False
