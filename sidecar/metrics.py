"""Metrics: what is counted here, and the page that Prometheus reads (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from sidecar.state import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
"""Upper bounds of the answer times that are told apart, seconds."""

Sample = tuple[Mapping[str, str], float]


class Metrics:
    """Counters since the sidecar's start."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """Answers by method and status."""
        self.buckets: Counter[float] = Counter()
        self.seconds = 0.0
        self.in_flight = 0
        self.uploads: Counter[str] = Counter()
        """Ended uploads: accepted, repeated, refused, cut, failed."""
        self.upload_bytes = 0
        self.uploads_active = 0

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            method: Of the request; unusual ones are counted together.
            status: Of the answer.
            seconds: Until its last byte was handed over.
        """
        self.requests[method if method in ("GET", "HEAD", "POST", "PUT", "OPTIONS") else "other", status] += 1
        self.seconds += seconds
        for bound in BUCKETS:
            if seconds <= bound:
                self.buckets[bound] += 1
                return

    def page(self, state: State) -> str:
        """Return everything as text."""
        lines: list[str] = []
        for name, kind, text, samples in (*self._own(), *_jobs(state), *_daemon(state)):
            lines += [f"# HELP dropframe_{name} {text}", f"# TYPE dropframe_{name} {kind}"]
            for labels, value in samples:
                inner = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
                lines.append(f"dropframe_{name}{{{inner}}} {value:.17g}" if inner else f"dropframe_{name} {value:.17g}")
        lines += self._histogram()
        return "\n".join(lines) + "\n"

    def _own(self) -> Iterable[tuple[str, str, str, list[Sample]]]:
        requests: list[Sample] = [
            ({"method": method, "status": str(status)}, count)
            for (method, status), count in sorted(self.requests.items())
        ]
        yield "http_requests_total", "counter", "Answers of the sidecar.", requests
        yield "http_requests_active", "gauge", "Requests being served.", [({}, self.in_flight)]
        uploads: list[Sample] = [
            ({"outcome": outcome}, self.uploads[outcome])
            for outcome in ("accepted", "repeated", "refused", "cut", "failed")
        ]
        yield "uploads_total", "counter", "Ended uploads by outcome.", uploads
        yield "uploads_active", "gauge", "Uploads being received.", [({}, self.uploads_active)]
        yield "upload_bytes_total", "counter", "Bytes of video received.", [({}, self.upload_bytes)]

    def _histogram(self) -> list[str]:
        name = "dropframe_http_request_seconds"
        lines = [f"# HELP {name} Time to answer.", f"# TYPE {name} histogram"]
        below = 0
        for bound in BUCKETS:
            below += self.buckets[bound]
            lines.append(f'{name}_bucket{{le="{bound:g}"}} {below}')
        count = self.requests.total()
        return [
            *lines,
            f'{name}_bucket{{le="+Inf"}} {count}',
            f"{name}_sum {self.seconds:.6f}",
            f"{name}_count {count}",
        ]


def _jobs(state: State) -> Iterable[tuple[str, str, str, list[Sample]]]:
    jobs: list[Sample] = [({"status": status}, count) for status, count in state.jobs.counts().items()]
    yield "jobs", "gauge", "Jobs by status.", jobs
    yield "queue_length", "gauge", "Jobs that wait.", [({}, state.jobs.queue_length())]
    first = state.jobs.oldest_pending()
    waited = 0.0
    if first:
        waited = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(first["created_at"])).total_seconds())
    yield "queue_oldest_wait_seconds", "gauge", "How long the first job in the queue has waited.", [({}, waited)]
    yield "store_readable", "gauge", "1 if the job store can be read.", [({}, state.store_problem is None)]
    free = state.disk.free()
    yield "disk_free_bytes", "gauge", "Free space of the data disk.", [({}, free)] if free is not None else []


def _daemon(state: State) -> Iterable[tuple[str, str, str, list[Sample]]]:
    health = state.health()
    yield "ready", "gauge", "1 for each part that is well.", [({"part": name}, p.ok) for name, p in health.items()]
    beat, now = state.beat, datetime.now(UTC)
    if beat is None:
        return
    age, scan = beat.age_seconds(now), beat.scan_age_seconds(now)
    yield "daemon_sign_of_life_age_seconds", "gauge", "Age of the daemon's last sign of life.", [({}, age)]
    if scan is not None:
        yield "inbox_scan_age_seconds", "gauge", "Age of the last good scan of the inbox.", [({}, scan)]
    waiting = beat.inbox.waiting_count
    yield "inbox_waiting_files", "gauge", "Files in the inbox that are not whole yet.", [({}, waiting)]
    yield "inbox_overflows_total", "counter", "Overflows of file events.", [({}, beat.inbox.overflows)]
    yield "daemon_paused", "gauge", "1 while nothing is taken in or run.", [({}, beat.paused is not None)]
    speed = beat.running.frames_per_second if beat.running else 0.0
    yield "frames_per_second", "gauge", "Frames per second of the running job.", [({}, speed)]
    stages: list[Sample] = [({"stage": name}, value) for name, value in sorted(beat.stage_seconds_total.items())]
    yield "stage_seconds_total", "counter", "Seconds that each stage has worked.", stages
    for name, value in sorted(beat.counters.items()):
        total = name if name.endswith("_total") else f"{name}_total"
        yield f"daemon_{total}", "counter", "Counted by the daemon since its start.", [({}, value)]


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
