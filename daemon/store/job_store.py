"""JobStore: every job record, in TinyDB, behind methods that keep it consistent.

The daemon is the only writer; other processes follow with JobReader. TinyDB writes the whole file at each
change and reads it at each query; JournalStorage and JournalTable are the seam where one changed document
becomes one line of the journal instead. No other file knows TinyDB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from tinydb.table import Table

from daemon.errors import StoreError, StoreLocked, UnknownJob
from daemon.fs.locks import fcntl
from daemon.jobs import Job, JobSource, JobStatus, timestamp
from daemon.store.deleted_jobs import DeletedJobs
from daemon.store.group_commit import Change, GroupCommit
from daemon.store.job_index import JobIndex, check_record
from daemon.store.job_reader import read_job, read_jobs
from daemon.store.journal import Journal
from daemon.store.journal_files import META, Tables
from daemon.store.migrations import JOBS, SCHEMA_VERSION, downgrade, migrate, new_tables, schema_version
from daemon.store.outgoing_events import OutgoingEvents
from daemon.store.tinydb_table import JobStorage, JournalStorage, JournalTable

COMPACT_ALWAYS_BYTES = 4 << 20
"""A snapshot smaller than this is rewritten whenever the daemon is idle."""

COMPACT_SHARE = 0.05
"""A larger one when the changes since are more than this share of it."""

STORE_FIELDS = frozenset({"job_id", "sequence", "created_at", "updated_at"})
"""Set by the store, never by hand."""

_CHANGEABLE = frozenset(f.name for f in fields(Job)) - STORE_FIELDS - {"status"}


class JobStore:
    """All jobs; safe to use from any thread. Every change is durable when the method returns, unless said so.

    Args:
        storage: On disk or in memory.
        clock: Returns the present as an aware datetime.

    Raises of every method:
        StoreError: the change could not be written; the state is what the disk says.
    """

    def __init__(self, storage: JobStorage, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._storage = storage
        self._clock = clock
        self._index = JobIndex()
        self._table = JournalTable(storage, JOBS, self._check, self._changed)
        self._lock = self._table.lock
        self.deleted = DeletedJobs(storage, self._table)
        self.events = OutgoingEvents(storage, self._table)
        self._group = GroupCommit(self._table, self.get, self.events, clock)
        self._lock_file = -1
        self.recovered_from: str | None = None
        """What was wrong with the files when they were opened, in sentences; the folders need reconciling."""
        with self._lock:
            tables = storage.read()
            if (version := schema_version(tables)) < SCHEMA_VERSION:
                if isinstance(storage, JournalStorage):
                    storage.journal.keep(f"v{version}")
                storage.write(migrate(tables))
            self._table.rows()

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Self:
        """Open the store in a folder as its only writer, bringing it to the present schema version.

        Raises:
            StoreLocked: another daemon has it open.
            StoreTooNew: a later Dropframe wrote it; nothing was touched.
            StoreDamaged: no readable copy of the job file is left.
            StoreError: the folder cannot be read or written.
        """
        lock_file = _lock(folder)
        try:
            journal = Journal(folder, "jobs", new_tables(), check=_check)
            try:
                store = cls(JournalStorage(journal), clock)
            except BaseException:
                journal.abandon()
                raise
        except BaseException:
            os.close(lock_file)
            raise
        store.recovered_from = journal.recovered_from
        store._lock_file = lock_file
        return store

    @property
    def table(self) -> Table:
        """The TinyDB table of jobs by sequence: ``store.table.search(where("status") == "failed")``."""
        return self._table

    def create(self, jobs: Sequence[Job], keep_times: bool = False) -> list[Job]:
        """Add jobs in one commit; return them with sequence, created_at and updated_at.

        A job id that is known already, or comes twice, is not made again: the one that is there is returned.

        Args:
            jobs: In order of arrival. One that was accepted earlier, and says when, keeps its created_at.
            keep_times: Leave updated_at as it is, too; for jobs that another service recorded.
        """
        with self._lock:
            rows = self._table.rows()
            meta = dict(self._storage.read()[META]["1"])
            now = timestamp(self._clock())
            new: dict[str, Job] = {}
            for job in jobs:
                if job.job_id in new or job.job_id in self._index.sequences:
                    continue
                sequence = meta["next_sequence"]
                while str(sequence) in rows:  # put there through the table
                    sequence += 1
                made = job if keep_times else replace(job, created_at=job.created_at or now, updated_at=now)
                new[job.job_id] = replace(made, sequence=sequence)
                meta["next_sequence"] = sequence + 1
            if new:
                others = {META: {"1": meta}, **self.events.of(new.values())}
                self._table.commit({job.sequence: job.to_record() for job in new.values()}, others=others)
            return [self.get(job.job_id) for job in jobs]

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: there is none with that id.
        """
        job = self.find(job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id!r}.")
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        with self._lock:
            rows = self._table.rows()
            sequence = self._index.sequences.get(job_id)
            return None if sequence is None else read_job(rows[str(sequence)])

    def move(self, job_id: str, to: JobStatus, **changes: Any) -> Job:
        """Change a job's status, and other fields in the same commit; return it.

        Raises:
            UnknownJob: there is none with that id.
            IllegalMove: it cannot go from its status to that one.
            ValueError: a field does not exist or may not be set by hand.
        """
        change = Change(job_id, {**_checked(changes), "status": to})
        self._group.carry_out(change)
        return change.result()

    def change_all(self, changes: Sequence[Change]) -> None:
        """Change several jobs with one sync; what came of each is in it, as ``move`` and ``note`` return or raise it.

        Raises:
            ValueError: a field does not exist or may not be set by hand.
        """
        for change in changes:
            _checked({name: value for name, value in change.fields.items() if name != "status"})
        self._group.carry_out(*changes)

    def note(self, job_id: str, durable: bool = True, **changes: Any) -> Job:
        """Change fields other than the status; return the job.

        Args:
            job_id: Which job.
            durable: False for progress: a power cut may undo it, the end of the process does not.
            changes: New values by field.

        Raises:
            UnknownJob: there is none with that id.
            ValueError: a field does not exist or may not be set by hand.
        """
        change = Change(job_id, _checked(changes), durable)
        self._group.carry_out(change)
        return change.result()

    def remove(self, job_id: str) -> None:
        """Forget a job. Its sequence is never given again.

        Raises:
            UnknownJob: there is none with that id.
        """
        with self._lock:
            self._table.commit({self.get(job_id).sequence: None})

    def delete(self, job: Job) -> None:
        """Delete a job; ``deleted`` says when, and what still has to be removed of it.

        Raises:
            UnknownJob: there is none with that id.
        """
        with self._lock:
            self.get(job.job_id)
            self.deleted.add(job, timestamp(self._clock()))

    def jobs(self, status: JobStatus | None = None) -> list[Job]:
        """Return all jobs, or those in one status, by sequence."""
        with self._lock:
            rows = self._table.rows()  # brings the index up to date, if need be
            return read_jobs(rows, self._index.ordered(status))

    def outbox_names(self) -> set[str]:
        """Return what the results of all jobs are called in the outbox, by name and not by id; folded."""
        with self._lock:
            rows = self._table.rows().values()
            names = [
                row.get("outbox_name") or (row["source_name"] if row.get("source") == JobSource.INBOX else "")
                for row in rows
            ]
        return {name.casefold() for name in names if name}

    def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are in each status."""
        with self._lock:
            self._table.rows()
            return self._index.counts()

    @property
    def problem(self) -> str | None:
        """Why the latest change could not be stored; None when the next one may be. Never waits."""
        return self._storage.journal.problem if isinstance(self._storage, JournalStorage) else None

    def mend(self) -> None:
        """After a change that could not be stored, open the files again; ``problem`` is None once that works."""
        with self._lock:
            if isinstance(self._storage, JournalStorage):
                self._storage.journal.mend()

    def compact_if_worthwhile(self) -> None:
        """Write a new snapshot if that gains something; call it whenever there is nothing else to do."""
        with self._lock:
            if not isinstance(self._storage, JournalStorage):
                return
            journal = self._storage.journal
            size = journal.snapshot_bytes
            if journal.changed_bytes > (COMPACT_SHARE * size if size >= COMPACT_ALWAYS_BYTES else 0):
                journal.compact()

    def downgrade(self, version: int) -> None:
        """Write everything in an earlier schema version, and keep it as it was beside it; then close.

        Raises:
            SettingsError: there is no such version.
            StoreError: it could not be written; the state is the old or the new one, never a mixture.
        """
        with self._lock:
            tables = downgrade(self._storage.read(), version)
            if isinstance(self._storage, JournalStorage):
                self._storage.journal.keep(f"v{SCHEMA_VERSION}")
            self._storage.write(tables)
            self.close()

    def close(self) -> None:
        """Write a last snapshot and let others in. Closing twice changes nothing."""
        with self._lock:
            self._storage.close()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check(self, doc_id: str, record: Mapping[str, Any]) -> None:
        """Raise before a record is written, by whatever way, that is not a job's or moves it as it may not move."""
        _, status = check_record(doc_id, record)
        before = self._table.rows().get(doc_id)
        if before is not None and before["status"] != status:
            read_job(before).check_move(status)

    def _changed(self, changes: Mapping[str, Any] | None) -> None:
        if changes is None:
            self._index.rebuild(self._storage.read().get(JOBS, {}))
        else:
            self._index.update(changes)


def _checked(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    if wrong := sorted(set(changes) - _CHANGEABLE):
        raise ValueError(f"A job's {' and '.join(wrong)} cannot be set this way.")
    return changes


def _check(tables: Tables) -> None:
    """Raise before anything is written if these tables cannot be used."""
    schema_version(tables)


def _lock(folder: Path) -> int:
    """Return an open file that holds the folder's lock; the lock ends with it, however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "jobs.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"The job store in {folder} cannot be opened: {error}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        by = f"process {owner}" if owner.isdigit() else "another process"
        raise StoreLocked(
            f"The jobs in {folder} are in use by {by}. Stop that daemon first, or choose another home."
        ) from error
    with suppress(OSError):  # the number is for people; the lock does not need it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor
