"""Making items in a thread while earlier ones are worked on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from daemon.pipeline.overlap import in_threads, overlap, spread


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_items_come_in_order() -> None:
    with overlap(range(500), 3) as items:
        assert list(items) == list(range(500))


def test_no_more_is_made_ahead_than_asked_for() -> None:
    made: list[int] = []
    full = threading.Event()

    def make() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 4:
                full.set()
            yield number

    with overlap(make(), 3) as items:
        assert next(items) == 0
        assert full.wait(5)
        assert not threading.Event().wait(0.3)
        assert len(made) == 5  # one taken, three ahead, one in hand


def test_making_and_taking_go_side_by_side() -> None:
    taken, made = threading.Event(), threading.Event()

    def make() -> Iterator[int]:
        yield 1
        assert taken.wait(5)  # only true if the taker works meanwhile
        made.set()
        yield 2

    with overlap(make(), 1) as items:
        assert next(items) == 1
        taken.set()
        assert made.wait(5)
        assert next(items) == 2


def test_an_error_comes_at_its_place_and_is_the_same_object() -> None:
    error = ValueError("at two")

    def make() -> Iterator[int]:
        yield 0
        yield 1
        raise error

    got: list[int] = []

    def take() -> None:
        with overlap(make(), 5) as items:
            got.extend(items)

    with pytest.raises(ValueError, match="at two") as caught:
        take()
    assert got == [0, 1]
    assert caught.value is error


def test_leaving_early_ends_the_maker_and_closes_what_it_iterates() -> None:
    closed = threading.Event()

    def make() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with overlap(make(), 2) as items:
        next(items)
    assert closed.is_set()


def test_an_error_in_the_taker_ends_a_whole_chain() -> None:
    def plus_one(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            yield item + 1

    def take() -> None:
        with overlap(range(10**6), 2) as a, overlap(plus_one(a), 2) as b, overlap(plus_one(b), 2) as c:
            for item in c:
                if item == 50:
                    raise KeyError(item)

    with pytest.raises(KeyError, match="50"):
        take()


def test_an_error_in_the_middle_of_a_chain_reaches_its_end() -> None:
    def fail(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item == 20:
                raise OSError("disk")
            yield item

    def take() -> None:
        with overlap(range(10**6), 2) as a, overlap(fail(a), 2) as b, overlap(b, 2) as c:
            got.extend(c)

    got: list[int] = []
    with pytest.raises(OSError, match="disk"):
        take()
    assert got == list(range(20))


@pytest.mark.parametrize("threads", [1, 4])
def test_several_threads_give_in_order_and_an_error_comes_where_it_belongs(threads: int) -> None:
    def numbers() -> Iterator[int]:
        yield from range(20)
        raise ValueError("cut off")

    made = in_threads(lambda number: number * 2, numbers(), threads)
    got = list(itertools.islice(made, 20))
    with pytest.raises(ValueError, match="cut off"):
        next(made)
    assert got == [number * 2 for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // number, range(9), threads))


def test_few_items_are_made_ahead_in_several_threads() -> None:
    taken: list[int] = []
    with closing(in_threads(int, (taken.append(n) or n for n in range(99)), 2)) as made:  # type: ignore[type-var]
        assert next(made) == 0
        assert len(taken) == 3
    assert len(taken) == 3


def test_the_pictures_of_a_batch_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr("daemon.pipeline.overlap._helpers", lambda: pool)
        assert list(spread(lambda number: -number, range(50))) == [-number for number in range(50)]
