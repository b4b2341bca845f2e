"""Schema versions of the job file and the steps from each to the next.

A step takes tables and returns new ones, and is safe to run twice: on its own result it changes nothing. For each
there is one that goes back, so that an older Dropframe can be put in place of this one without losing a job.

* 1: ``filename`` and ``error`` instead of ``source_name`` and ``error_message``; times as seconds since 1970;
  no ``sequence``.
* 2: the record of ``daemon.jobs.Job``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from daemon.errors import SettingsError, StoreDamaged, StoreTooNew
from daemon.jobs import timestamp
from daemon.store.journal_files import META, Tables

SCHEMA_VERSION = 2
"""The version that this code reads and writes."""

JOBS = "jobs"
"""The table of job records, by sequence."""

DELETED = "deleted"
"""The table of deleted jobs, by job id: ``deleted_at``; until nothing is left of the job its ``record`` as well. A
version that does not know of it leaves it as it is."""

EVENTS = "events"
"""The table of events that receivers are still to be told of, by event id; the same holds."""

RECEIVERS = "receivers"
"""The table of receivers that are switched off, by key: ``off_since``; the same holds."""


def deleted_at(tables: Tables, job_id: str) -> str | None:
    """Return when a job was deleted, ISO 8601 UTC; None if it was not, or nobody remembers it."""
    row = tables.get(DELETED, {}).get(job_id)
    return None if row is None else str(row["deleted_at"])


def new_tables() -> Tables:
    """Return the state of a store without jobs."""
    return {META: {"1": {"schema_version": SCHEMA_VERSION, "next_sequence": 1}}, JOBS: {}}


def schema_version(tables: Tables) -> int:
    """Return the version that tables are in.

    Raises:
        StoreTooNew: a later Dropframe wrote them.
        StoreDamaged: they name no version.
    """
    version = tables.get(META, {}).get("1", {}).get("schema_version")
    if type(version) is not int or version < 1:
        raise StoreDamaged("The job file names no schema version, so it is not one that Dropframe wrote.")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"The job file has schema version {version}; this Dropframe knows those up to {SCHEMA_VERSION}. "
            "Install the later version again and let its dropframe downgrade write the older one."
        )
    return version


def migrate(tables: Tables) -> Tables:
    """Return tables in the present version; the argument stays as it is.

    Raises:
        StoreTooNew: a later Dropframe wrote them.
        StoreDamaged: they name no version.
    """
    tables = copy.deepcopy(tables)
    for version in range(schema_version(tables), SCHEMA_VERSION):
        tables = STEPS[version](tables)
    return tables


def _from_1(tables: Tables) -> Tables:
    def moment(value: Any) -> Any:
        return timestamp(datetime.fromtimestamp(value, UTC)) if isinstance(value, int | float) else value

    records = []
    for record in tables.get(JOBS, {}).values():
        record = dict(record)
        for old, new in (("filename", "source_name"), ("error", "error_message")):
            if old in record:
                record[new] = record.pop(old)
        for name in ("created_at", "updated_at"):
            record[name] = moment(record.get(name, 0))
        records.append(record)
    if not all("sequence" in record for record in records):
        records.sort(key=lambda record: str(record["created_at"]))  # stable: ties keep the order of the file
        for sequence, record in enumerate(records, 1):
            record["sequence"] = sequence
    following = max((record["sequence"] for record in records), default=0) + 1
    meta = {**tables[META]["1"], "schema_version": 2}
    meta["next_sequence"] = max(following, meta.get("next_sequence", 1))
    return {
        **tables,
        META: {**tables[META], "1": meta},
        JOBS: {str(record["sequence"]): record for record in records},
    }


STEPS: dict[int, Callable[[Tables], Tables]] = {1: _from_1}
"""The step that leaves each version."""


def downgrade(tables: Tables, version: int) -> Tables:
    """Return tables of the present version in an earlier one; ``migrate`` makes the same of them again.

    Raises:
        SettingsError: there is no such version.
    """
    if not 1 <= version <= SCHEMA_VERSION:
        raise SettingsError(f"There is no schema version {version}; the versions are 1 to {SCHEMA_VERSION}.")
    tables = copy.deepcopy(tables)
    for present in range(SCHEMA_VERSION, version, -1):
        tables = STEPS_BACK[present](tables)
    return tables


def _to_1(tables: Tables) -> Tables:
    def record_1(record: dict[str, Any]) -> dict[str, Any]:
        record = dict(record)
        for old, new in (("filename", "source_name"), ("error", "error_message")):
            if new in record:
                record[old] = record.pop(new)
        for name in ("created_at", "updated_at"):
            if isinstance(record[name], str):
                record[name] = datetime.fromisoformat(record[name]).timestamp()
        return record

    meta = {**tables[META]["1"], "schema_version": 1}
    return {
        **tables,
        META: {**tables[META], "1": meta},
        JOBS: {doc_id: record_1(record) for doc_id, record in tables[JOBS].items()},
    }


STEPS_BACK: dict[int, Callable[[Tables], Tables]] = {2: _to_1}
"""The step back from each version."""
