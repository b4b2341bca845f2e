"""Run the steps of a pipeline side by side: each in a thread of its own, with bounded queues between them; and one
step in several threads."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

END = object()
MOST_HELPERS = 8
"""Threads that share the work on the pictures of a batch, at most; one for each two cores."""


@contextmanager
def overlap(items: Iterable[T], ahead: int) -> Iterator[Iterator[T]]:
    """Make ``items`` in a thread while the caller works on earlier ones.

    An error in the making is raised again in the caller, at the place where the item would have been. When the
    block is left the maker is stopped and its thread has ended.

    Args:
        items: What to make; it must be used nowhere else.
        ahead: Items made and not yet taken, at most.
    """
    maker = _Maker(items, ahead)
    thread = threading.Thread(target=maker.make, name="pipeline-step", daemon=True)
    thread.start()
    try:
        yield maker.taken()
    finally:
        maker.stopped.set()
        thread.join()


class _Maker(Generic[T]):
    def __init__(self, items: Iterable[T], ahead: int) -> None:
        self._items = items
        self._made: queue.Queue[object] = queue.Queue(ahead)
        self.stopped = threading.Event()

    def make(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._put(_Failure(error))
        else:
            self._put(END)
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def taken(self) -> Iterator[T]:
        while (item := self._made.get()) is not END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    def _put(self, item: object) -> bool:
        while not self.stopped.is_set():
            try:
                self._made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def in_threads(function: Callable[[T], U], items: Iterable[T], threads: int) -> Generator[U]:
    """Yield what a function makes of each item, in order, working on as many items at once as there are threads.

    An error in the making of the items is raised after what was made of those before it.

    Args:
        function: Safe to be called from several threads.
        items: Taken in the caller's thread.
        threads: With 1 the caller's thread does all, and nothing is made ahead.
    """
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[U]] = deque()
    failure: Exception | None = None
    rest = iter(items)
    with ThreadPoolExecutor(threads, "pipeline-part") as pool:
        while failure is None:
            try:
                waiting.append(pool.submit(function, next(rest)))
            except StopIteration:
                break
            except Exception as error:
                failure = error
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if failure is not None:
        raise failure


def spread(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Give what a function makes of each item, in order: on a machine of many cores several are worked on at once, on
    others each when it is asked for.

    Args:
        function: Safe to be called from several threads.
        items: Few, such as the pictures of a batch.
    """
    helpers = _helpers()
    return map(function, items) if helpers is None else helpers.map(function, items)


@cache
def _helpers() -> ThreadPoolExecutor | None:
    count = min(MOST_HELPERS, len(os.sched_getaffinity(0)) // 2)
    return ThreadPoolExecutor(count, "pipeline-helper") if count > 1 else None
