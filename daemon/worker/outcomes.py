"""Outcomes: how an attempt at a job can end, and which end an error means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.errors import (
    Cancelled,
    Interrupted,
    MachineError,
    PermanentError,
    ResourceUnavailable,
    SourceChanged,
    StoreError,
    TransientError,
)
from daemon.jobs import ErrorKind

UNAVAILABLE_SECONDS = 10.0
"""Wait before something is tried again that a full disk or an absent outbox held up."""
CANCELLED = "Cancelled while it was running."


@dataclass(frozen=True)
class Completed:
    """The result is in the outbox."""

    facts: Mapping[str, Any]
    """New values of the job's record, by field."""


@dataclass(frozen=True)
class Failed:
    """There will be no result."""

    kind: ErrorKind
    text: str
    """One sentence a user can act on."""


@dataclass(frozen=True)
class Retry:
    """Another attempt may give the result."""

    after: float
    """Seconds to wait before it."""
    counted: bool
    """Whether this attempt is one of the few that a job has; False if only its environment was at fault."""
    text: str
    """Why, in one sentence."""


@dataclass(frozen=True)
class Requeue:
    """Dropframe is stopping: the job goes back to the queue as it was."""


@dataclass(frozen=True)
class PutBack:
    """The video was written to after it had been taken in, and goes back to where it came from."""

    text: str
    """What its owner is told, in one sentence."""


Outcome = Completed | Failed | Retry | Requeue | PutBack


def outcome_of(error: Exception, backoff: float) -> Outcome:
    """Return what an error means for the job that was attempted.

    Args:
        error: What the attempt ended with.
        backoff: Seconds to wait for the next attempt if this one counts.
    """
    match error:
        case Cancelled():
            return Failed(ErrorKind.CANCELLED, str(error))
        case SourceChanged():
            return PutBack(str(error))
        case PermanentError():
            return Failed(ErrorKind.PERMANENT, str(error))
        case Interrupted():
            return Requeue()
        case ResourceUnavailable() | MachineError():
            return Retry(UNAVAILABLE_SECONDS, counted=False, text=str(error))
        case StoreError() | OSError():
            return Retry(UNAVAILABLE_SECONDS, counted=False, text=f"The data folder could not be used: {error}")
        case TransientError():
            return Retry(backoff, counted=True, text=str(error))
    return Retry(backoff, counted=True, text=f"Running it ended with an unexpected {type(error).__name__}.")
