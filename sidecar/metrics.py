"""Metrics: what is counted here, and the page that Prometheus reads (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from daemon.ipc.health import Heartbeat
from daemon.ipc.slots import SlotBeat
from sidecar.limits import ClientLimits
from sidecar.state import State

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
"""Upper bounds of the histogram of answer times, seconds."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that a call has; the others are counted together."""
OUTCOMES = ("accepted", "repeated", "refused", "cut", "failed")

Samples = Mapping[Any, float]
"""By the values of the labels, a tuple."""


class Metrics:
    """Counters since the sidecar's start.

    Args:
        limits: Count what is open.
    """

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self.requests: Counter[tuple[str, int]] = Counter()
        """Answers by method and status."""
        self.buckets: Counter[float] = Counter()
        self.seconds = 0.0
        self.in_flight = 0
        self.uploads: Counter[str] = Counter()
        """Ended uploads by outcome."""
        self.upload_bytes = 0

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            method: Of the request; unusual ones are counted together.
            status: Of the answer.
            seconds: Until its last byte was handed over.
        """
        self.requests[method if method in METHODS else "other", status] += 1
        self.seconds += seconds
        for bound in BUCKETS:
            if seconds <= bound:
                self.buckets[bound] += 1
                return

    def count_upload_bytes(self, size: int) -> None:
        """Count bytes of video that have come."""
        self.upload_bytes += size

    def page(self, state: State) -> bytes:
        """Return everything as Prometheus reads it."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Scrape(self, state))
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is counted here."""
        requests = {(method, str(status)): count for (method, status), count in sorted(self.requests.items())}
        yield _counter("http_requests_total", "Answers of the sidecar.", requests, ["method", "status"])
        yield _gauge("http_requests_active", "Requests being served.", {(): self.in_flight})
        uploads = {(outcome,): self.uploads[outcome] for outcome in OUTCOMES}
        yield _counter("uploads_total", "Ended uploads by outcome.", uploads, ["outcome"])
        yield _gauge("uploads_active", "Uploads being received.", {(): self._limits.uploads.total})
        yield _gauge("http_waits_active", "Calls that wait.", {(): self._limits.waits.total})
        yield _counter("upload_bytes_total", "Bytes of video received.", {(): self.upload_bytes})
        yield self._request_seconds()

    def _request_seconds(self) -> HistogramMetricFamily:
        below, buckets = 0, []
        for bound in BUCKETS:
            below += self.buckets[bound]
            buckets.append((f"{bound:g}", float(below)))
        buckets.append(("+Inf", float(self.requests.total())))
        return HistogramMetricFamily(
            "dropframe_http_request_seconds", "Time to answer.", buckets=buckets, sum_value=self.seconds
        )


class _Scrape:
    """Everything at one moment, as a registry wants it."""

    def __init__(self, metrics: Metrics, state: State) -> None:
        self._metrics = metrics
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.collect()
        yield from _jobs(self._state)
        yield from _daemon(self._state)


def _gauge(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    family = GaugeMetricFamily(f"dropframe_{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, samples: Samples, labels: Sequence[str] = ()) -> Metric:
    family = CounterMetricFamily(f"dropframe_{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _jobs(state: State) -> Iterator[Metric]:
    yield _gauge("jobs", "Jobs by status.", {(str(s),): count for s, count in state.jobs.counts().items()}, ["status"])
    yield _gauge("queue_length", "Jobs waiting.", {(): state.jobs.queue_length()})
    first = state.jobs.oldest_pending()
    waited = 0.0
    if first:
        waited = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(first["created_at"])).total_seconds())
    yield _gauge("queue_oldest_wait_seconds", "How long the first job in the queue has waited.", {(): waited})
    yield _gauge("store_readable", "1 if the job store is readable.", {(): state.store_problem is None})
    free = state.disk.free()
    yield _gauge("disk_free_bytes", "Free space of the data disk.", {(): free} if free is not None else {})


def _daemon(state: State) -> Iterator[Metric]:
    ready = {(name,): float(part.ok) for name, part in state.health().items()}
    yield _gauge("ready", "1 for each part that works.", ready, ["part"])
    heartbeat, now = state.heartbeat, datetime.now(UTC)
    if heartbeat is None:
        return
    age, scan = heartbeat.age_seconds(now), heartbeat.scan_age_seconds(now)
    yield _gauge("daemon_sign_of_life_age_seconds", "Age of the daemon's last heartbeat.", {(): age})
    if scan is not None:
        yield _gauge("inbox_scan_age_seconds", "Age of the last good scan of the inbox.", {(): scan})
    waiting, overflows = heartbeat.inbox.waiting_count, heartbeat.inbox.overflows
    yield _gauge("inbox_waiting_files", "Files in the inbox that are not complete yet.", {(): waiting})
    yield _counter("inbox_overflows_total", "Overflows of file events.", {(): overflows})
    yield from _receivers(heartbeat, now)
    yield _gauge("daemon_paused", "1 while neither intake nor jobs run.", {(): heartbeat.paused is not None})
    speed = sum(job.frames_per_second for job in heartbeat.all_running().values())
    yield _gauge("frames_per_second", "Frames per second of the running jobs.", {(): float(speed)})
    if heartbeat.slots:
        yield from _slots(heartbeat.slots)
    stages = {(name,): value for name, value in sorted(heartbeat.stage_seconds_total.items())}
    yield _counter("stage_seconds_total", "Busy seconds of each stage.", stages, ["stage"])
    for name, value in sorted(heartbeat.counters.items()):
        yield _counter(f"daemon_{name}", "Counted by the daemon since its start.", {(): value})


def _slots(slots: Sequence[SlotBeat]) -> Iterator[Metric]:
    """Yield how each of several pipeline processes is, by its number."""
    by_number = {(str(slot.number),): slot for slot in slots}
    up = {number: slot.device is not None for number, slot in by_number.items()}
    yield _gauge("slot_up", "1 while a pipeline process has its models loaded.", up, ["slot"])
    memory = {number: slot.memory_bytes for number, slot in by_number.items()}
    yield _gauge("slot_memory_bytes", "Memory of a pipeline process.", memory, ["slot"])
    busy = {number: slot.busy_seconds for number, slot in by_number.items()}
    yield _counter("slot_busy_seconds_total", "Time in which a pipeline process had work.", busy, ["slot"])
    ended = {number: slot.ended for number, slot in by_number.items()}
    yield _counter("slot_ended_total", "How often a pipeline process ended while it worked.", ended, ["slot"])


def _receivers(heartbeat: Heartbeat, now: datetime) -> Iterator[Metric]:
    """Yield how it goes with those who are told of events, by the key that ``dropframe webhooks list`` shows."""
    known = {(receiver.key,): receiver for receiver in heartbeat.receivers}
    for name, text, samples in (
        ("waiting", "Events that a receiver has not been told of yet.", {k: r.waiting for k, r in known.items()}),
        (
            "oldest_wait_seconds",
            "How long the oldest of them has waited.",
            {k: r.oldest_wait_seconds(now) for k, r in known.items()},
        ),
        ("given_up", "Events that a receiver could not be told of.", {k: r.given_up for k, r in known.items()}),
    ):
        yield _gauge(f"events_{name}", text, samples, ["receiver"])
    off = {key: receiver.off_since is not None for key, receiver in known.items()}
    yield _gauge("receiver_off", "1 if a receiver has said that it wants no more events.", off, ["receiver"])
