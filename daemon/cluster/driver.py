"""The child process that is the driver of a Ray cluster (``python -m daemon.cluster.driver``).

A driver ends when the head of its cluster does, and takes its process with it: so that is never the daemon. It reads
requests from its standard input and answers on what was its standard output, one JSON object a line (the parent's end
is ``daemon.cluster.driver_process``). It ends by itself when its parent does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from daemon.cluster.actor import Share
from daemon.cluster.capacity import Capacity
from daemon.cluster.placement import Actor, Placement
from daemon.errors import DropframeError
from daemon.ipc.child import end_with_parent, private_stdout
from daemon.logs import FORMAT
from daemon.pipeline.process import Answers
from daemon.settings import Settings

log = logging.getLogger(__name__)

CAPACITY_SECONDS = 1.0
"""Time between two looks at the machines of the cluster; that each is told also says that this process lives."""


class Cluster(Protocol):
    """What the driver needs of a cluster; see ``RayCluster``."""

    def capacity(self) -> Capacity:
        """Return what there is room for."""

    def place(self, share: Share) -> Actor:
        """Have an actor placed."""


class Driver:
    """Hands requests on to places, one for each slot.

    Args:
        cluster: Has the actors.
        answers: The pipe to the daemon.
        silent_seconds: Time without an answer after which an actor is ended.
    """

    def __init__(self, cluster: Cluster, answers: Answers, silent_seconds: float) -> None:
        self._cluster, self._answers = cluster, answers
        self._silent_seconds = silent_seconds
        self._places: dict[int, Placement] = {}
        self._share = cluster.capacity().share

    def handle(self, request: Mapping[str, Any]) -> None:
        """Do what a request asks for, soon."""
        number = request["slot"]
        place = self._places.get(number)
        if request["kind"] == "close":
            if self._places.pop(number, None) and place is not None:
                place.close()
        elif request["kind"] == "stop":
            if place is not None:
                place.stop(request["turn"])
        else:
            if place is None:
                place = self._places[number] = self._placement(number)
            place.put(request)

    def watch(self) -> None:
        """Tell how many slots there is room for, again and again."""
        while True:
            capacity = self._cluster.capacity()
            self._share = capacity.share
            self._tell("capacity", slots=capacity.slots)
            time.sleep(CAPACITY_SECONDS)

    def _placement(self, number: int) -> Placement:
        return Placement(number, self._cluster.place, lambda: self._share, self._tell, self._silent_seconds)

    def _tell(self, kind: str, **content: Any) -> None:
        self._answers.send(kind, **content)


def main() -> None:
    """Connect, then hand requests on until the parent or the cluster is gone."""
    answers = Answers(private_stdout())
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the parent died before it said what to do
    beginning = json.loads(line)
    end_with_parent(beginning["parent"])
    settings = Settings.told(beginning["settings"])
    logging.basicConfig(level=settings.log_level.upper(), format=FORMAT, stream=sys.stderr)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        from daemon.cluster.ray_cluster import RayCluster

        cluster = RayCluster(settings, beginning["mark"])
    except (DropframeError, ImportError) as error:
        answers.send("refused", message=str(error))
        return
    if beginning["check"]:
        for name, ok, sentence in cluster.check():
            answers.send("check", name=name, ok=ok, sentence=sentence)
        answers.send("checked")
        return
    driver = Driver(cluster, answers, settings.silent_seconds)
    threading.Thread(target=_watch, args=(driver,), name="capacity", daemon=True).start()
    for line in sys.stdin.buffer:
        driver.handle(json.loads(line))
    os._exit(0)  # the parent is gone, and Ray ends the actors


def _watch(driver: Driver) -> None:
    try:
        driver.watch()
    except Exception:
        log.exception("the cluster does not answer any more")
    finally:
        os._exit(1)  # the daemon starts another


if __name__ == "__main__":
    main()
