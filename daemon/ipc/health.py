"""Heartbeat: what the daemon says of itself about once a second; ``judge``: what that means.

The heartbeat is a small JSON file, ``data/daemon.json``, replaced by a rename. It is not made durable: after a power
cut the daemon that wrote it is gone as well. ``dropframe health``, ``dropframe doctor`` and the sidecar's ``/readyz``
all tell what ``judge`` says of it, so they never disagree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from daemon.fs.space import DiskGuard
from daemon.ipc.receivers import ReceiverBeat, judgement
from daemon.ipc.slots import SlotBeat
from daemon.settings import Settings

NAME = "daemon.json"
BEAT_BYTES = 65_536
"""A heartbeat is written where so many bytes are free."""
ALIVE_SECONDS = 10.0
"""A heartbeat older than this means that no daemon is running."""
SILENT_SECONDS = 15.0
"""A folder that has not answered for so long hangs, and counts as offline."""
STORES = ("result_store", "inbox_store")
"""The settings that name object storage, and what is told of each under the same name."""
OPTIONAL_PARTS = frozenset({"webhooks", *STORES})
"""Parts whose trouble is shown, and keeps Dropframe from no video that it is sent: else nobody would send it any."""
PAUSED = "The daemon has paused intake and running jobs"
START_IT = "start it with: dropframe daemon."


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


@dataclass(frozen=True)
class WaitingBeat:
    """A file of the inbox that is not a job yet."""

    name: str
    """Below the inbox, undecodable bytes and control characters escaped."""
    size_bytes: int
    age_s: float
    """Since it was first seen."""
    why: str
    """Why it is not a job yet, in a sentence."""


@dataclass(frozen=True)
class InboxBeat:
    """How watching the inbox goes. None stands for what was not said."""

    mode: str | None = None
    """``events`` or ``polling``."""
    file_system: str | None = None
    """As the kernel says it, such as ``ext4`` or ``nfs4``."""
    online: bool | None = None
    """Whether the folder is there and answers."""
    last_good_scan_age_s: float | None = None
    """Since the last full scan that worked; None before the first."""
    canary_age_s: float | None = None
    """Since file events were last proved to arrive; None when polling, or where the canary cannot be written."""
    waiting_count: int = 0
    waiting: tuple[WaitingBeat, ...] = ()
    """The first 50: those named as videos first, each kind oldest first."""
    overflows: int = 0
    """How often the kernel dropped events since the start; each time a full scan followed."""
    problem: str | None = None
    """What is wrong, in sentences."""


@dataclass(frozen=True)
class OutboxBeat:
    """Whether results can be published. None stands for what was not said."""

    online: bool | None = None
    """Whether the folder is there, answers and can be written."""
    problem: str | None = None
    """What is wrong, in a sentence."""


@dataclass(frozen=True)
class StoreBeat:
    """How it goes with object storage."""

    problem: str | None = None
    """What is wrong, in sentences."""
    waiting_count: int = 0
    """Jobs of which something has still to be copied there, or objects that are to be fetched."""


@dataclass(frozen=True)
class RunningBeat:
    """A job that runs."""

    job_id: str
    frames_processed: int
    frames_total: int | None
    frames_per_second: float


@dataclass(frozen=True)
class Heartbeat:
    """The daemon's state at ``updated_at``. Times are ISO 8601 UTC."""

    updated_at: Annotated[str, AfterValidator(_aware)]
    state: str
    """``starting`` while models load, ``running`` or ``stopping``."""
    pid: int
    version: str = ""
    started_at: str = ""
    device: str | None = None
    """``cpu`` or ``cuda:N`` once the models are loaded."""
    models: tuple[Mapping[str, Any], ...] = ()
    """ModelInfo records."""
    weights_note: str = ""
    """What object weights are being fetched, or could not be, in a sentence."""
    weights_percent: int | None = None
    """How much of them has been fetched, while they are."""
    inbox: InboxBeat = InboxBeat()
    outbox: OutboxBeat = OutboxBeat()
    result_store: StoreBeat = StoreBeat()
    inbox_store: StoreBeat = StoreBeat()
    receivers: tuple[ReceiverBeat, ...] = ()
    """Those who are told of events."""
    paused: str | None = None
    """Why nothing is taken in or run at the moment."""
    queue_length: int = 0
    running: RunningBeat | None = None
    """The job that runs; of several the one that was started first."""
    running_besides: tuple[RunningBeat, ...] = ()
    """The others, in the order of their starts."""
    slots: tuple[SlotBeat, ...] = ()
    """The pipeline processes, where there are several."""
    free_bytes: int | None = None
    """On the data disk; None if it cannot be asked or written."""
    min_free_bytes: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    """Since ``started_at``: jobs_completed, jobs_failed, frames."""
    stage_seconds_total: Mapping[str, float] = field(default_factory=dict)
    """Since ``started_at``: busy seconds of each stage."""

    def all_running(self) -> dict[str, RunningBeat]:
        """Return the jobs that run, by id."""
        return {beat.job_id: beat for beat in (self.running, *self.running_besides) if beat is not None}

    def age_seconds(self, now: datetime) -> float:
        """Return how long ago it was written; never negative.

        Args:
            now: The time, with its time zone.
        """
        return max(0.0, (now - datetime.fromisoformat(self.updated_at)).total_seconds())

    def is_alive(self, now: datetime) -> bool:
        """Tell whether it is so young that its daemon runs."""
        return self.age_seconds(now) <= ALIVE_SECONDS

    def is_running(self, now: datetime) -> bool:
        """Tell whether its daemon runs and is not about to end, so that it looks at what waits."""
        return self.state != "stopping" and self.is_alive(now)

    def scan_age_seconds(self, now: datetime) -> float | None:
        """Return how old the last good scan of the inbox is, or None if there was none."""
        scan = self.inbox.last_good_scan_age_s
        return None if scan is None else scan + self.age_seconds(now)

    def lacks_object_weights(self, now: datetime) -> bool:
        """Tell whether the daemon runs, has loaded its models, and none of them looks for objects."""
        ready = self.is_alive(now) and self.state == "running"
        return ready and not any(model.get("role") == "objects" for model in self.models)


