"""Every error that Preceptor raises on purpose, as one tree.

    PreceptorError
    ├── Busy                   another process is at work in this home
    ├── ConfigError            what the user wrote: a recipe, a flag, a data file
    ├── WeightsError           a model that cannot be found, read or trusted
    ├── EngineError            a model server that we own
    │   ├── EngineDied         it stopped while we needed it
    │   └── SyncMismatch       it answers from other weights than it was given
    ├── EndpointError          an answer over HTTP, ours or anybody's
    │   ├── CallRefused        the endpoint said no, and would say no again
    │   │   └── CallUnfit      no to this one request: too long, or not to its liking
    │   ├── EndpointBusy       retries are used up; nothing was done on the other side
    │   ├── BadAnswer          it answered, and the answer cannot be used
    │   └── CallUncertain      the call left, and no answer came back
    ├── StoreError             the SQLite file
    │   ├── StoreFull          no space left
    │   ├── LeaseLost          a run that we worked on has another worker
    │   └── QueryRefused       a user's SQL that may not or cannot run
    ├── VerifierError          a verifier that does not exist or cannot start
    ├── Uncertified            a judge or a reward model that has not passed what it has to
    ├── TrainingError          a training process that failed
    └── RoundStopped           the round cannot go on, and says why

A bad sample is data, not an error: it becomes a row with a state. These classes are for what a
person has to act on, so each takes a message (what happened) and a hint (what to do).
"""


class PreceptorError(Exception):
    """Root of the tree.

    Args:
        message: what happened, in one sentence.
        hint: what the user can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class Busy(PreceptorError):
    """Another process is at work in this home: later."""


class ConfigError(PreceptorError):
    """A recipe, a flag or a data file is wrong."""


class WeightsError(PreceptorError):
    """A model cannot be found, read or trusted."""


class EngineError(PreceptorError):
    """A model server of ours cannot start or does not obey."""


class EngineDied(EngineError):
    """The engine stopped while it was needed."""


class SyncMismatch(EngineError):
    """After a swap, the engine's log-probabilities are not those of the new weights."""


class EndpointError(PreceptorError):
    """A model endpoint did not give a usable answer."""


class CallRefused(EndpointError):
    """The endpoint refused the request; sending it again would not help."""


class CallUnfit(CallRefused):
    """The endpoint refused this one request; another one may be welcome."""


class EndpointBusy(EndpointError):
    """The endpoint stayed busy or unreachable through every retry; the call was never done."""


class BadAnswer(EndpointError):
    """The endpoint answered with something that is not a completion."""


class CallUncertain(EndpointError):
    """The request was sent and no whole answer came back: it may have been done and charged."""


class StoreError(PreceptorError):
    """The SQLite store cannot do what was asked."""


class StoreFull(StoreError):
    """There is no space left for the store."""


class LeaseLost(StoreError):
    """A run is another worker's by now; nothing of ours was written."""


class QueryRefused(StoreError):
    """A user's SQL may not run, or ran into a limit."""


class VerifierError(PreceptorError):
    """A verifier does not exist or its worker cannot start."""


class Uncertified(PreceptorError):
    """A judge has not passed a principle's cases, or a reward model its appraisal: it may not be
    used for that."""


class TrainingError(PreceptorError):
    """The training process failed."""


class GuardTripped(TrainingError):
    """The reward may be hacked: training pauses until somebody has looked."""


class RoundStopped(PreceptorError):
    """The round cannot go on; everything finished so far is kept."""
