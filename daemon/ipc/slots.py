"""SlotBeat: what is told of one of several pipeline processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlotBeat:
    """How one of several pipeline processes is."""

    number: int
    """From 0."""
    cores: tuple[int, ...]
    """Numbers of the cores that it keeps to."""
    device: str | None
    """``cpu`` or ``cuda:N`` while its models are loaded."""
    job_id: str | None
    """The job that it works for."""
    memory_bytes: int
    busy_seconds: float
    """Since the daemon was started."""
    ended: int
    """How often its process has ended while it worked."""
    node: str | None = None
    """Name of its machine, if that is one of a cluster."""
