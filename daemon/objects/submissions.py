"""ObjectSubmissions: an object that was fetched becomes a submission, as an upload does, whoever is killed when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from daemon.container_checks import HEAD_BYTES
from daemon.containers import first_bytes_problem, last_bytes_problem
from daemon.errors import BadVideo
from daemon.failpoints import failpoint
from daemon.fs.moves import NAME_BYTES
from daemon.ingest.folder_pipelines import FolderPipelines
from daemon.ingest.options_file import parse_options
from daemon.ingest.stability import size_problem
from daemon.ipc import spool
from daemon.ipc.ticket import Ticket, TicketKind, ticket_name, video_name
from daemon.jobs import JobSource, Options, utc_now
from daemon.mp4_index import read_at
from daemon.objects.entries import Entry
from daemon.settings import Settings
from daemon.store.job_store import JobStore

ADVICE = "Correct the options file, or remove it, and put both there again."


class ObjectSubmissions:
    """Judges objects by the rules of all doors, and hands those that are taken to the spool.

    Args:
        settings: Limits and folders.
        store: Knows which jobs there are, or were.
        pipelines: Ids of those there are.
    """

    def __init__(self, settings: Settings, store: JobStore, pipelines: frozenset[str]) -> None:
        self._settings = settings
        self._spool_dir = settings.spool_dir
        self._store = store
        self._folders = FolderPipelines(settings, pipelines)

    def is_promised(self, job_id: str) -> bool:
        """Tell whether a job is there, was deleted, or is about to be made; then its object is not fetched again."""
        # The ticket goes after the job is in the store, so what is not there now is looked for in that order.
        if (self._spool_dir / ticket_name(job_id, TicketKind.SUBMIT)).exists():
            return True
        return self._store.find(job_id) is not None or self._store.deleted.at(job_id) is not None

    def is_being_promised(self, job_id: str) -> bool:
        """Tell whether a kill came after the video was in the spool, and before its ticket was."""
        return (self._spool_dir / video_name(job_id)).exists()

    def ticket(self, entry: Entry, options: bytes | None) -> Ticket:
        """Return the ticket of an object, before it is fetched.

        Args:
            entry: The object's.
            options: Its options file, if it has one.

        Raises:
            BadVideo: it is too large, or its result could not be put into the outbox.
            BadOptions: the options, or the folder, are wrong.
        """
        if problem := size_problem(entry.size, self._settings):
            raise BadVideo(problem)
        if any(len(folder.encode()) >= NAME_BYTES for folder in entry.key.split("/")[:-1]):  # one byte may be added
            raise BadVideo(
                f"A folder in its key has {NAME_BYTES} bytes or more, which no folder of the outbox can have."
            )
        pipeline_id = self._folders.choose(entry.key)
        asked = Options() if options is None else parse_options(options, ADVICE)
        return Ticket(
            TicketKind.SUBMIT,
            entry.job_id,
            utc_now(),
            JobSource.HTTP,
            entry.key,
            pipeline_id,
            asked.to_record(),
            outbox_name=entry.key,
        )

    def look(self, file: BinaryIO, have: int, size: int) -> None:
        """Look at the first bytes as soon as they have come.

        Raises:
            BadVideo: it is not a video that is taken.
        """
        if have >= min(HEAD_BYTES, size):
            head = read_at(file, 0, HEAD_BYTES)
            if any(head) and (problem := first_bytes_problem(head, self._settings.containers)):
                raise BadVideo(problem)

    def promise(self, ticket: Ticket, part: Path, size: int) -> None:
        """Make a submission of a part that is whole; called again after a kill, it goes on where it was.

        Args:
            ticket: The object's.
            part: All of it, on the spool's file system.
            size: Its bytes.

        Raises:
            BadVideo: it is not a whole video that is taken.
            OSError: the spool cannot be written; nothing is lost.
        """
        if part.exists():
            with open(part, "rb", buffering=0) as file:
                problem = last_bytes_problem(file, size, self._settings.containers)
            if problem:
                raise BadVideo(problem)
        self._spool_dir.mkdir(parents=True, exist_ok=True)
        spool.promise(self._spool_dir, replace(ticket, created_at=utc_now()), part)
        failpoint("inbox_store.promised")
