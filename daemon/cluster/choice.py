"""Which executor runs jobs: one of this machine, or that of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from daemon.jobs import Job
from daemon.objects.entries import Entry
from daemon.pipeline.executor import Executor
from daemon.pipeline.executor_choice import make_executor as make_local_executor
from daemon.settings import Settings


def make_executor(
    settings: Settings, find_job: Callable[[str], Job | None], entry_of: Callable[[str], Entry | None]
) -> Executor:
    """Return what runs jobs; nothing is started yet.

    Args:
        settings: Which, and what it needs.
        find_job: Returns a job by its id, if there is one.
        entry_of: Returns what is known of the object of ``inbox_store`` that became a job, if one did.
    """
    if settings.executor != "cluster":
        return make_local_executor(settings)
    from daemon.cluster.pool import ClusterPool  # costs memory that nobody else needs

    return ClusterPool(settings, find_job, entry_of)
