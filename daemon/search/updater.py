"""SearchUpdater: keeps the index up with what is derived, in a thread of its own, at low priority."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.derive import files
from daemon.derive.files import DerivedKind, NotDerivedYet, NothingDerived, open_derived
from daemon.errors import DropframeError, Interrupted, ResourceUnavailable, StoredFileMissing
from daemon.fs.space import DiskGuard
from daemon.jobs import Job
from daemon.logs import LogOnce
from daemon.search.index import DamagedIndex, SearchIndex, Span, delete_index, spans_of
from daemon.search.reader import CHECK
from daemon.settings import Settings
from daemon.threads import join

log = logging.getLogger(__name__)

STEP_SECONDS = 0.5
"""Time between two looks at what is new."""
SCAN_SECONDS = 60.0
"""Time between two looks at all results, when nothing is known to have changed."""
RETRY_SECONDS = 30.0
"""Wait after an error."""
JOIN_SECONDS = 2.0
"""Time that the thread gets to end at shutdown."""
NICE = 10
"""How far behind others the thread stands in line for a processor, of 19."""


class SearchUpdater:
    """Takes results into the index as they are derived, and takes out those that are gone.

    Args:
        settings: Of the home.
        find: Returns a job by its id.
        completed: Returns how many jobs have completed; when it changes there is something to do.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], Job | None],
        completed: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir, self._check = settings.data_dir, settings.spool_dir / CHECK
        self._videos_dir = settings.videos_dir
        self._find = find
        self._completed = completed
        self._clock = clock
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._changed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="search", daemon=True)
        self._index: SearchIndex | None = None
        self._counted = -1
        self._scan_due = 0.0
        self._waiting: dict[str, None] = {}
        self._missing: set[str] = set()
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to keep up."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not finished is made the next time."""
        self._stopping.set()
        if (index := self._index) is not None:
            index.interrupt()
        join(self._thread, JOIN_SECONDS)

    def note(self, job_id: str) -> None:
        """Have a job looked at: something was derived from its result, or it is gone. Safe from any thread."""
        self._changed.put(job_id)

    def _loop(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux has a priority for each thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = RETRY_SECONDS
            try:
                self.step()
                pause = STEP_SECONDS
            except Interrupted:
                break
            except (OSError, DropframeError) as error:
                self._log_once(f"Keeping the search index goes on after an error: {error}")
            except Exception:
                log.exception("Keeping the search index goes on after an unexpected error")
        self.close()

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def step(self) -> None:
        """Do what is due.

        Raises:
            ResourceUnavailable: the index cannot be used just now.
            Interrupted: Dropframe is stopping.
            OSError: something cannot be read.
        """
        try:
            self._keep_up()
        except DamagedIndex as error:
            log.warning("%s It is made again from what was derived.", error)
            self.close()
            delete_index(self._data_dir)
            self._keep_up()
        self._log_once.solved()

    def _keep_up(self) -> None:
        index = self._opened()
        if self._check.exists():
            self._check.unlink(missing_ok=True)
            index.verify()
        if news := self._noted():
            known = index.jobs()
            for job_id in news:
                self._look(index, job_id, known)
        if (counted := self._completed()) != self._counted or self._clock() >= self._scan_due:
            self._scan(index)
            self._counted, self._scan_due = counted, self._clock() + SCAN_SECONDS
            self._settle(index)
        elif news:
            self._settle(index)

    def _noted(self) -> list[str]:
        noted: dict[str, None] = {}
        with contextlib.suppress(queue.Empty):
            while True:
                noted[self._changed.get_nowait()] = None
        return list(noted)

    def _opened(self) -> SearchIndex:
        if self._index is not None and not self._index.is_there():
            log.warning("The search index was removed; it is made again from what was derived.")
            self.close()
        if self._index is None:
            self._counted = -1  # all is to be looked at
            self._index = SearchIndex(self._data_dir)
        return self._index

    def _scan(self, index: SearchIndex) -> None:
        """Note what is to be taken in, and take out what is gone."""
        known, results = index.jobs(), files.result_ids(self._videos_dir)
        self._waiting, self._missing = {}, set()
        for job_id in sorted({*known, *results}):
            self._look(index, job_id, known)

    def _look(self, index: SearchIndex, job_id: str, known: dict[str, tuple[int, str]]) -> None:
        job = self._find(job_id)
        self._waiting.pop(job_id, None)
        self._missing.discard(job_id)
        if job is None or not files.document_of(self._data_dir, job_id).exists():
            if job_id in known:
                index.remove(known[job_id][0])
            return
        made_from = _made_from(files.folder_of(self._data_dir, job_id))
        if made_from is None:
            self._missing.add(job_id)
        elif known.get(job_id) != (job.sequence, made_from):
            self._waiting[job_id] = None

    def _settle(self, index: SearchIndex) -> None:
        """Take in what waits, the newest jobs first."""
        if self._waiting or self._missing:
            index.set_complete(False)
        jobs = [job for job in map(self._find, self._waiting) if job is not None]
        for job in sorted(jobs, key=lambda job: -job.sequence):
            if problem := self._disk.shortage():
                raise ResourceUnavailable(problem)
            if not self._take_in(index, job):
                self._missing.add(job.job_id)
            del self._waiting[job.job_id]
        if not self._missing:
            index.set_complete(True)

    def _take_in(self, index: SearchIndex, job: Job) -> bool:
        """Take a job in, and tell whether that was possible: what is derived may just be made anew."""
        made_from = _made_from(files.folder_of(self._data_dir, job.job_id))
        spans: Iterator[Span] = iter(())
        with contextlib.ExitStack() as stack:
            try:
                texts, tracks = (
                    stack.enter_context(open_derived(self._data_dir, job.job_id, kind))
                    for kind in (DerivedKind.TEXTS, DerivedKind.TRACKS)
                )
                spans = spans_of(texts, tracks)
            except NothingDerived:
                pass
            except (NotDerivedYet, StoredFileMissing):
                return False
            if made_from is not None:
                index.put(job.sequence, job.job_id, made_from, self._unless_stopping(spans))
        return made_from is not None

    def _unless_stopping(self, spans: Iterator[Span]) -> Iterator[Span]:
        for span in spans:
            if self._stopping.is_set():
                raise Interrupted("Dropframe is stopping.")
            yield span


def _made_from(folder: Path) -> str | None:
    """Return what tells one making of a job's derived files from another; None where there are none."""
    for names in ((DerivedKind.TEXTS.file_name, DerivedKind.TRACKS.file_name), (files.PROBLEM,)):
        with contextlib.suppress(FileNotFoundError):
            found = [os.stat(folder / name, follow_symlinks=False) for name in names]
            return " ".join(
                f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in zip(names, found, strict=True)
            )
    return None
