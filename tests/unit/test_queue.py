"""The queue: first in, first out by sequence, among the entries that are due."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.jobs import Job, JobStatus, new_job_id
from daemon.queue import InMemoryQueueService
from daemon.store.job_store import JobStore
from daemon.store.tinydb_table import MemoryStorage


@pytest.fixture
def queue() -> InMemoryQueueService:
    return InMemoryQueueService()


def drain(queue: InMemoryQueueService, now: float = 0.0) -> list[str]:
    found = []
    while (job_id := queue.dequeue(now)) is not None:
        found.append(job_id)
    return found


def test_an_empty_queue_gives_nothing(queue: InMemoryQueueService) -> None:
    assert queue.dequeue(0.0) is None
    assert queue.dequeue() is None
    assert (queue.size(), queue.next_due()) == (0, None)


def test_the_lowest_sequence_leaves_first_whatever_came_first(queue: InMemoryQueueService) -> None:
    for sequence in (3, 1, 2):
        queue.enqueue(f"job{sequence}", sequence)
    assert queue.size() == 3
    assert drain(queue) == ["job1", "job2", "job3"]


def test_jobs_without_a_sequence_leave_in_the_order_of_their_arrival(queue: InMemoryQueueService) -> None:
    for job_id in "cab":
        queue.enqueue(job_id)
    assert drain(queue) == ["c", "a", "b"]


def test_a_job_without_a_sequence_comes_after_all_that_had_one(queue: InMemoryQueueService) -> None:
    queue.enqueue("seventh", 7)
    queue.enqueue("eighth")
    queue.enqueue("third", 3)
    queue.enqueue("ninth")
    assert drain(queue) == ["third", "seventh", "eighth", "ninth"]


def test_a_job_keeps_its_place_when_only_its_wait_changes(queue: InMemoryQueueService) -> None:
    queue.enqueue("a")
    queue.enqueue("b")
    queue.enqueue("a", due=10.0)
    assert drain(queue, 9.0) == ["b"]
    queue.enqueue("c")
    assert drain(queue, 10.0) == ["a", "c"]


def test_a_job_that_waits_for_its_next_attempt_does_not_hold_up_the_others(queue: InMemoryQueueService) -> None:
    queue.enqueue("early", 1, due=10.0)
    queue.enqueue("late", 2)
    assert queue.dequeue(9.9) == "late"
    assert queue.dequeue(9.9) is None
    assert queue.next_due() == 10.0
    assert queue.dequeue(10.0) == "early"


def test_a_job_whose_wait_is_over_goes_before_later_ones(queue: InMemoryQueueService) -> None:
    queue.enqueue("early", 1, due=10.0)
    queue.enqueue("late", 2)
    assert drain(queue, 11.0) == ["early", "late"]


def test_a_job_is_in_the_queue_once(queue: InMemoryQueueService) -> None:
    for _ in range(3):
        queue.enqueue("a", 1)
    assert queue.size() == 1
    assert drain(queue) == ["a"]


def test_putting_a_job_in_again_moves_it(queue: InMemoryQueueService) -> None:
    queue.enqueue("a", 1)
    queue.enqueue("a", 1, due=10.0)
    assert drain(queue, 9.0) == []
    queue.enqueue("a", 1)
    assert drain(queue, 9.0) == ["a"]
    assert drain(queue, 11.0) == []


def test_a_removed_job_does_not_come_back_as_a_ghost(queue: InMemoryQueueService) -> None:
    queue.enqueue("a", 1)
    queue.enqueue("b", 2)
    assert queue.remove("a")
    assert not queue.remove("a")
    assert queue.size() == 1
    queue.enqueue("a", 1, due=5.0)
    assert drain(queue, 4.0) == ["b"]
    assert drain(queue, 5.0) == ["a"]


def test_it_is_rebuilt_from_the_store_in_the_same_order() -> None:
    store = JobStore(MemoryStorage())
    jobs = store.create([Job(new_job_id()) for _ in range(5)])
    store.move(jobs[1].job_id, JobStatus.RUNNING)
    queue = InMemoryQueueService()
    for job in reversed(store.jobs(JobStatus.PENDING)):
        queue.enqueue(job.job_id, job.sequence)
    assert drain(queue) == [jobs[i].job_id for i in (0, 2, 3, 4)]


steps = st.lists(
    st.tuples(st.just("enqueue"), st.integers(0, 6), st.integers(0, 5))
    | st.tuples(st.just("remove"), st.integers(0, 6), st.just(0))
    | st.tuples(st.just("dequeue"), st.just(0), st.integers(0, 6)),
    max_size=60,
)


@given(steps)
def test_it_does_what_a_plain_list_would(steps: list[tuple[str, int, int]]) -> None:
    queue = InMemoryQueueService()
    model: dict[int, int] = {}
    now = 0
    for action, number, time in steps:
        if action == "enqueue":
            queue.enqueue(str(number), number, now + time)
            model[number] = now + time
        elif action == "remove":
            assert queue.remove(str(number)) == (model.pop(number, None) is not None)
        else:
            now += time
            wanted = min((n for n, due in model.items() if due <= now), default=None)
            assert queue.dequeue(now) == (None if wanted is None else str(wanted))
            model.pop(wanted, None)  # type: ignore[arg-type]
        assert queue.size() == len(model)
        assert queue.next_due() == min(model.values(), default=None)


def test_threads_lose_nothing_and_get_nothing_twice(queue: InMemoryQueueService) -> None:
    number = 2000
    taken: list[str] = []
    begin = threading.Barrier(6)
    full = threading.Event()

    def put(first: int) -> None:
        begin.wait()
        for sequence in range(first, number, 3):
            queue.enqueue(f"job{sequence}", sequence)

    def take() -> None:
        begin.wait()
        while not full.is_set() or queue.size():
            job_id = queue.dequeue(0.0)
            if job_id is not None:
                taken.append(job_id)

    def thread(target: Callable[..., None], *arguments: int) -> threading.Thread:
        made = threading.Thread(target=target, args=arguments)
        made.start()
        return made

    putters = [thread(put, first) for first in range(3)]
    takers = [thread(take) for _ in range(3)]
    for putter in putters:
        putter.join()
    full.set()
    for taker in takers:
        taker.join()
    assert sorted(taken) == sorted(f"job{n}" for n in range(number))