_FORMAT = TypeAdapter(Heartbeat)


def write(data_dir: Path, heartbeat: Heartbeat) -> None:
    """Replace the heartbeat file.

    Raises:
        OSError: the data folder cannot be written.
    """
    temporary = data_dir / f".{NAME}.new"
    temporary.write_text(json.dumps(asdict(heartbeat)))
    os.replace(temporary, data_dir / NAME)


def parse(text: str | bytes) -> Heartbeat:
    """Read a heartbeat; what it does not say has its default, and what is unknown here is left out.

    Raises:
        ValueError: it is not one.
    """
    return _FORMAT.validate_json(text)


def read(data_dir: Path) -> Heartbeat | None:
    """Return the last heartbeat, or None if there is none that this version understands."""
    try:
        return parse((data_dir / NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def of_running_daemon(data_dir: Path) -> Heartbeat | None:
    """Return the heartbeat of a daemon that runs and is not about to end, else None."""
    heartbeat = read(data_dir)
    return heartbeat if heartbeat is not None and heartbeat.is_running(datetime.now(UTC)) else None


def longest_scan_age_seconds(settings: Settings) -> float:
    """Return how old the last good scan of the inbox may be before something is wrong."""
    return 3 * max(settings.rescan_seconds, settings.poll_seconds) + 10


# The judgement.


@dataclass(frozen=True)
class Part:
    """One thing that must be well for Dropframe to work."""

    ok: bool
    detail: str
    """A sentence that names no folder, so that anybody may read it."""


def judge(
    heartbeat: Heartbeat | None,
    settings: Settings,
    now: datetime,
    *,
    disk: DiskGuard | None = None,
    store_problem: str | None = None,
) -> dict[str, Part]:
    """Say of each part of Dropframe whether it is well: the one judgement, whoever asks.

    Args:
        heartbeat: The last one; None if there is none.
        settings: Of the home.
        now: The time, with its time zone.
        disk: Watches the data disk; one on the data folder if not given.
        store_problem: Why the caller cannot read the job store, if it has tried and cannot.
    """
    disk = disk or DiskGuard(settings.data_dir, settings.min_free_bytes)
    parts = {
        "daemon": _judge_daemon(heartbeat, now, disk.free()),
        "store": Part(store_problem is None, store_problem or "The job store is readable."),
        "disk": _judge_disk(disk),
        "inbox": _judge_inbox(heartbeat, settings, now),
        "outbox": _judge_outbox(heartbeat),
    }
    for name in STORES:
        if getattr(settings, name) is not None:
            parts[name] = _judge_object_store(name, heartbeat)
    if heartbeat is not None and heartbeat.receivers:
        parts["webhooks"] = Part(*judgement(heartbeat.receivers, now))
    return parts


def works(parts: Mapping[str, Part]) -> bool:
    """Tell whether all parts are well that Dropframe cannot do without."""
    return all(part.ok for name, part in parts.items() if name not in OPTIONAL_PARTS)


def explain(parts: Mapping[str, Part], heartbeat: Heartbeat | None, now: datetime) -> str:
    """Return what is not well with the daemon's own words on it, which may name folders; nothing if all is well."""
    wrong = {name: part.detail for name, part in parts.items() if not part.ok}
    if heartbeat is None or not heartbeat.is_alive(now):  # nobody looks at the folders, which is no news
        return " ".join(detail for name, detail in wrong.items() if name not in ("inbox", "outbox", *STORES))
    if heartbeat.paused and "daemon" in wrong:
        wrong["daemon"] = f"{PAUSED}."  # why follows
    places = [getattr(heartbeat, name).problem for name in ("inbox", "outbox", *STORES) if name in parts]
    reasons = (heartbeat.paused if "daemon" in parts else None, *places) if wrong else ()
    return " ".join((*wrong.values(), *filter(None, reasons)))


def _judge_daemon(heartbeat: Heartbeat | None, now: datetime, free: int | None) -> Part:
    if heartbeat is None:
        return Part(False, f"The daemon has never run here; {START_IT}")
    age = heartbeat.age_seconds(now)
    if not heartbeat.is_alive(now) and heartbeat.state != "stopping" and free is not None and free < BEAT_BYTES:
        return Part(
            False,
            f"The daemon's last heartbeat is {age:.0f} s old, as the disk is too full to write another; make room, "
            "and it is told again whether the daemon runs.",
        )
    if not heartbeat.is_alive(now):
        return Part(False, f"The daemon's last heartbeat is {age:.0f} s old; {START_IT}")
    if heartbeat.state != "running":
        return Part(False, f"The daemon is {heartbeat.state}.")
    if heartbeat.paused:
        return Part(False, f"{PAUSED}; its log and dropframe health say why.")
    return Part(True, f"The daemon's last heartbeat is {age:.1f} s old.")


def _judge_disk(disk: DiskGuard) -> Part:
    try:
        room = disk.room()
    except OSError:
        return Part(False, "The data folder cannot be reached or written.")
    free = room + disk.least
    if room < 0:
        return Part(False, f"{free} bytes are free, fewer than min_free_bytes ({disk.least}); make room.")
    return Part(True, f"{free} bytes are free.")


def _judge_inbox(heartbeat: Heartbeat | None, settings: Settings, now: datetime) -> Part:
    if heartbeat is None:
        return Part(False, "The inbox has not been scanned yet.")
    inbox, scan = heartbeat.inbox, heartbeat.scan_age_seconds(now)
    if inbox.online is False:
        return Part(False, "The inbox cannot be reached; mount it again or check its folder.")
    if inbox.online is None or scan is None:
        return Part(False, "The inbox has not been scanned yet.")
    mode = inbox.mode or "unknown"
    if scan > longest_scan_age_seconds(settings):
        return Part(False, f"The last good scan of the inbox is {scan:.0f} s old ({mode}).")
    if inbox.problem:
        return Part(False, f"The inbox is not watched well ({mode}); the daemon's log says more.")
    return Part(True, f"The last good scan of the inbox is {scan:.1f} s old ({mode}).")


def _judge_outbox(heartbeat: Heartbeat | None) -> Part:
    online = heartbeat.outbox.online if heartbeat else None
    if online is None:
        return Part(False, "The outbox has not been looked at yet.")
    if not online:
        return Part(False, "The outbox cannot be reached or written; results wait until it can.")
    return Part(True, "The outbox can be written.")


def _judge_object_store(name: str, heartbeat: Heartbeat | None) -> Part:
    beat: StoreBeat = getattr(heartbeat, name, StoreBeat())
    if beat.problem:
        return Part(False, f"{name} cannot be used as it should; the daemon's log and dropframe health say why.")
    return Part(True, f"{name} has no problem.")
