"""Capacity: how many slots a cluster has room for, and what each of them has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daemon.cluster.actor import Share

CORES_A_SLOT = 2
"""Cores of a slot, unless a machine has only one."""


@dataclass(frozen=True)
class Capacity:
    """What there is to share out."""

    slots: int
    share: Share

    @classmethod
    def of(cls, machines: Iterable[Mapping[str, float]], device: str) -> Capacity:
        """Return what machines have room for.

        Args:
            machines: What each has, by Ray's names: ``CPU``, ``GPU``.
            device: As the setting: cpu, cuda:N, or auto, which takes GPUs if there are any.
        """
        there = [machine for machine in machines if machine.get("CPU", 0) >= 1]
        gpus = sum(int(machine.get("GPU", 0)) for machine in there)
        if device.startswith("cuda") or (device == "auto" and gpus):
            return cls(gpus, Share(1, gpu=True))
        cores = CORES_A_SLOT if all(machine["CPU"] >= CORES_A_SLOT for machine in there) else 1
        return cls(sum(int(machine["CPU"]) // cores for machine in there), Share(cores))
