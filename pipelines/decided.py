"""Comparisons of earlier rounds that a judge decides, and which principles are about them."""

from collections.abc import Callable, Sequence

from judges.constitution import Constitution, Principle, in_scope
from judges.judge import Judge
from pipelines.judging import Question, settled
from pipelines.labelling import human_verdicts_either_way
from pipelines.store import calls, judgements
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.errors import ConfigError
from teachers.records import Prompt


def decided_by(
    bench: Workbench, judge: Judge, current: Constitution, edited: Constitution
) -> list[Compared]:
    """Comparisons of rounds that this judge decides, with every verdict by `current` stored.

    Others belong to rounds that went by something else, or are decided by people, by a verifier or
    by no principle of either version: an edit changes nothing there.

    Raises:
        ConfigError: there are none.
    """
    every = _left_to_judges(bench, judgements.comparisons(bench.db, "round"))
    asked = questions(bench, every, current)
    said = zip(asked, settled(bench, judge, asked), strict=True)
    unspoken = {one.compared.comparison.id for one, word in said if word.state == "error"}
    asked_by_either = [*asked, *questions(bench, every, edited)]
    spoken = {one.compared.comparison.id for one in asked_by_either} - unspoken
    found = [one for one in every if one.comparison.id in spoken]
    if not asked or not found:
        raise ConfigError(
            f"No stored comparison was judged by the version of {current.name} that was edited.",
            hint="--against names another version, --recipe another judge.",
        )
    return found


def _left_to_judges(bench: Workbench, every: Sequence[Compared]) -> list[Compared]:
    """Those that neither people nor a verifier decide."""
    prompts = _prompts(bench, every)
    people = human_verdicts_either_way(bench.db, [one.comparison for one in every])
    return [
        one
        for one in every
        if one.comparison.id not in people
        and ((prompt := prompts.get(one.prompt_id or "")) is None or prompt.verifier == "none")
    ]


About = Callable[[Compared, Constitution], list[Principle]]
"""Which principles of a version are about a comparison's request."""


def about_by(bench: Workbench, compared: Sequence[Compared]) -> About:
    """A prompt's own question and task count; only where there is none, what was asked does."""
    prompts = _prompts(bench, compared)

    def about(one: Compared, by: Constitution) -> list[Principle]:
        if prompt := prompts.get(one.prompt_id or ""):
            return in_scope(by.principles, prompt.question, [prompt.task])
        return in_scope(by.principles, one.comparison.conversation[-1].content)

    return about


def _prompts(bench: Workbench, compared: Sequence[Compared]) -> dict[str, Prompt]:
    return calls.prompts(bench.db, [one.prompt_id for one in compared if one.prompt_id])


def questions(bench: Workbench, compared: Sequence[Compared], by: Constitution) -> list[Question]:
    """Each comparison by each principle of a version that is about it."""
    about = about_by(bench, compared)
    return [Question(one, principle) for one in compared for principle in about(one, by)]
