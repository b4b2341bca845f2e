"""Which executor runs jobs: one of this machine, or that of a cluster."""

from __future__ import annotations

from daemon.pipeline.executor import Executor
from daemon.pipeline.executor_choice import make_executor as make_local_executor
from daemon.settings import Settings


def make_executor(settings: Settings) -> Executor:
    """Return what runs jobs; nothing is started yet."""
    if settings.executor != "cluster":
        return make_local_executor(settings)
    from daemon.cluster.pool import ClusterPool  # costs memory that nobody else needs

    return ClusterPool(settings)
