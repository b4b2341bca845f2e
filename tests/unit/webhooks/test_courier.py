"""A courier delivers what is owed, again and again for two days, and one event's trouble is not the others'."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.errors import StoreError
from daemon.jobs import JobStatus
from daemon.store.job_store import JobStore
from daemon.store.outgoing_events import Row
from daemon.store.tinydb_table import MemoryStorage
from daemon.webhook_settings import EventType
from daemon.webhooks.courier import IDLE_SECONDS, MOST_PAUSE_SECONDS, WAITS, Courier
from daemon.webhooks.delivery import Delivery, DeliveryEnd
from daemon.webhooks.event import Event
from tests.webhook_receiver import ended_job

DONE = Delivery(DeliveryEnd.DONE)
AGAIN = Delivery(DeliveryEnd.AGAIN, "It answered 500.")
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)


class Played:
    """A receiver that says what it is told to say."""

    def __init__(self, key: str = "hook") -> None:
        self.key, self.name = key, f"https://{key}.example/"
        self.types = frozenset(EventType)
        self.told: list[str] = []
        self.answer: Callable[[Event], Delivery] = lambda event: DONE

    def deliver(self, event: Event) -> Delivery:
        self.told.append(event.event_id)
        return self.answer(event)

    def abort(self) -> None:
        """Nothing goes on."""


class Bench:
    """A courier over a store in memory, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.store = JobStore(MemoryStorage())
        self.store.events.make = lambda job: {Event.of_job(job).event_id: Event.of_job(job).to_row(["hook"])}
        self.seconds = 1000.0
        self.receiver = Played()
        self.start()

    def start(self) -> None:
        """As after a restart."""
        self.courier = Courier(
            self.receiver,
            self.store.events,
            clock=lambda: self.seconds,
            now=lambda: NOON + timedelta(seconds=self.seconds),
            jitter=lambda: 0.0,
        )
        self.store.events.heard = self._hear
        self.courier.load()

    def _hear(self, rows: Mapping[str, Row | None]) -> None:
        for event_id, row in rows.items():
            self.courier.hear(event_id, row)

    def ended(self) -> str:
        return Event.of_job(ended_job(self.store)).event_id

    def step(self, seconds: float = 0.0) -> float:
        self.seconds += seconds
        return self.courier.step(self.seconds)

    def go_on(self) -> None:
        """Step until nothing more is due now."""
        while self.step() == 0.0:
            pass


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_ends_is_told_in_order_and_then_forgotten(bench: Bench) -> None:
    assert bench.step() == IDLE_SECONDS
    ids = [bench.ended() for _ in range(3)]
    bench.go_on()
    assert bench.receiver.told == ids
    assert bench.store.events.owed_to("hook") == {}
    assert (bench.courier.delivered, bench.courier.failed_attempts) == (3, 0)


