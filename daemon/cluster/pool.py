"""ClusterPool: the executor whose slots are pipeline processes on the machines of a Ray cluster.

All but the slots is as in a pool of one machine: plan, parts, order, attempts and joining stay in the daemon.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable

from daemon.cluster.driver_process import AWAY, DriverProcess
from daemon.cluster.exchange import Exchange
from daemon.cluster.remote import RemoteProcess, StagedProcess
from daemon.errors import Interrupted, ResourceUnavailable
from daemon.ingest.owner import home_id
from daemon.jobs import Job
from daemon.objects.entries import Entry
from daemon.pipeline.client import Ready
from daemon.pipeline.slot import Slot
from daemon.pipeline.slot_pool import SlotPool
from daemon.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
RESIZE_SECONDS = 1.0
"""Time between two looks how many slots there should be."""
LANES = 512
"""Jobs under way at most, where the cluster says how many slots there are."""
AWAY_SECONDS = 300.0
"""Time in which a machine that was started anew is back, for what was begun on others of its kind."""

NONE_UP = "No machine of the cluster is up yet; jobs wait for one."


class ClusterPool(SlotPool):
    """Runs several jobs on slots that come and go with the machines of a cluster.

    Args:
        settings: With the address of the cluster.
        find_job: Returns a job by its id, if there is one; asked only with ``cluster_store``.
        entry_of: Returns what is known of the object of ``inbox_store`` that became a job; the same.
    """

    def __init__(
        self,
        settings: Settings,
        find_job: Callable[[str], Job | None] = lambda job_id: None,
        entry_of: Callable[[str], Entry | None] = lambda job_id: None,
    ) -> None:
        super().__init__(settings, AWAY_SECONDS)
        self._find_job, self._entry_of = find_job, entry_of
        self._driver: DriverProcess | None = None
        self._exchange: Exchange | None = None
        self._closing = threading.Event()
        self._resizing = threading.Thread(target=self._keep_size, name="cluster-size")
        self.lanes = LANES if settings.workers == "auto" else 2 * settings.workers

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        """Wait until a slot is up, if there are machines.

        Raises:
            ResourceUnavailable: the cluster is not there, has no machine, or none of its machines is ready within
                ``start_seconds``; it is waited for, and jobs run once one is.
            JobError: the first slot cannot be started; others are tried, and all again and again.
        """
        if self._driver is None:
            settings = _of_this_home(self._settings)
            if settings.cluster_store is not None:
                self._exchange = Exchange(settings, self._find_job, self._entry_of)
                self._exchange.start()
            self._driver = DriverProcess(settings)
            self._driver.start()
            self._resizing.start()
        deadline = time.monotonic() + self._settings.start_seconds
        while (ready := self.ready) is None:
            self._closing.wait(LOOK_SECONDS)
            if should_stop() or self._board.closed:
                raise Interrupted("Dropframe is stopping.")
            if self._driver.looked.is_set() and self._driver.slots is None:
                raise ResourceUnavailable(AWAY)
            if self._driver.slots == 0 or time.monotonic() > deadline:
                raise ResourceUnavailable(NONE_UP)
            if self._slots and (error := self._slots[0].error) is not None:
                raise error
        return ready

    def close(self) -> None:
        """End all slots and everything that they started."""
        self._closing.set()
        self._board.close()
        if self._driver is not None:
            self._driver.close()
        if self._resizing.ident is not None:
            self._resizing.join()
        for slot in self._slots:
            slot.close()
        if self._exchange is not None:
            self._exchange.close()

    # The number of slots.

    def _keep_size(self) -> None:
        assert self._driver is not None
        while not self._closing.wait(RESIZE_SECONDS):
            try:
                self._driver.check()
                if self._driver.slots is not None:
                    self._resize(self._driver.slots)
            except Exception:
                log.exception("The cluster is looked after further after an unexpected error")

    def _resize(self, room: int) -> None:
        """Have as many slots as there is room for, or as was asked for.

        One is always kept: it waits for a machine, which tells Ray that one is wanted. Only slots that have no machine
        are given up.
        """
        wanted = max(1, room) if self._settings.workers == "auto" else self._settings.workers
        for slot in [slot for slot in reversed(self._slots) if not slot.is_up][: max(0, len(self._slots) - wanted)]:
            self._slots.remove(slot)
            slot.close()
            self._board.leave(slot)
            log.info("slot %d is given up, as its machine is gone", slot.number)
        taken = {slot.number for slot in self._slots}
        free = itertools.filterfalse(taken.__contains__, itertools.count())
        for number in itertools.islice(free, max(0, wanted - len(self._slots))):
            slot = Slot(number, (), self._board, self._process)
            self._slots.append(slot)
            slot.start()

    def _process(self, number: int) -> RemoteProcess | None:
        """Return the process of a slot. The first one is first, as it may have to prepare models for all.

        Unless it does not come up: its machine may be a bad one, and others good.
        """
        first = min(self._slots, key=lambda slot: slot.number, default=None)
        waits = first is not None and number != first.number and first.error is None and self.ready is None
        if self._driver is None or waits:
            return None
        if self._exchange is not None:
            return StagedProcess(self._driver, number, self._exchange)
        return RemoteProcess(self._driver, number)


def _of_this_home(settings: Settings) -> Settings:
    """Return settings whose ``cluster_store``, if there is one, nobody else has."""
    if settings.cluster_store is None:
        return settings
    return settings.model_copy(update={"cluster_store": f"{settings.cluster_store}/{home_id(settings.data_dir)}"})
