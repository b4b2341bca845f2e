"""Which executor runs jobs on this machine, and how many pipeline processes it has."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.executor import Executor
from daemon.pipeline.machine import SLOT_BYTES, Machine, sixty_percent
from daemon.settings import Settings

log = logging.getLogger(__name__)

POOL_CORES = 8
"""Cores from which on one process leaves many of them idle."""
CORES_A_SLOT = 2
"""Cores for each of several processes, where there are so many; below that each has one."""


@dataclass(frozen=True)
class Choice:
    """What was chosen."""

    slots: int
    """Pipeline processes; 1 stands for the embedded executor, 0 for as many as a cluster has room for."""
    why: str
    """A sentence."""


def choose(settings: Settings, machine: Machine) -> Choice:
    """Return what the settings mean on a machine."""
    gpus = machine.gpus if settings.device == "auto" else 0
    by_memory = max(1, sixty_percent(machine.memory_bytes) // SLOT_BYTES)
    by_work = gpus or max(1, machine.cores // (CORES_A_SLOT if machine.cores >= POOL_CORES else 1))
    if settings.device.startswith("cuda") or gpus == 1:
        by_work = 1  # one process has the GPU
    wanted = min(by_work, by_memory) if settings.workers == "auto" else settings.workers
    has = f"{machine.cores} cores" + (f" and {machine.gpus} GPUs" if machine.gpus else "")
    if settings.executor == "cluster":
        return Choice(0, f"cluster: the machines of {settings.cluster_address}.")
    if settings.executor == "embedded":
        return Choice(1, "embedded: one pipeline process, as executor says.")
    if settings.executor == "auto" and settings.workers == "auto" and gpus < 2 and machine.cores < POOL_CORES:
        return Choice(1, f"embedded: one pipeline process makes use of {has}.")
    if wanted == 1:
        return Choice(1, f"embedded: there is work or memory for one pipeline process on {has}.")
    return Choice(wanted, f"pool: {wanted} pipeline processes on {has}.")


def make_executor(settings: Settings) -> Executor:
    """Return what runs jobs on this machine; nothing is started yet."""
    choice = choose(settings, Machine.here())
    if choice.slots == 1:
        return PipelineProcess(settings)
    log.info("%s", choice.why)
    from daemon.pipeline.pool import PipelinePool  # costs memory that nobody else needs

    return PipelinePool(settings, choice.slots)