def test_a_failed_attempt_is_repeated_after_5_seconds_to_24_hours_and_then_given_up(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.receiver.answer = lambda event: AGAIN
    event_id = bench.ended()
    told_at: list[float] = []
    while len(told_at) <= len(WAITS):
        before = len(bench.receiver.told)
        while len(bench.receiver.told) == before:
            bench.seconds += bench.step()
        told_at.append(bench.seconds)
    waits = [later - earlier for earlier, later in itertools.pairwise(told_at)]
    assert waits == pytest.approx(WAITS)
    assert set(bench.receiver.told) == {event_id}
    assert (WAITS[0], WAITS[-1]) == (5.0, 86_400.0)
    assert bench.courier.health().given_up == 1
    assert bench.courier.health().waiting == 0
    assert bench.step() == IDLE_SECONDS
    row = bench.store.events.find(event_id)
    assert row is not None
    assert row["owed"]["hook"]["attempts"] == len(WAITS) + 1
    assert row["owed"]["hook"]["problem"] == "It answered 500."
    assert "not told of event" in caplog.text
    bench.start()
    assert (bench.courier.health().given_up, bench.step()) == (1, IDLE_SECONDS)


def test_waits_are_longer_by_a_fifth_at_most(bench: Bench) -> None:
    bench.receiver.answer = lambda event: AGAIN
    bench.courier._jitter = lambda: 1.0
    bench.ended()
    bench.step()
    assert bench.step() == pytest.approx(6.0)


def test_a_receiver_that_asks_to_wait_is_left_alone_for_so_long(bench: Bench) -> None:
    bench.receiver.answer = lambda event: Delivery(DeliveryEnd.AGAIN, "It answered 429.", 77.0)
    first, second = bench.ended(), bench.ended()
    bench.step()
    assert bench.step() == pytest.approx(77.0)
    assert bench.receiver.told == [first], "the others are not sent either"
    bench.receiver.answer = lambda event: DONE
    bench.seconds += 77.0
    bench.go_on()
    assert sorted(bench.receiver.told[1:]) == sorted([first, second])


def test_a_receiver_that_asks_to_wait_for_a_year_is_asked_after_a_day(bench: Bench) -> None:
    bench.receiver.answer = lambda event: Delivery(DeliveryEnd.AGAIN, "It answered 503.", 3e7)
    bench.ended()
    bench.step()
    assert bench.step() == pytest.approx(86_400.0)


def test_one_event_that_is_refused_holds_up_no_other(bench: Bench) -> None:
    poison = bench.ended()
    bench.receiver.answer = lambda event: AGAIN if event.event_id == poison else DONE
    bench.go_on()
    for _ in range(5):
        others = [bench.ended() for _ in range(5)]
        bench.step(WAITS[0])
        bench.go_on()
        bench.step(WAITS[0])
        bench.go_on()
        assert set(others) < set(bench.receiver.told)
        assert list(bench.store.events.owed_to("hook")) == [poison]
        while bench.receiver.told[-1] != poison:
            bench.seconds += bench.step()
    assert bench.receiver.told.count(poison) > 5


def test_ten_thousand_events_behind_a_dead_endpoint_are_few_attempts_and_all_arrive_when_it_is_back(
    bench: Bench,
) -> None:
    event = Event.of_job(ended_job(bench.store))
    bench.receiver.answer = lambda event: AGAIN
    rows = {f"evt_{number}": event.to_row(["hook"]) for number in range(10_000)}
    bench.store.events.add(rows)
    for _ in range(24 * 60):
        bench.step(60.0)
        assert bench.step() > 0
    assert 24 * 3600 / MOST_PAUSE_SECONDS - 10 < len(bench.receiver.told) < 24 * 3600 / MOST_PAUSE_SECONDS + 10
    assert bench.courier.health().waiting == 10_001
    bench.receiver.answer = lambda event: DONE
    bench.start()
    bench.seconds += 2 * 86_400
    bench.go_on()
    assert bench.store.events.owed_to("hook") == {}
    assert set(rows) <= set(bench.receiver.told)


def test_after_a_restart_the_waits_go_on_where_they_were(bench: Bench) -> None:
    bench.receiver.answer = lambda event: AGAIN
    bench.ended()
    for wait in (0.0, 5.0, 30.0):
        bench.step(wait)
    bench.start()
    assert bench.step() == pytest.approx(WAITS[2])
    bench.seconds -= 365 * 86_400.0  # the clock was set back while it was off
    bench.start()
    assert bench.step() <= 86_400 * 1.2


def test_410_switches_a_receiver_off_until_somebody_asks(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    first, second = bench.ended(), bench.ended()
    bench.receiver.answer = lambda event: Delivery(DeliveryEnd.GONE, "It answered 410: it wants no more events.")
    bench.go_on()
    assert bench.receiver.told == [first]
    assert "switched off" in caplog.text
    beat = bench.courier.health()
    assert (beat.waiting, beat.given_up, beat.off_since) == (2, 0, bench.store.events.off_since("hook"))
    assert beat.off_since is not None
    bench.start()
    assert bench.step() == IDLE_SECONDS
    assert bench.courier.off_since == beat.off_since
    bench.receiver.answer = lambda event: DONE
    bench.courier.ask_at_once()
    bench.go_on()
    assert bench.receiver.told[1:] == [first, second]
    assert bench.store.events.off_since("hook") is None
    assert bench.courier.health().waiting == 0


def test_what_ends_for_good_is_not_repeated_and_holds_up_nothing(bench: Bench) -> None:
    bench.receiver.answer = lambda event: Delivery(DeliveryEnd.FINAL, "sync ended with code 1.")
    ids = [bench.ended() for _ in range(3)]
    bench.go_on()
    assert bench.receiver.told == ids
    assert bench.courier.health().given_up == 3
    bench.courier.hear(ids[0], None)  # of which the store could not be told
    bench.go_on()
    assert bench.courier.health().given_up == 3
    for event_id in bench.store.events.forget("9999", ["hook"]):
        bench.courier.hear(event_id, None)
    bench.go_on()
    assert bench.courier.health().given_up == 0


def test_what_is_dropped_for_want_of_room_is_not_counted_any_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.outgoing_events.MOST_EVENTS", 4)
    bench.receiver.answer = lambda event: Delivery(DeliveryEnd.FINAL, "sync ended with code 1.")
    first = [bench.ended() for _ in range(2)]
    bench.go_on()
    bench.receiver.answer = lambda event: AGAIN
    waiting = [bench.ended() for _ in range(4)]
    bench.step()
    beat = bench.courier.health()
    assert (beat.given_up, beat.waiting) == (0, 4)
    assert list(bench.store.events.owed_to("hook")) == waiting
    bench.store.events.add({event_id: bench.store.events.find(event_id) or {} for event_id in waiting})
    assert list(bench.store.events.owed_to("hook")) == waiting, "what is there already takes no room of another"
    later = bench.ended()
    bench.step()
    assert bench.courier.health().waiting == 4
    assert list(bench.store.events.owed_to("hook")) == [*waiting[1:], later]
    assert set(first) <= set(bench.receiver.told)


def test_sending_again_what_waits_sends_it_once_and_now(bench: Bench) -> None:
    bench.receiver.answer = lambda event: AGAIN
    event_id = bench.ended()
    for wait in (0.0, 5.0, 30.0):
        bench.step(wait)
    bench.receiver.answer = lambda event: DONE
    bench.receiver.told.clear()
    [(_, row)] = bench.store.events.owed_to("hook").items()
    bench.store.events.add({event_id: {**row, "owed": {"hook": {}}}})
    bench.courier.ask_at_once()
    bench.go_on()
    bench.step(WAITS[-1] * 2)
    bench.go_on()
    assert bench.receiver.told == [event_id]


@pytest.mark.parametrize("answer", [DONE, AGAIN, Delivery(DeliveryEnd.FINAL, "It answered 400.")])
def test_a_store_that_cannot_be_written_has_no_event_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: Delivery
) -> None:
    bench.receiver.answer = lambda event: answer
    event_id = bench.ended()

    def refuse(*_: object) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(bench.store.events, "note", refuse)
        for _ in range(3):
            with pytest.raises(StoreError):
                bench.step(60.0)
    bench.step(60.0)
    assert bench.receiver.told == [event_id]
    assert (bench.courier.delivered, bench.courier.failed_attempts) == ((1, 0) if answer is DONE else (0, 1))
    owed = bench.store.events.owed_to("hook")
    assert owed == {} if answer is DONE else owed[event_id]["owed"]["hook"]["attempts"] == 1


def test_what_is_to_be_sent_again_is_although_the_last_delivery_was_not_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = bench.ended()

    def refuse(*_: object) -> None:
        raise StoreError("The disk is full.")

    row = bench.store.events.find(event_id)
    assert row is not None
    with monkeypatch.context() as patched:
        patched.setattr(bench.store.events, "note", refuse)
        with pytest.raises(StoreError):
            bench.step()
    bench.courier.hear(event_id, row)  # as ``dropframe webhooks resend`` does
    bench.go_on()
    assert bench.receiver.told == [event_id, event_id]


def test_an_error_that_nobody_expected_costs_the_event_an_attempt(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(event: Event) -> Delivery:
        raise ValueError("no such header")

    bench.receiver.answer = break_down
    event_id = bench.ended()
    assert bench.step() == 0.0
    assert bench.step() == pytest.approx(WAITS[0])
    assert "nobody expected" in caplog.text
    bench.receiver.answer = lambda event: DONE
    bench.step(WAITS[0])
    assert bench.receiver.told == [event_id, event_id]


def test_trouble_is_logged_once_and_its_end_too(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.receiver.answer = lambda event: AGAIN
    bench.ended()
    bench.go_on()
    bench.step(5.0)
    assert caplog.text.count("could not be told of an event: It answered 500.") == 1
    assert bench.courier.health().problem == "It answered 500."
    bench.receiver.answer = lambda event: DONE
    bench.step(60.0)
    bench.go_on()
    assert "is told of events again" in caplog.text
    assert bench.courier.health().problem is None


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore.open(tmp_path) as store:
        yield store


def test_the_event_is_stored_in_the_commit_that_ends_the_job(stored: JobStore, tmp_path: Path) -> None:
    stored.events.make = lambda job: {Event.of_job(job).event_id: Event.of_job(job).to_row(["hook"])}
    job = ended_job(stored, JobStatus.FAILED)
    [journal] = tmp_path.glob("jobs.*.journal")
    [line] = [line for line in journal.read_text().splitlines() if '"failed"' in line]
    assert Event.of_job(job).event_id in line
