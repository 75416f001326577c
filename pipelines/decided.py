"""Comparisons of earlier rounds whose pairs an edit of the constitution can change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from judges.constitution import Constitution, about
from judges.judge import Judge
from judges.panel import needed
from pipelines.check import Answered, checked
from pipelines.judging import Question, settled
from pipelines.labelling import human_verdicts_either_way
from pipelines.pairing import Evidence
from pipelines.recipe import Pairs
from pipelines.source import prepared
from pipelines.stages import sample
from pipelines.stages.compare import Candidate, SideBySide
from pipelines.store import calls, judgements, pairs
from pipelines.store.calls import Given
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.errors import ConfigError
from teachers.records import Prompt, Sample


class Terms(NamedTuple):
    """By what a round makes pairs."""

    judges: Sequence[Judge]
    pairs: Pairs = Pairs()
    quorum: int | None = None
    """Least number of judges that have decided; more than half of them if not given."""

    @property
    def needed(self) -> int:
        return needed(len(self.judges), self.quorum)


class Contest(NamedTuple):
    """Comparisons of one prompt in one round: they compete for the prompt's pairs."""

    round_id: str
    """The last round that made pairs of them; empty if none has."""
    prompt: Prompt
    open: list[SideBySide]
    """Those that judges have a say in."""
    closed: list[SideBySide]
    """Those that people have decided, whatever a constitution says."""


class Contests(NamedTuple):
    """What can change, and what is known of it beside what judges say."""

    every: list[Contest]
    evidence: Evidence


def contests(
    bench: Workbench, terms: Terms, current: Constitution, edited: Constitution
) -> Contests:
    """The contests in which these judges have a say, with every verdict by `current` stored.

    Other comparisons belong to rounds that went by something else, or are decided by people, by a
    verifier that tells no difference, or by no principle of either version.

    Raises:
        ConfigError: there are none.
    """
    stored = _side_by_side(bench, terms, judgements.comparisons(bench.db, "round"))
    evidence = _evidence(bench, stored)
    people = [one for one in stored if one.compared.comparison.id in evidence.people]
    judged = [one for one in stored if _has_say(one, evidence)]
    spoken = _spoken(bench, terms, judged, current, edited)
    if not spoken:
        raise ConfigError(
            f"No stored comparison was judged by the version of {current.name} that was edited.",
            hint="--against names another version, --recipe another judge.",
        )
    return Contests(list(_contests(bench, spoken, people)), evidence)


def questions(compared: Iterable[SideBySide], by: Constitution) -> list[Question]:
    """Each comparison by each principle of a version that is about it."""
    return [
        Question(one.compared, principle)
        for one in compared
        for principle in about(by.principles, one.prompt)
    ]


def unspoken(bench: Workbench, terms: Terms, asked: Sequence[Question]) -> set[str]:
    """The comparisons of which too few judges have said something by one of the principles."""
    words = zip(*(settled(bench, judge, asked) for judge in terms.judges), strict=True)
    return {
        one.compared.comparison.id
        for one, said in zip(asked, words, strict=True)
        if sum(word.state != "error" for word in said) < terms.needed
    }


def _contests(
    bench: Workbench, spoken: Sequence[SideBySide], people: Sequence[SideBySide]
) -> Iterator[Contest]:
    rounds = pairs.last_rounds(bench.db)

    def whose(one: SideBySide) -> tuple[str, str]:
        return rounds.get(one.compared.comparison.id, ""), one.prompt.id

    closed: dict[tuple[str, str], list[SideBySide]] = {}
    for one in people:
        closed.setdefault(whose(one), []).append(one)
    for key, found in groupby(sorted(spoken, key=whose), whose):
        same = list(found)
        yield Contest(key[0], same[0].prompt, same, closed.get(key, []))


def _spoken(
    bench: Workbench,
    terms: Terms,
    compared: Sequence[SideBySide],
    current: Constitution,
    edited: Constitution,
) -> list[SideBySide]:
    """Those of which enough judges have said something by every principle of `current`."""
    asked = questions(compared, current)
    either = [*asked, *questions(compared, edited)] if asked else []
    spoken = {one.compared.comparison.id for one in either} - unspoken(bench, terms, asked)
    return [one for one in compared if one.compared.comparison.id in spoken]


def _has_say(one: SideBySide, evidence: Evidence) -> bool:
    """Whether what a judge says of it can matter: where a verifier decides, a judge may veto."""
    if one.compared.comparison.id in evidence.people:
        return False
    states = {evidence.verified.get(side.sample.id) for side in (one.first, one.second)}
    return one.prompt.verifier == "none" or states == {"verified", "refuted"}


def _evidence(bench: Workbench, stored: Sequence[SideBySide]) -> Evidence:
    answered = [
        Answered(side.sample, one.prompt)
        for one in stored
        for side in (one.first, one.second)
        if one.prompt.verifier != "none"
    ]
    compared = [one.compared.comparison for one in stored]
    return Evidence(
        people=human_verdicts_either_way(bench.db, compared),
        verified=checked(bench.db, answered, "strict"),
        judged={},
    )


def _side_by_side(bench: Workbench, terms: Terms, compared: Sequence[Compared]) -> list[SideBySide]:
    """Stored comparisons as they were put side by side, in the same order."""
    prompts = calls.prompts(bench.db, [one.prompt_id for one in compared if one.prompt_id])
    given = calls.given(bench.db, [name for one in compared for name in one.samples if name])
    anchor = terms.pairs.anchor and prepared(terms.pairs.anchor, bench.home, bench.progress)
    older = anchor.fingerprint if anchor else None
    return [_placed(one, prompts, given, older) for one in compared]


def _placed(
    one: Compared, prompts: Mapping[str, Prompt], given: Mapping[str, Given], older: str | None
) -> SideBySide:
    texts = (one.comparison.first, one.comparison.second)
    first, second = (
        _candidate(text, given.get(name or ""), older)
        for text, name in zip(texts, one.samples, strict=True)
    )
    question = one.comparison.conversation[-1].content
    unknown = Prompt(task="", question=question, verifier="none")
    return SideBySide(prompts.get(one.prompt_id or "", unknown), first, second, one)


def _candidate(text: str, given: Given | None, older: str | None) -> Candidate:
    """An answer with what pair building knows of it; a text that nobody sampled is whole."""
    if given is None:
        whole = Sample(call_id="", position=0, text=text, finish_reason="stop")
        return Candidate(whole, sample.PURPOSE)
    # A call keeps the purpose that it was made for first, and an anchor may have been a teacher.
    purpose = sample.ANCHOR if given.weights == older else given.purpose
    return Candidate(given.sample.model_copy(update={"text": text}), purpose)
