"""ReceiverBeat: how it goes with telling others of events; what the heartbeat says of it, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

LATE_SECONDS = 3600.0
"""A receiver that an event has waited for so long is not well."""


@dataclass(frozen=True)
class ReceiverBeat:
    """Somebody who is told of events: a webhook's endpoint, or the command ``on_completed``."""

    key: str
    """What tells it from others."""
    name: str
    """An endpoint's address without its path, or the command's program."""
    waiting: int = 0
    """Events that it has not been told of yet."""
    oldest: str | None = None
    """When the oldest of them happened, ISO 8601 UTC."""
    given_up: int = 0
    """Events that it could not be told of, and will not be by itself."""
    off_since: str | None = None
    """Since when it is switched off, as it has said that it wants no more events."""
    problem: str | None = None
    """Why the latest attempt failed, in a sentence; None if it did not."""

    def oldest_wait_seconds(self, now: datetime) -> float:
        """Return how long the oldest event has waited for it."""
        return 0.0 if self.oldest is None else max(0.0, (now - datetime.fromisoformat(self.oldest)).total_seconds())

    def is_well(self, now: datetime) -> bool:
        """Tell whether it hears of events."""
        late = self.problem is not None and self.oldest_wait_seconds(now) > LATE_SECONDS
        failing = self.problem is not None and self.given_up > 0
        return self.off_since is None and not late and not failing


def judgement(receivers: Sequence[ReceiverBeat], now: datetime) -> tuple[bool, str]:
    """Say whether all receivers are well, and in a sentence that names none of them how it goes."""
    ill = sum(not receiver.is_well(now) for receiver in receivers)
    if ill:
        return False, f"Events cannot be told to {ill} of {len(receivers)} receivers; dropframe webhooks list says why."
    return True, f"{sum(receiver.waiting for receiver in receivers)} events wait to be told."
