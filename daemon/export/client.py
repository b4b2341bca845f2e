"""Exporting in child processes, two at most: what becomes of a child never touches a job.

``export_now`` makes one export and waits; ``Exports`` makes what is asked for, in threads of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from daemon.derive.files import (
    DerivedKind,
    NotDerivedYet,
    NothingDerived,
    document_of,
    open_derived,
    request_derivation,
)
from daemon.errors import DropframeError, Interrupted, StoredFileMissing
from daemon.export import files
from daemon.export.files import ExportPlace, NotExported
from daemon.export_formats import BadExport
from daemon.fs.atomic import sweep
from daemon.fs.space import DiskGuard
from daemon.ipc import background
from daemon.jobs import Job
from daemon.logs import LogOnce
from daemon.pipeline.video_limits import Limits
from daemon.settings import Settings
from daemon.threads import join

log = logging.getLogger(__name__)

AT_A_TIME = 2
"""Most children; of those that draw on videos, which take long, only one."""
STEP_SECONDS = 0.5
"""Time between two looks at what is asked for."""
SWEEP_SECONDS = 60.0
"""Time between two removals of exports that nobody needs any more."""
LEFTOVER_SECONDS = 6 * 3600.0
"""Age at which an unfinished file was left by a child that was killed."""
JOIN_SECONDS = 2.0
"""Time that the threads get to end their children at shutdown."""
LEFTOVER = re.compile(r"\.parquet-.*|\.\d+-[0-9a-f]{12}\.tmp")


def export_now(
    settings: Settings, place: ExportPlace, source_name: str, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Export in a child, and wait for it. What has to be derived is there already.

    Raises:
        NotExported: it cannot be made, or not now.
        StoredFileMissing: the result was deleted.
        Interrupted: ``should_stop`` said so.
    """
    document = document_of(settings.data_dir, place.job_id)
    name = source_name.rpartition("/")[2] or place.job_id
    limits = json.dumps(asdict(Limits.of(settings)))
    arguments = [str(settings.data_dir), place.job_id, place.request.to_json(), json.dumps(name), limits]
    disk = DiskGuard(settings.data_dir, settings.min_free_bytes)

    def look() -> bool:
        if problem := disk.shortage():
            raise NotExported(f"Exporting was given up: {problem}", final=False)
        return should_stop() or not document.exists()

    try:
        answer = background.run("daemon.export.process", arguments, look)
    except background.BackgroundFailed as error:
        raise NotExported(f"Exporting failed: {error}", final=error.final) from error
    except Interrupted:
        if document.exists():
            raise
    if not document.exists():  # whoever deleted it may have looked before the child wrote
        files.forget(settings.data_dir, place.job_id)
        raise StoredFileMissing(f"The result of job {place.job_id} has been deleted.")
    if answer.kind == "refused":
        raise NotExported(answer.message, final=True)
    if answer.kind != "done":
        raise NotExported(f"Exporting failed: {answer.message}", final=False)


def has_what_it_needs(settings: Settings, place: ExportPlace) -> bool:
    """Tell whether what an export is made from is there; False while it has to be derived.

    Raises:
        NotExported: it cannot be derived.
        StoredFileMissing: there is no result.
        OSError: it cannot be read.
    """
    kind = place.request.kind.derived
    if kind is None:
        return True
    try:
        open_derived(settings.data_dir, place.job_id, DerivedKind(kind)).close()
    except NothingDerived as error:
        raise NotExported(str(error), final=True) from error
    except NotDerivedYet:
        return False
    return True


@dataclass(frozen=True)
class Wanted:
    """An export that somebody waits for."""

    place: ExportPlace
    source_name: str

    @property
    def draws(self) -> bool:
        """Whether it is drawn on the video."""
        return self.place.request.kind.draws


@dataclass(frozen=True)
class AtWork:
    """An export that is being made."""

    thread: threading.Thread
    wanted: Wanted


