"""What this machine, or the container that we run in, has: cores, GPUs and memory."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SLOT_BYTES = 2_000_000_000
"""Memory that one pipeline process may need."""
VECTOR_FLAGS = ("amx", "asimd", "avx", "f16c", "fma", "sse", "sve")
"""What names of instructions begin with that work on many numbers at a time."""


@dataclass(frozen=True)
class Machine:
    """What there is to share out."""

    cores: int
    """That we may use."""
    gpus: int
    memory_bytes: int

    @classmethod
    def here(cls) -> Machine:
        """Return this machine, or the container that we run in."""
        return cls(count_cores(), count_gpus(), machine_memory())


def count_cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores we may use, in a container those that it was given."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no limit, or none that we can see
        return cores


def count_gpus(devices: Path = Path("/dev"), environment: Mapping[str, str] = os.environ) -> int:
    """Return how many NVIDIA GPUs this process can see; no library is loaded for that."""
    there = sum(path.name.removeprefix("nvidia").isdecimal() for path in devices.glob("nvidia*"))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    return min(there, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


def has_cuda_driver() -> bool:
    """Tell whether NVIDIA's driver is there, without which torch, which takes seconds to load, finds no GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def machine_memory() -> int:
    """Return the memory that this machine, or the container that we run in, has in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no limit, or none that we can see
        return total
    return min(total, limit)


def sixty_percent(memory_bytes: int) -> int:
    """Return the part of a memory that pipeline processes may take."""
    return memory_bytes * 6 // 10


def abilities(cpu_info: Path = Path("/proc/cpuinfo"), environment: Mapping[str, str] = os.environ) -> str:
    """Name the instructions of this processor on which the last bits of numbers may hang, and what caps them."""
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "").partition(":")[2].split()
    vector = sorted(flag for flag in found if flag.startswith(VECTOR_FLAGS))
    return " ".join([platform.machine(), *vector, environment.get("ONEDNN_MAX_CPU_ISA", "")]).strip()
