"""Whoever is to be told of events is told, each by itself; a person can have them sent again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.errors import StoreError
from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import ErrorKind, Job, JobStatus, new_job_id
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.store.outgoing_events import OutgoingEvents
from daemon.store.tinydb_table import MemoryStorage
from daemon.webhook_settings import WebhookSettings
from daemon.webhooks import notifications as notifications_module
from daemon.webhooks.event import Event
from daemon.webhooks.notifications import KEEP_DAYS, Notifications, receivers_of
from daemon.webhooks.resend import UNDELIVERED, ResendRequest, ask, asked_for
from tests.webhook_receiver import EventReceiver, Sent, ended_job, receiving, wait_until

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def receiver() -> Iterator[EventReceiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def store() -> JobStore:
    return JobStore(MemoryStorage())


class Telling:
    """Notifications that run."""

    def __init__(self, home: Path, store: JobStore, *webhooks: WebhookSettings, on_completed: list[str] | None = None):
        self.settings = Settings(home=home, webhooks=list(webhooks), on_completed=on_completed or [])
        self.store = store
        receivers = receivers_of(self.settings, store, "urn:dropframe:test", lambda job: f"/outbox/{job.job_id}")
        self.notifications = Notifications(self.settings, store, receivers)

    def __enter__(self) -> Notifications:
        self.notifications.start()
        return self.notifications

    def __exit__(self, *_: object) -> None:
        self.notifications.stop()


def rejected(name: str, told_at: str = "2027-01-15T12:00:00.000000+00:00") -> RejectedRecord:
    return RejectedRecord(name, f"rejected/{name}", "It is text.", told_at, 4, told_at, told=False)


def test_each_kind_of_event_is_told(tmp_path: Path, store: JobStore, receiver: EventReceiver) -> None:
    with Telling(tmp_path, store, receiver.settings()) as telling:
        completed = ended_job(store)
        failed = ended_job(store, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED, error_message="Cancelled.")
        telling.rejected([rejected("c.txt.mp4")])
        wait_until(lambda: telling.totals["events_delivered"] == 3)
    told = {sent.told["type"]: sent.told["data"] for sent in receiver.sent}
    assert told["job.completed"]["job_id"] == completed.job_id
    assert (told["job.failed"]["job_id"], told["job.failed"]["error_kind"]) == (failed.job_id, "cancelled")
    assert told["job.rejected"]["name"] == "c.txt.mp4"
    assert telling.totals == {"events_delivered": 3, "event_attempts_failed": 0}


def test_a_job_that_fails_as_it_is_made_is_told_too(tmp_path: Path, store: JobStore, receiver: EventReceiver) -> None:
    with Telling(tmp_path, store, receiver.settings()):
        store.create([Job(new_job_id(), status=JobStatus.FAILED, error_message="Its options are wrong.")])
        store.create([Job(new_job_id())])
        wait_until(lambda: receiver.sent)
    assert [sent.told["type"] for sent in receiver.sent] == ["job.failed"]


def test_only_what_an_endpoint_wants_is_told(tmp_path: Path, store: JobStore, receiver: EventReceiver) -> None:
    with Telling(tmp_path, store, receiver.settings(events=["job.failed"])):
        ended_job(store)
        ended_job(store, JobStatus.FAILED)
        wait_until(lambda: receiver.sent)
    assert [sent.told["type"] for sent in receiver.sent] == ["job.failed"]


def test_a_change_that_is_no_end_is_told_to_nobody(tmp_path: Path, store: JobStore, receiver: EventReceiver) -> None:
    telling = Telling(tmp_path, store, receiver.settings())
    job = ended_job(store, JobStatus.FAILED, unpublished_error=True)
    store.note(job.job_id, unpublished_error=False)
    store.move(job.job_id, JobStatus.PENDING)
    assert len(store.events.owed_to(receiver.settings().key)) == 1
    assert telling.notifications.health()[0].waiting == 0  # it has not been started


def test_without_receivers_nothing_is_stored_and_nothing_runs(tmp_path: Path, store: JobStore) -> None:
    with Telling(tmp_path, store) as telling:
        ended_job(store)
        telling.rejected([rejected("a.mp4")])
        assert store.events.forget("9999", []) == []
        assert not any(thread.name == "notifications" for thread in threading.enumerate())
    assert (telling.health(), telling.totals) == ((), {})


def test_a_change_that_could_not_be_stored_is_told_to_nobody(
    tmp_path: Path, store: JobStore, receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Telling(tmp_path, store, receiver.settings()):
        [job] = store.create([Job(new_job_id(), source_name="a.mp4")])
        store.move(job.job_id, JobStatus.RUNNING)

        def refuse(*_: object, **__: object) -> None:
            raise StoreError("The disk is full.")

        with monkeypatch.context() as patched:
            patched.setattr(store._storage, "append_all", refuse)
            with pytest.raises(StoreError):
                store.move(job.job_id, JobStatus.COMPLETED, finished_at="2027-01-15T12:00:00.000000+00:00")
        second = ended_job(store)
        wait_until(lambda: receiver.sent)
    assert [sent.told["data"]["job_id"] for sent in receiver.sent] == [second.job_id]


def test_an_endpoint_that_hangs_holds_up_no_other_and_no_end(
    tmp_path: Path, store: JobStore, receiver: EventReceiver
) -> None:
    release = threading.Event()
    with receiving() as hanging:
        hanging.answer = lambda sent: (release.wait(30), (200, {}))[1]
        begun = time.monotonic()
        with Telling(tmp_path, store, hanging.settings(), receiver.settings()):
            jobs = [ended_job(store) for _ in range(20)]
            wait_until(lambda: len(receiver.sent) == 20)
        assert time.monotonic() - begun < 30
        assert {sent.told["data"]["job_id"] for sent in receiver.sent} == {job.job_id for job in jobs}
        assert len(store.events.owed_to(hanging.settings().key)) == 20
        release.set()


def test_ten_thousand_events_behind_a_dead_endpoint_hold_up_neither_jobs_nor_the_others(
    tmp_path: Path, store: JobStore, receiver: EventReceiver
) -> None:
    dead = receiver.settings(url="http://127.0.0.1:9/dead")
    event = Event.of_job(ended_job(store))
    rows = {f"evt_{number}": event.to_row([dead.key]) for number in range(10_000)}
    store.events.add(rows)
    with Telling(tmp_path, store, dead, receiver.settings()) as telling:
        begun = time.monotonic()
        jobs = [ended_job(store) for _ in range(50)]
        wait_until(lambda: telling.totals["events_delivered"] == 50)
        assert time.monotonic() - begun < 30
        beats = telling.health()
    assert {beat.waiting for beat in beats} == {0, 10_050}
    assert {sent.told["data"]["job_id"] for sent in receiver.sent} == {job.job_id for job in jobs}


def test_what_was_owed_at_the_end_is_told_after_the_next_start_with_the_same_id(
    tmp_path: Path, receiver: EventReceiver
) -> None:
    with JobStore.open(tmp_path / "data") as store:
        receiver.answer = lambda sent: (500, {})
        with Telling(tmp_path, store, receiver.settings()):
            ended_job(store)
            wait_until(lambda: receiver.sent)
    receiver.answer = lambda sent: (204, {})
    with JobStore.open(tmp_path / "data") as store, Telling(tmp_path, store, receiver.settings()) as telling:
        ask(tmp_path / "data" / "spool", ResendRequest(UNDELIVERED))
        telling.step(NOW)
        wait_until(lambda: len(receiver.sent) == 2)
        wait_until(lambda: not store.events.owed_to(receiver.settings().key))
    assert len(set(receiver.ids)) == 1
    assert receiver.sent[0].body == receiver.sent[1].body


def test_a_person_has_the_event_of_a_job_sent_again_with_the_same_id(
    tmp_path: Path, store: JobStore, receiver: EventReceiver
) -> None:
    with receiving() as other, Telling(tmp_path, store, receiver.settings(), other.settings()) as telling:
        job = ended_job(store)
        wait_until(lambda: telling.totals["events_delivered"] == 2)
        spool = tmp_path / "data" / "spool"
        ask(spool, ResendRequest(job.job_id, receiver.settings().key))
        ask(spool, ResendRequest(new_job_id()))
        telling.step(NOW)
        wait_until(lambda: len(receiver.sent) == 2)
        assert asked_for(spool) == []
    assert receiver.ids[0] == receiver.ids[1]
    assert receiver.sent[0].body == receiver.sent[1].body
    assert len(other.sent) == 1


def test_an_endpoint_that_answered_410_is_told_nothing_until_a_person_asks(
    tmp_path: Path, store: JobStore, receiver: EventReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = lambda sent: (410, {})
    with Telling(tmp_path, store, receiver.settings()) as telling:
        ended_job(store)
        wait_until(lambda: telling.health()[0].off_since)
        ended_job(store)
        assert telling.health()[0].waiting == 1
    assert len(receiver.sent) == 1
    receiver.answer = lambda sent: (200, {})
    with Telling(tmp_path, store, receiver.settings()) as telling:
        assert telling.health()[0].off_since
        ask(tmp_path / "data" / "spool", ResendRequest(UNDELIVERED))
        telling.step(NOW)
        wait_until(lambda: len(receiver.sent) == 2)
        third = ended_job(store)
        wait_until(lambda: len(receiver.sent) == 3)
    assert receiver.ids[0] == receiver.ids[1]
    assert receiver.sent[2].told["data"]["job_id"] == third.job_id


def test_a_command_is_run_with_the_record_of_each_job_that_completes(tmp_path: Path, store: JobStore) -> None:
    with Telling(tmp_path, store, on_completed=["sh", "-c", "cat > told.json; mv told.json done.json"]):
        ended_job(store, JobStatus.FAILED)
        job = ended_job(store, output_path="video_jobs/x_results.json", summary={"frame_count": 3})
        wait_until((tmp_path / "done.json").exists)
    told = json.loads((tmp_path / "done.json").read_text())
    assert (told["job_id"], told["status"], told["summary"]) == (job.job_id, "completed", {"frame_count": 3})
    assert told["result_path"] == f"{tmp_path}/data/video_jobs/x_results.json"
    assert told["outbox_path"] == f"/outbox/{job.job_id}"


def test_a_command_that_failed_is_shown_and_can_be_run_again(
    tmp_path: Path, store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    fails_once = "test -e ran || { touch ran; echo the NAS is away >&2; exit 1; }; touch done"
    with Telling(tmp_path, store, on_completed=["sh", "-c", fails_once]) as telling:
        job = ended_job(store)
        wait_until(lambda: telling.health()[0].given_up)
        assert telling.health()[0].problem == "sh ended with code 1: the NAS is away"
        assert "the NAS is away" in caplog.text
        ask(tmp_path / "data" / "spool", ResendRequest(job.job_id, "on_completed"))
        telling.step(NOW)
        wait_until((tmp_path / "done").exists)


def test_an_event_is_about_what_was_even_if_the_job_is_deleted(
    tmp_path: Path, store: JobStore, receiver: EventReceiver
) -> None:
    telling = Telling(tmp_path, store, receiver.settings())
    job = ended_job(store)
    store.delete(job)
    with telling:
        wait_until(lambda: receiver.sent)
    assert receiver.sent[0].told["data"]["job_id"] == job.job_id


def test_what_was_given_up_or_is_nobodys_is_forgotten_after_a_month(tmp_path: Path, store: JobStore) -> None:
    settings = WebhookSettings(url="http://127.0.0.1:9/", secret="whsec_" + "A" * 44, allow_private=True)
    telling = Telling(tmp_path, store, settings).notifications
    key = settings.key
    event = Event.of_job(ended_job(store))
    old = {**event.to_row([key]), "time": "2026-12-01T00:00:00.000000+00:00"}
    store.events.add(
        {
            "waits": {**old, "owed": {key: {"attempts": 3}}},
            "given up": {**old, "owed": {key: {"given_up": "2026-12-03"}}},
            "nobody's": {**old, "owed": {"elsewhere": {}}},
            "one of two": {**old, "owed": {key: {}, "elsewhere": {"given_up": "2026-12-03"}}},
            "young": {**old, "time": "2027-01-14T00:00:00.000000+00:00", "owed": {key: {"given_up": "2027-01-14"}}},
        }
    )
    telling.step(NOW)
    assert KEEP_DAYS == 30
    assert set(store.events.owed_to(key)) == {event.event_id, "waits", "one of two", "young"}
    assert store.events.find("nobody's") is None
    telling.step(NOW + timedelta(days=60))  # not an hour later
    assert store.events.find("young") is not None
    store.events.switch_off(key, "2027-01-15T12:00:00.000000+00:00")
    again = Telling(tmp_path, store, settings).notifications
    again.step(NOW)
    assert set(store.events.owed_to(key)) == {"young"}


def test_there_is_a_bound_above_which_the_oldest_events_are_dropped(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.store.outgoing_events.MOST_EVENTS", 5)
    events: OutgoingEvents = store.events
    events.make = lambda job: {Event.of_job(job).event_id: Event.of_job(job).to_row(["a"])}
    ids = [Event.of_job(ended_job(store)).event_id for _ in range(8)]
    assert list(events.owed_to("a")) == ids[3:]
    assert caplog.text.count("the oldest are dropped") == 1


def test_the_loops_outlive_what_nobody_expected(
    tmp_path: Path,
    store: JobStore,
    receiver: EventReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(notifications_module, "STEP_SECONDS", 0.01)
    monkeypatch.setattr("daemon.webhooks.courier.STORE_SECONDS", 0.01)
    failures = [RuntimeError("first"), StoreError("second"), OSError("third")]
    find, asked = store.events.find, notifications_module.resend.asked_for

    def fails(then: Callable[[object], object]) -> Callable[[object], object]:
        left = list(failures)

        def call(argument: object) -> object:
            if left:
                raise left.pop()
            return then(argument)

        return call

    monkeypatch.setattr(store.events, "find", fails(find))
    monkeypatch.setattr(notifications_module.resend, "asked_for", fails(asked))
    with Telling(tmp_path, store, receiver.settings()):
        job = ended_job(store)
        wait_until(lambda: receiver.sent and not store.events.owed_to(receiver.settings().key))
        ask(tmp_path / "data" / "spool", ResendRequest(job.job_id))
        wait_until(lambda: len(receiver.sent) == 2)
    assert caplog.text.count("goes on after an unexpected error") == 2


def test_a_receiver_is_told_by_one_attempt_at_a_time(tmp_path: Path, store: JobStore, receiver: EventReceiver) -> None:
    at_once: list[int] = []
    running = threading.Semaphore(1)

    def answer(sent: Sent) -> tuple[int, dict[str, str]]:
        at_once.append(running.acquire(blocking=False))
        time.sleep(0.01)
        running.release()
        return 200, {}

    receiver.answer = answer
    with Telling(tmp_path, store, receiver.settings()):
        for _ in range(20):
            ended_job(store)
        wait_until(lambda: len(receiver.sent) == 20)
    assert all(at_once)
