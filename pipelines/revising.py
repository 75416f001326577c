"""Critique and revision of many answers, round by round, no call ever made twice.

Everything follows from the answers, the seed and the replies: started again after a kill, the
finished calls are taken from the store and the rest is asked.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from judges.constitution import Constitution, Principle, in_scope
from judges.critique import REVISION_TOKENS, ROUNDS, critique_call, drawn, revision_call
from judges.records import Answer
from judges.revision import UNCHANGED, cleaned, edit_share
from pipelines.ask import ask
from pipelines.recipe import Place
from pipelines.source import identity, opened
from pipelines.store import calls, judgements, revisions
from pipelines.store.calls import Asked
from pipelines.store.connection import transaction
from pipelines.store.revisions import Revision, Stop, revision_id
from pipelines.workbench import Workbench
from teachers.records import Call, Prompt, Sample

PURPOSE = "revise"


class Draft(NamedTuple):
    """An answer before its first round."""

    answer: Answer
    prompt: Prompt | None = None
    """What it answers, where that is a prompt: it says which principles are about it."""
    sample_id: str | None = None
    """The answer as a sample, where it is one."""

    @property
    def prompt_id(self) -> str | None:
        return self.prompt.id if self.prompt else None

    def principles(self, constitution: Constitution) -> list[Principle]:
        """Those that are about its request and can decide something."""
        question = self.prompt.question if self.prompt else self.answer.conversation[-1].content
        tags = [self.prompt.task] if self.prompt else []
        return [one for one in in_scope(constitution.principles, question, tags) if one.counts]


class Revised(NamedTuple):
    """An answer and what its rounds came to."""

    draft: Draft
    rounds: tuple[Revision, ...] = ()

    @property
    def last(self) -> Revision | None:
        """The last round whose revision was taken."""
        return next((one for one in reversed(self.rounds) if one.stop is None), None)

    @property
    def text(self) -> str:
        """The last revision that was taken; the first answer if none was."""
        text = self.last.text if self.last else None
        return text if text is not None else self.draft.answer.text

    @property
    def answer(self) -> Answer:
        return self.draft.answer.model_copy(update={"text": self.text})

    @property
    def changed(self) -> bool:
        return self.last is not None

    @property
    def stopped(self) -> bool:
        return bool(self.rounds) and self.rounds[-1].stop is not None


async def revised(
    bench: Workbench,
    place: Place,
    drafts: Sequence[Draft],
    constitution: Constitution,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    max_tokens: int = REVISION_TOKENS,
) -> list[Revised]:
    """Criticise and revise every answer, in order; one that no principle is about stays as it is.

    Args:
        place: who criticises and revises.
        rounds: most rounds an answer; it stops earlier where nothing changes any more.
        seed: decides with the answer which principle is drawn in which round.
        max_tokens: longest revision; one that is cut there is not taken.

    Raises:
        EndpointError: the reviser cannot be asked.
    """
    reviser = _Reviser(bench, place, max_tokens)
    with transaction(bench.db) as db:
        judgements.add_principles(db, constitution.principles)
    found = [Revised(draft) for draft in drafts]
    for number in range(rounds):
        turns = _turns(found, constitution, number, seed)
        found = _with(found, await reviser.revise(turns))
    return found


def recalled(
    bench: Workbench,
    place: Place,
    drafts: Sequence[Draft],
    constitution: Constitution,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> list[Revised]:
    """What is stored of `revised`, asked for with the same words: no call is made."""
    weights = identity(place, None, bench.home, bench.progress)
    found = [Revised(draft) for draft in drafts]
    for number in range(rounds):
        names = {
            at: revision_id(_answer_id(turn), number, critique_call(weights, *_subject(turn)).id)
            for at, turn in _turns(found, constitution, number, seed).items()
        }
        rows = revisions.revisions(bench.db, list(names.values()))
        found = _with(found, {at: rows[name] for at, name in names.items() if name in rows})
    return found


class _Turn(NamedTuple):
    """One answer's next round."""

    before: Revised
    principle: Principle
    number: int


