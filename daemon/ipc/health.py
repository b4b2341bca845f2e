"""Heartbeat: what the daemon says of itself about once a second, for the sidecar, the command line and monitors.

It is a small JSON file, ``data/daemon.json``, replaced by a rename. It is not made durable: after a power cut
the daemon that wrote it is gone as well.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.settings import Settings

NAME = "daemon.json"
ALIVE_SECONDS = 10.0
"""A heartbeat older than this means that no daemon is running."""


@dataclass(frozen=True)
class Heartbeat:
    """The daemon's state at ``updated_at``. Times are ISO 8601 UTC."""

    pid: int
    version: str
    started_at: str
    updated_at: str
    state: str
    """``starting`` while models load, ``running`` or ``stopping``."""
    device: str | None
    """``cpu`` or ``cuda:N`` once the models are loaded."""
    models: list[dict[str, Any]]
    """ModelInfo records."""
    inbox: dict[str, Any]
    """How watching goes: mode, file_system, online, last_good_scan_age_s, canary_age_s, waiting_count, waiting
    (name, size_bytes, age_s, why), overflows, problem."""
    paused: str | None
    """Why nothing is taken in or run at the moment."""
    queue_length: int
    oldest_wait_s: float | None
    """Seconds since the first job in the queue was made."""
    running: dict[str, Any] | None
    """job_id, frames_processed, frames_total and frames_per_second of the job that runs."""
    free_bytes: int
    """On the data disk."""
    min_free_bytes: int
    counters: dict[str, int]
    """Since ``started_at``: jobs_completed, jobs_failed, frames."""
    stage_seconds_total: dict[str, float]
    """Since ``started_at``: busy seconds of each stage."""


def write(data_dir: Path, heartbeat: Heartbeat) -> None:
    """Replace the heartbeat file.

    Raises:
        OSError: the data folder cannot be written.
    """
    temporary = data_dir / f".{NAME}.new"
    temporary.write_text(json.dumps(asdict(heartbeat)))
    os.replace(temporary, data_dir / NAME)


def read(data_dir: Path) -> Heartbeat | None:
    """Return the last heartbeat, or None if there is none that this version understands."""
    try:
        values = json.loads((data_dir / NAME).read_text())
        return Heartbeat(**{f.name: values[f.name] for f in fields(Heartbeat)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_running_daemon(data_dir: Path) -> Heartbeat | None:
    """Return the heartbeat of a daemon that has given it lately, else None."""
    beat = read(data_dir)
    alive = beat is not None and beat.state != "stopping" and age_seconds(beat, datetime.now(UTC)) < ALIVE_SECONDS
    return beat if alive else None


def longest_scan_age_seconds(settings: Settings) -> float:
    """Return how old the last good scan of the inbox may be before something is wrong."""
    return 3 * max(settings.rescan_seconds, settings.poll_seconds) + 10


def problem(heartbeat: Heartbeat | None, settings: Settings, now: datetime) -> str | None:
    """Return a sentence on why the daemon does not do its work, or None if it does."""
    if heartbeat is None:
        return "The daemon has never run here; start it with: dropframe daemon."
    age = age_seconds(heartbeat, now)
    if age > ALIVE_SECONDS:
        return f"The daemon's last sign of life is {age:.0f} s old; start it with: dropframe daemon."
    if heartbeat.state != "running":
        return f"The daemon is {heartbeat.state}."
    if not heartbeat.inbox["online"]:
        return "The inbox cannot be reached; mount it again or check its folder."
    scan = heartbeat.inbox["last_good_scan_age_s"]
    if scan is None or scan + age > longest_scan_age_seconds(settings):
        return "The inbox has not been scanned for too long; the daemon's log says why."
    return heartbeat.paused


def age_seconds(heartbeat: Heartbeat, now: datetime) -> float:
    """Return how long ago it was written.

    Args:
        heartbeat: What was read.
        now: The time, with its time zone.
    """
    return max(0.0, (now - datetime.fromisoformat(heartbeat.updated_at)).total_seconds())
