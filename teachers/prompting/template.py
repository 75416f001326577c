"""From a prompt to the conversation that a model is asked to continue."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from teachers.records import Message, Prompt


class Example(BaseModel):
    """A worked example that a teacher is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    answer: str
    """Reasoning and final answer, in the form that the student is to learn."""


class Template(BaseModel):
    """How questions are put. A student gets the question and the instruction alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = ""
    """Put after every question, for teacher and student alike."""
    system: str = ""
    """Put before the conversation, for the teacher only."""
    examples: Mapping[str, tuple[Example, ...]] = {}
    """Worked examples by task, for the teacher only."""

    def zero_shot(self, prompt: Prompt) -> tuple[Message, ...]:
        """What a student is asked, in training, in evals and when it is served."""
        return (self._ask(prompt.question),)

    def few_shot(self, prompt: Prompt) -> tuple[Message, ...]:
        """What the teacher is asked: the worked examples of the prompt's task first."""
        system = (Message(role="system", content=self.system),) if self.system else ()
        shown = (
            turn
            for example in self.examples.get(prompt.task, ())
            for turn in (
                self._ask(example.question),
                Message(role="assistant", content=example.answer),
            )
        )
        return (*system, *shown, self._ask(prompt.question))

    def _ask(self, question: str) -> Message:
        text = f"{question}\n{self.instruction}" if self.instruction else question
        return Message(role="user", content=text)