def _turns(
    found: Sequence[Revised], constitution: Constitution, number: int, seed: int
) -> dict[int, _Turn]:
    """The answers that have another round, by their positions."""
    return {
        position: _Turn(one, principle, number)
        for position, one in enumerate(found)
        if not one.stopped
        and (principle := _drawn(constitution, one.draft, number, seed)) is not None
    }


def _with(found: Sequence[Revised], rows: Mapping[int, Revision]) -> list[Revised]:
    """The answers with one more round each, where there is one."""
    return [
        one._replace(rounds=(*one.rounds, rows[position])) if position in rows else one
        for position, one in enumerate(found)
    ]


class _Reviser:
    """Who criticises and revises, and where what was said is kept."""

    def __init__(self, bench: Workbench, place: Place, max_tokens: int) -> None:
        self._bench, self._place, self._max_tokens = bench, place, max_tokens
        self._weights = identity(place, None, bench.home, bench.progress)

    async def revise(self, turns: Mapping[int, _Turn]) -> dict[int, Revision]:
        """One round of some answers, by their positions; stored before it is returned."""
        asked = {at: critique_call(self._weights, *_subject(one)) for at, one in turns.items()}
        critiques = await self._replies(turns, asked, "critiques")
        answering = {
            at: revision_call(self._weights, *_subject(turns[at]), said.text, self._max_tokens)
            for at, said in critiques.items()
        }
        texts = await self._replies(turns, answering, "revisions")
        rows = {
            at: _row(turn, asked[at], critiques.get(at), answering.get(at), texts.get(at))
            for at, turn in turns.items()
        }
        with transaction(self._bench.db) as db:
            revisions.add_revisions(db, rows.values())
        return rows

    async def _replies(
        self, turns: Mapping[int, _Turn], asked: Mapping[int, Call], what: str
    ) -> dict[int, Sample]:
        """The replies to some calls; those that cannot be had are missing."""
        # Two answers may be the same: by its id, a call is made once.
        wanted = {
            call.id: Asked(call, _about(turns[at].before.draft), PURPOSE)
            for at, call in asked.items()
        }
        if wanted.keys() - calls.done_calls(self._bench.db, wanted):
            async with opened(self._bench, self._place, None) as source:
                await ask(self._bench, source, list(wanted.values()), what)
        found = calls.samples_of(self._bench.db, list(wanted))
        return {at: found[call.id][0] for at, call in asked.items() if call.id in found}


def _subject(turn: _Turn) -> tuple[Answer, Principle]:
    return turn.before.answer, turn.principle


def _answer_id(turn: _Turn) -> str:
    return turn.before.draft.answer.id


def _about(draft: Draft) -> str:
    return draft.prompt_id or draft.answer.id


def _drawn(constitution: Constitution, draft: Draft, number: int, seed: int) -> Principle | None:
    return drawn(draft.principles(constitution), draft.answer, number, seed)


def _row(
    turn: _Turn, asked: Call, critique: Sample | None, answering: Call | None, said: Sample | None
) -> Revision:
    text = cleaned(said.text) if said else None
    share = edit_share(turn.before.text, text) if text is not None else None
    return Revision(
        answer_id=_answer_id(turn),
        sample_id=turn.before.draft.sample_id,
        number=turn.number,
        principle_id=turn.principle.text_id,
        critique=critique.text if critique else None,
        text=text,
        edit_share=share,
        stop=_stop(said, text, share),
        critique_call=asked.id,
        revision_call=answering.id if answering else None,
    )


def _stop(said: Sample | None, text: str | None, share: float | None) -> Stop | None:
    if said is None or share is None:
        return "unanswered"
    if not text:
        return "empty"
    if said.finish_reason == "length":
        return "cut"
    return "unchanged" if share < UNCHANGED else None
