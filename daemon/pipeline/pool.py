"""PipelinePool: several pipeline processes of this machine; a long video is shared among them, part by part.

Each slot is a warm pipeline process on cores of its own, or on a GPU. Jobs are begun in order; what the first one wants
goes before what later ones want. The document is the same to the byte as that of one process.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence

from daemon.errors import Interrupted
from daemon.pipeline.client import PipelineProcess, Ready
from daemon.pipeline.machine import SLOT_BYTES, count_cores, machine_memory, sixty_percent
from daemon.pipeline.slot import Slot
from daemon.pipeline.slot_pool import SlotPool
from daemon.settings import Settings

LOOK_SECONDS = 0.1


class PipelinePool(SlotPool):
    """Keeps several pipeline processes and runs several jobs on them.

    Args:
        settings: Handed to every process.
        count: How many there are; the cores, the memory and the GPUs are dealt out among them.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        super().__init__(settings)
        whole = sixty_percent(machine_memory())
        self._memory_limit = settings.memory_limit_bytes or max(whole // count, min(whole, SLOT_BYTES))
        self._turn = threading.Lock()
        self._shares = shares(sorted(os.sched_getaffinity(0)), count, count_cores())
        self._slots = [Slot(number, share, self._board, self._process) for number, share in enumerate(self._shares)]
        self.lanes = 2 * count  # one that publishes its result keeps no slot from working

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Wait until a slot is up, and have the others start; raises what ``PipelineProcess.start`` does."""
        first, *others = self._slots
        for slot in (first, *others):
            slot.start()
        while (ready := self.ready) is None:
            if first.looked.wait(LOOK_SECONDS) and first.error is not None:
                raise first.error
            if should_stop() or self._board.closed:
                raise Interrupted("Dropframe is stopping.")
        return ready

    def close(self) -> None:
        """End all slots and everything that they started."""
        self._board.close()
        for slot in self._slots:
            slot.close()

    def _process(self, number: int) -> PipelineProcess | None:
        """Return the process of a slot. That of the first one is first, as it may have to prepare models for all."""
        ready = self.ready
        if number and ready is None:
            return None
        settings = self._settings
        if number and ready and ready.gpu and settings.device == "auto":
            settings = settings.model_copy(update={"device": f"cuda:{number % ready.gpus}"})
        return PipelineProcess(settings, self._shares[number], self._memory_limit, self._turn)


def shares(cores: Sequence[int], count: int, most: int) -> list[tuple[int, ...]]:
    """Deal cores out, neighbours together; where there are fewer than slots, they share one.

    Args:
        cores: Their numbers.
        count: Of slots.
        most: Cores that may be kept busy in all, as a container has a limit for.
    """
    bounds = [number * len(cores) // count for number in range(count + 1)]
    share = max(1, -(-most // count))
    dealt = [tuple(cores[first:stop])[:share] for first, stop in itertools.pairwise(bounds)]
    return [share or (cores[number % len(cores)],) for number, share in enumerate(dealt)]
