"""The thread that takes in: what can be told from outside while a call into the inbox does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.errors import StoreError
from daemon.ingest.consumer import ERROR_SECONDS, InboxConsumer
from daemon.ingest.inbox import Inbox
from daemon.ingest.model import Blocked, Dropped, Ignored, Outcome, Taken
from daemon.ipc.health import SILENT_SECONDS
from daemon.jobs import Identity, Job
from daemon.settings import Settings


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


DROPPED = Dropped("a.mp4", Identity(1, 2, 3, 4))


def intake(take: Callable[[Any], list[Outcome]]) -> Any:
    return SimpleNamespace(take=take)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def consumer(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> InboxConsumer:
    made = InboxConsumer(Settings(home=tmp_path, watch="polling", close_grace_seconds=0), clock)
    made.inbox.startup()
    monkeypatch.setattr(made.inbox, "poll", lambda now: [DROPPED])
    return made


def test_an_inbox_that_does_not_answer_is_offline_and_says_since_when(consumer: InboxConsumer, clock: Clock) -> None:
    seen = []

    def take(_: Any) -> list[Outcome]:
        for wait in (SILENT_SECONDS - 1, 2):
            clock.now += wait
            seen.append(consumer.health())
        return []

    consumer.step(clock.now, intake(take), lambda: None)
    seen.append(consumer.health())
    assert [health.online for health in seen] == [True, False, True]
    assert "has not answered for 16 s" in (seen[1].problem or "")


def test_a_copy_that_goes_on_is_no_silence_and_makes_no_scan_late(consumer: InboxConsumer, clock: Clock) -> None:
    seen = []

    def copy(_: Any) -> list[Outcome]:
        for _ in range(100):
            clock.now += SILENT_SECONDS - 1
            consumer.answered()
        seen.append((consumer.health(), consumer.inbox.is_stuck(60, consumer._now())))
        return []

    consumer.step(clock.now, intake(copy), lambda: None)
    [(health, stuck)] = seen
    assert health.online
    assert not stuck
    assert consumer.inbox.is_stuck(60, consumer._now())  # between steps time goes on


def test_outcomes_are_acknowledged_and_new_jobs_are_told(consumer: InboxConsumer, clock: Clock) -> None:
    acknowledged: list[Outcome] = []
    consumer.inbox.acknowledge = acknowledged.extend  # type: ignore[method-assign, assignment]
    told: list[str] = []
    ignored, taken = Ignored(DROPPED, "why"), Taken(DROPPED, Job("1", source_name="a\n.mp4"))
    consumer.step(clock.now, intake(lambda _: [ignored]), lambda: told.append("told"))
    assert (acknowledged, told) == ([ignored], [])
    consumer.step(clock.now, intake(lambda _: [taken]), lambda: told.append("told"))
    assert (acknowledged, told) == ([ignored, taken], ["told"])


def test_what_an_error_kept_from_being_taken_in_says_so(consumer: InboxConsumer, clock: Clock) -> None:
    acknowledged: list[Outcome] = []
    consumer.inbox.acknowledge = acknowledged.extend  # type: ignore[method-assign, assignment]

    def take(_: Any) -> list[Outcome]:
        raise StoreError("The disk is sick.")

    with pytest.raises(StoreError):
        consumer.step(clock.now, intake(take), lambda: None)
    assert acknowledged == [Blocked(DROPPED, "It cannot be taken in: The disk is sick.", clock.now + ERROR_SECONDS)]


def test_what_was_claimed_before_is_fetched_though_nothing_new_is_there_but_not_from_an_inbox_that_is_away(
    consumer: InboxConsumer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(consumer.inbox, "poll", lambda now: [])

    def take(batch: Any) -> list[Outcome]:
        asked.append(batch)
        return []

    consumer.step(clock.now, intake(take), lambda: None)
    assert asked == [[]]
    monkeypatch.setattr(Inbox, "online", False)
    consumer.step(clock.now, intake(take), lambda: None)
    assert asked == [[]]


def test_the_thread_outlives_errors_and_ends_when_it_is_told(
    consumer: InboxConsumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.ingest.consumer.ERROR_SECONDS", 0.0)
    monkeypatch.setattr(consumer.inbox, "next_due", lambda now: 0.0)
    tried, enough = [], threading.Event()

    def take(_: Any) -> list[Outcome]:
        tried.append(1)
        if len(tried) > 5:
            enough.set()
            return []
        raise StoreError("The disk is sick.")

    consumer.start(intake(take), lambda: None)
    assert enough.wait(20)
    assert consumer.alive
    assert consumer.stop(20)
    assert caplog.text.count("The disk is sick.") == 1


def test_a_call_that_does_not_come_back_does_not_keep_the_end(consumer: InboxConsumer) -> None:
    begun, released = threading.Event(), threading.Event()

    def hang(_: Any) -> list[Outcome]:
        begun.set()
        released.wait(60)
        return []

    consumer.start(intake(hang), lambda: None)
    assert begun.wait(20)
    assert not consumer.stop(0.1)
    released.set()
    assert consumer.stop(20)
