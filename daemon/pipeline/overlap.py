"""Run the steps of a pipeline side by side: each in a thread of its own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

END = object()


@contextmanager
def overlap(items: Iterable[T], ahead: int) -> Iterator[Iterator[T]]:
    """Make ``items`` in a thread while the caller works on earlier ones.

    An error in the making is raised again in the caller, at the place where the item would have been. When the
    block is left the maker is stopped and its thread has ended.

    Args:
        items: What to make; it must be used nowhere else.
        ahead: Items made and not yet taken, at most.
    """
    made: queue.Queue[object] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(_Failure(error))
        else:
            put(END)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def taken() -> Iterator[T]:
        while (item := made.get()) is not END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=make, name="pipeline-step", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
