"""The index agrees with the records, whatever changed and in whatever steps it was told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import StoreDamaged
from daemon.jobs import JobStatus
from daemon.store.job_index import JobIndex

Rows = dict[str, dict[str, Any]]

changes = st.dictionaries(st.integers(1, 12), st.none() | st.sampled_from(JobStatus), max_size=4)


def record(sequence: int, status: JobStatus) -> dict[str, Any]:
    return {"job_id": f"id-{sequence}", "sequence": sequence, "status": str(status)}


def seen(index: JobIndex) -> tuple[Any, ...]:
    return index.sequences, index.ordered(), [index.ordered(status) for status in JobStatus], index.counts()


@given(st.lists(changes, max_size=20))
def test_update_by_update_it_is_what_a_rebuild_makes(steps: list[dict[int, JobStatus | None]]) -> None:
    index, rows = JobIndex(), Rows()
    for step in steps:
        told = {str(n): None if status is None else record(n, status) for n, status in step.items()}
        index.update(told)
        for doc_id, row in told.items():
            if row is None:
                rows.pop(doc_id, None)
            else:
                rows[doc_id] = row
        anew = JobIndex()
        anew.rebuild(rows)
        assert seen(index) == seen(anew)
        assert index.ordered() == sorted(int(doc_id) for doc_id in rows)
        assert index.sequences == {row["job_id"]: row["sequence"] for row in rows.values()}
        for status in JobStatus:
            expected = sorted(row["sequence"] for row in rows.values() if row["status"] == status)
            assert index.ordered(status) == expected
            assert index.counts()[status] == len(expected)


def test_a_record_that_gets_another_job_id_is_found_under_that_one_alone() -> None:
    index = JobIndex()
    index.update({"1": record(1, JobStatus.PENDING)})
    index.update({"1": {**record(1, JobStatus.PENDING), "job_id": "other"}})
    assert index.sequences == {"other": 1}
    assert index.ordered(JobStatus.PENDING) == [1]


@pytest.mark.parametrize(
    "wrong",
    [{"sequence": 2}, {"sequence": "1"}, {"status": "sleeping"}, {"job_id": None, "sequence": None}],
)
def test_what_is_not_a_job_is_called_damage(wrong: dict[str, Any]) -> None:
    for take in (JobIndex().update, JobIndex().rebuild):
        with pytest.raises(StoreDamaged, match="Record 1 of the job file is not a job"):
            take({"1": {**record(1, JobStatus.PENDING), **wrong}})
