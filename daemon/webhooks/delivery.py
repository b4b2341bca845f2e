"""What a receiver of events is, and how telling it has ended."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from daemon.webhooks.event import Event


class DeliveryEnd(Enum):
    """What follows from an attempt."""

    DONE = auto()
    """The receiver has the event."""
    AGAIN = auto()
    """It is told again later."""
    FINAL = auto()
    """It is not told of this event again by itself."""
    GONE = auto()
    """It wants no more events."""


@dataclass(frozen=True)
class Delivery:
    """How one attempt has ended."""

    end: DeliveryEnd
    problem: str = ""
    """What went wrong, in a sentence without secrets."""
    after_seconds: float | None = None
    """The least time after which the receiver wants to be asked again, if it has said so."""


class Receiver(Protocol):
    """Somebody who is told of events."""

    @property
    def key(self) -> str:
        """What tells it from others, over restarts."""

    @property
    def name(self) -> str:
        """What people are told of it."""

    @property
    def types(self) -> Set[str]:
        """Of the events it is told of."""

    def deliver(self, event: Event) -> Delivery:
        """Tell it of an event, once; never raises for what the receiver does."""

    def abort(self) -> None:
        """End a ``deliver`` that is going on in another thread, and those to come."""
