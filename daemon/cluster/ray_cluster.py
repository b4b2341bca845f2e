"""RayCluster: the one file that knows Ray. It is loaded by the driver process alone, never by the daemon."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from daemon import __version__
from daemon.cluster.actor import Share, SlotActor
from daemon.cluster.capacity import Capacity
from daemon.cluster.share import require_share
from daemon.cluster.transfers import require_store
from daemon.errors import DropframeError, NodeLost, PipelineDied, PipelineStalled, ResourceUnavailable
from daemon.objects.bucket import Bucket
from daemon.s3_address import S3Address
from daemon.settings import Settings

THREADS = 4
"""Calls that an actor answers at a time: one waits for answers while others bring requests."""
LOOK_SECONDS = 0.5
NODE_SECONDS = 5.0
"""Time that Ray gets to notice that a machine is gone, once an actor on it is."""
CHECK_SECONDS = 30.0
"""Time that a machine gets to answer a check."""


class Placed(SlotActor):
    """A slot that also knows where Ray has put it."""

    def where(self) -> str:
        """Return Ray's id of the machine."""
        return str(ray.get_runtime_context().get_node_id())


class RayCluster:
    """A connection to a cluster.

    Args:
        settings: With the address.
        mark: What the mark in the shared folder says.

    Raises:
        ResourceUnavailable: nobody answers there, or refuses us.
    """

    def __init__(self, settings: Settings, mark: str) -> None:
        self._settings, self._mark = settings, mark
        try:
            ray.init(
                address=settings.cluster_address,
                configure_logging=False,
                log_to_driver=False,
                namespace="dropframe",
            )
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and errors of its own
            said = " ".join((str(error).strip() or type(error).__name__).split())[:400]
            raise ResourceUnavailable(f"The cluster at {settings.cluster_address} cannot be used: {said}") from error
        self._told = settings.model_dump(mode="json")

    def capacity(self) -> Capacity:
        """Return what the machines that are up have room for."""
        return Capacity.of((node["Resources"] for node in _nodes()), self._settings.device)

    def place(self, share: Share) -> RemoteActor:
        """Have an actor placed, as soon as a machine has what it needs."""
        return RemoteActor(self._told, share, self._mark)

    def check(self) -> Iterator[tuple[str, bool, str]]:
        """Yield of each machine that may get slots its name, whether it can be used, and a sentence."""
        for node in _nodes():
            if node["Resources"].get("CPU", 0) >= 1:
                yield f"machine {node['NodeManagerHostname']}", *self._check(node)

    def _check(self, node: Mapping[str, Any]) -> tuple[bool, str]:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(look_around).options(num_cpus=0, scheduling_strategy=where, max_retries=0)
        try:
            found = ray.get(look.remote(self._told, self._mark), timeout=CHECK_SECONDS)
        except (RayError, TimeoutError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
            return False, f"It cannot run Dropframe; install the same version there. {said}"
        if found["version"] != __version__:
            return False, f"It has Dropframe {found['version']}, and this machine {__version__}; install the same."
        if found["problem"]:
            return False, found["problem"]
        has = ", ".join(
            f"{int(node['Resources'][name])} {name}" for name in ("CPU", "GPU") if node["Resources"].get(name)
        )
        sees = "after the first start it is seen if it has the shared folder"
        if self._settings.cluster_store is not None:
            sees = "it reaches cluster_store"
        elif self._mark:
            sees = "it sees the shared folder"
        return True, f"{has}, Python {found['python']}, Ray {found['ray']}; {sees}"


class RemoteActor:
    """An actor, from afar. It is never restarted: one that is lost is followed by another, with nothing of the first.

    Args:
        told: Settings, in JSON form.
        share: What it gets of its machine.
        mark: What the mark in the shared folder says.
    """

    def __init__(self, told: Mapping[str, Any], share: Share, mark: str) -> None:
        kind = ray.remote(Placed).options(
            num_cpus=share.cores,
            num_gpus=int(share.gpu),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS,
        )
        self._actor: Any = kind.remote(told, share, mark, __version__)
        self._node: str | None = None

    def wait_up(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until it is placed and up, however long that takes; False if it is to stop before.

        Raises:
            JobError: it cannot be.
        """
        where = self._actor.where.remote()
        while not ray.wait([where], timeout=LOOK_SECONDS)[0]:
            if should_stop():
                return False
        self._node = self._get(where, CHECK_SECONDS)
        return True

    def send(self, request: Mapping[str, Any]) -> None:
        """Have something done; ``answers`` says whether the actor is still there."""
        self._actor.send.remote(dict(request))

    def stop(self, turn: int) -> None:
        """Have a turn end soon."""
        self._actor.stop.remote(turn)

    def answers(self, seconds: float, silent_seconds: float) -> Mapping[str, Any]:
        """Return what it has to say.

        Args:
            seconds: Longest wait for that.
            silent_seconds: Longest wait for any answer.

        Raises:
            NodeLost: its machine is gone.
            PipelineDied: it is gone itself.
            PipelineStalled: it does not answer.
        """
        found: Mapping[str, Any] = self._get(self._actor.answers.remote(seconds), silent_seconds)
        return found

    def kill(self) -> None:
        """End it and its pipeline process."""
        ray.kill(self._actor, no_restart=True)

    def _get(self, asked: Any, seconds: float) -> Any:
        try:
            return ray.get(asked, timeout=seconds)
        except GetTimeoutError as error:
            raise PipelineStalled(
                f"A slot has not answered for {seconds:.0f} s and was ended (silent_seconds)."
            ) from error
        except RayError as error:
            if self._node_is_gone():
                raise NodeLost("The machine that a slot was on is gone.") from error
            said = (str(error).strip() or "no message").splitlines()[0][:200]
            raise PipelineDied(f"A slot of the cluster has ended: {said}") from error

    def _node_is_gone(self) -> bool:
        deadline = time.monotonic() + NODE_SECONDS
        while self._node is not None and time.monotonic() < deadline:
            if self._node not in {node["NodeID"] for node in _nodes()}:
                return True
            time.sleep(LOOK_SECONDS)
        return False


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def look_around(told: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """Return what this machine has, for ``dropframe doctor``."""
    problem = ""
    try:
        settings = Settings.told(told)
        if settings.cluster_store is not None:
            require_store(Bucket(S3Address.of(settings.cluster_store), settings))
        elif mark:  # else nothing has been started yet
            require_share(settings, mark)
    except DropframeError as error:
        problem = str(error)
    here = {"python": platform.python_version(), "ray": ray.__version__, "version": __version__}
    return {**here, "problem": problem, "node": socket.gethostname(), "pid": os.getpid()}