class Exports:
    """Makes the exports that the spool asks for.

    Args:
        settings: Of the home.
        find: Returns a job by its id.
        owed: Returns the formats of a job that are to be copied from where they are made.
    """

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], Job | None],
        owed: Callable[[Job], Collection[str]] = files.owed_exports,
    ) -> None:
        self._settings = settings
        self._find = find
        self._owed = owed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="exports", daemon=True)
        self._at_work: dict[str, AtWork] = {}
        """By the name of what asked for it."""
        self._sweep_in = 0.0
        self._disk = DiskGuard(settings.data_dir, settings.min_free_bytes)
        self._log_once = LogOnce(log)

    def start(self) -> None:
        """Begin to look for what is asked for."""
        self._thread.start()

    def stop(self) -> None:
        """End the children and the threads; what was not finished is still asked for."""
        self._stopping.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (self._thread, *(at_work.thread for at_work in self._at_work.values())):
            join(thread, deadline - time.monotonic())

    def _loop(self) -> None:
        while not self._stopping.wait(STEP_SECONDS):
            try:
                self.step()
            except (OSError, DropframeError) as error:
                self._log_once(f"Exporting goes on after an error: {error}")
            except Exception:
                log.exception("Exporting goes on after an unexpected error")

    def step(self) -> None:
        """Do what is due: begin to make what is asked for, and remove what is not needed any more."""
        self._sweep_in -= STEP_SECONDS
        if self._sweep_in <= 0:
            self._sweep_in = SWEEP_SECONDS
            self._sweep()
        self._at_work = {name: at_work for name, at_work in self._at_work.items() if at_work.thread.is_alive()}
        for name in files.asked_for(self._settings.spool_dir):
            if len(self._at_work) >= AT_A_TIME:
                return
            if name not in self._at_work and (wanted := self._wanted(name)) and not self._must_wait(wanted):
                if problem := self._disk.shortage():
                    self._log_once(f"Exporting waits: {problem}")
                    return
                # The thread that starts a child lives until the child has ended, as the child ends with it.
                thread = threading.Thread(target=self._make, args=(name, wanted), name="export", daemon=True)
                self._at_work[name] = AtWork(thread, wanted)
                thread.start()

    def _must_wait(self, wanted: Wanted) -> bool:
        """Tell whether it would keep others waiting for as long as a video."""
        return wanted.draws and any(at_work.wanted.draws for at_work in self._at_work.values())

    def _wanted(self, name: str) -> Wanted | None:
        """Return what a file of the spool asks for, once it can be made; one that asks for nothing is removed."""
        try:
            job_id, request = files.read_request(self._settings.spool_dir / name)
            job = self._find(job_id)
            place = ExportPlace.of(self._settings.data_dir, job_id, request)
        except (BadExport, FileNotFoundError):
            self._answered(name)
            return None
        if job is None or place.request_name != name or place.path.exists():
            self._answered(name)  # of a result that was made anew, or another request made it
            return None
        try:
            if has_what_it_needs(self._settings, place):
                return Wanted(place, job.source_name)
            request_derivation(self._settings.spool_dir, job_id)
        except NotExported as error:
            self._refuse(name, place, error)
        return None

    def _make(self, name: str, wanted: Wanted) -> None:
        try:
            export_now(self._settings, wanted.place, wanted.source_name, self._stopping.is_set)
        except Interrupted:
            return
        except NotExported as error:
            self._refuse(name, wanted.place, error)
            return
        except (OSError, DropframeError) as error:
            log.warning("The export %s: %s", name, error)
        self._answered(name)

    def _refuse(self, name: str, place: ExportPlace, error: NotExported) -> None:
        log.warning("The export %s of job %s could not be made: %s", place.request.format, place.job_id, error)
        with contextlib.suppress(OSError):  # then those who ask go on waiting, and ask again
            place.write_problem(error)
        self._answered(name)

    def _answered(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._settings.spool_dir / name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        data_dir = self._settings.data_dir
        for job_id in files.exported_ids(data_dir):
            if not document_of(data_dir, job_id).exists():
                files.forget(data_dir, job_id)
        sweep(data_dir / files.FOLDER, LEFTOVER_SECONDS, LEFTOVER, deep=True)
        days, most_bytes = self._settings.keep_export_days, self._settings.keep_export_bytes
        files.sweep_old(data_dir, days * 86_400, most_bytes, self._owed_by)

    def _owed_by(self, job_id: str) -> Collection[str]:
        job = self._find(job_id)
        return () if job is None else self._owed(job)
