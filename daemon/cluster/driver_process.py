"""DriverProcess: the daemon's end of the driver of a cluster, which is started again whenever it ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from daemon.cluster.actor import LEASE_PART
from daemon.cluster.share import put_mark
from daemon.errors import Interrupted, NodeLost, ResourceUnavailable
from daemon.ipc.child import without_credentials
from daemon.logs import LogOnce
from daemon.pipeline.client import Ready, error_of
from daemon.pipeline.records import Progress
from daemon.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Time between two looks of one who waits for an answer: whether it should stop."""
AGAIN_SECONDS = 2.0
"""Time between the end of a driver and the start of the next."""
STOP_SECONDS = 6.0
"""Time that a turn gets to end once it was asked to; an actor ends its pipeline process before."""
AWAY = "The cluster is not there just now; what ran on it goes on when it is back."


def start_driver(settings: Settings, mark: str, check: bool = False) -> subprocess.Popen[bytes]:
    """Start a driver. It ends with the thread that calls this.

    Args:
        settings: With the address of the cluster.
        mark: What the mark in the shared folder says.
        check: Only look at each machine, and say what was found.

    Raises:
        OSError: no process can be started now.
    """
    tokens = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")}
    child = subprocess.Popen(
        [sys.executable, "-m", "daemon.cluster.driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=without_credentials() | tokens,
    )
    told = settings.for_children()
    assert child.stdin is not None
    with contextlib.suppress(OSError):  # it has ended already
        child.stdin.write(
            json.dumps({"parent": os.getpid(), "settings": told, "mark": mark, "check": check}).encode() + b"\n"
        )
        child.stdin.flush()
    return child


def end_driver(child: subprocess.Popen[bytes]) -> None:
    """End a driver and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what was not written
            pipe.close()  # type: ignore[union-attr]


class DriverProcess:
    """Keeps a driver, hands requests to it and answers to those who asked; safe to use from any thread.

    Args:
        settings: With the address of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._turns = itertools.count()
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Mapping[str, Any]]] = {}
        """Those who asked, by turn."""
        self._up: dict[int, Ready] = {}
        """What is loaded, by the number of the slot."""
        self._memory: dict[int, int] = {}
        self._heard = time.monotonic()
        self._closing = threading.Event()
        self._not_there = LogOnce(log)
        self.slots: int | None = None
        """How many slots there is room for; None while there is no connection."""
        self.looked = threading.Event()
        """Set once it has been tried to connect."""
        self._thread = threading.Thread(target=self._keep, name="cluster")  # the child ends with it

    def start(self) -> None:
        """Begin to keep a driver, once."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End the driver, and what runs on the cluster with it."""
        self._closing.set()
        self._kill()
        if self._thread.ident is not None:
            self._thread.join()

    def ready(self, slot: int) -> Ready | None:
        """Return what a slot has loaded, if it is up."""
        return self._up.get(slot)

    def memory(self, slot: int) -> int:
        """Return the memory that a slot's pipeline process held when it was last asked."""
        return self._memory.get(slot, 0)

    def release(self, slot: int) -> None:
        """End what a slot has on the cluster."""
        self._up.pop(slot, None)
        self._memory.pop(slot, None)
        self._send({"kind": "close", "slot": slot})

    def check(self) -> None:
        """End a driver that has not been heard of for ``silent_seconds``."""
        if self.slots is not None and time.monotonic() - self._heard > self._settings.silent_seconds:
            log.error("the process that drives the cluster does not answer and is ended")
            self._kill()

    def call(
        self,
        slot: int,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Mapping[str, Any]:
        """Have a slot do something and wait for its end.

        Raises:
            JobError, MachineError: what the slot says, as ``PipelineProcess`` does.
            NodeLost: its machine is gone, or lacks the shared folder.
            ResourceUnavailable: there is no cluster.
        """
        turn, box = next(self._turns), queue.SimpleQueue[Mapping[str, Any]]()
        with self._lock:
            if self._closing.is_set():
                raise Interrupted("Dropframe is stopping.")
            if self.slots is None:
                raise ResourceUnavailable(AWAY)
            self._waiting[turn] = box
        try:
            self._send({"kind": kind, "slot": slot, "turn": turn, **wanted})
            return self._answered(slot, kind, turn, box, on_progress, should_stop)
        finally:
            with self._lock:
                self._waiting.pop(turn, None)

    def _answered(
        self,
        slot: int,
        kind: str,
        turn: int,
        box: queue.SimpleQueue[Mapping[str, Any]],
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Mapping[str, Any]:
        deadline: float | None = None
        while True:
            try:
                answer = box.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if deadline is None and should_stop():
                    deadline = time.monotonic() + STOP_SECONDS
                    self._send({"kind": "stop", "slot": slot, "turn": turn})
                if deadline is not None and (time.monotonic() > deadline or slot not in self._up):
                    self.release(slot)
                    raise Interrupted("The slot did not stop in time and was ended.") from None
                if kind != "start" and self._is_gone(slot, box):
                    raise NodeLost("The slot has ended.") from None  # given up as it got this: nobody answers
                continue
            if answer["kind"] == "progress":
                on_progress(Progress(answer["frames_processed"], answer["frames_total"], answer["steps"]))
            elif answer["kind"] == "error":
                raise error_of(answer)
            else:
                report: Mapping[str, Any] = answer["report"]
                return report

    def _is_gone(self, slot: int, box: queue.SimpleQueue[Mapping[str, Any]]) -> bool:
        with self._lock:  # or the driver may be just about to say what it died of
            return slot not in self._up and box.empty()

    def _send(self, request: Mapping[str, Any]) -> None:
        with self._lock:
            child = self._child
            if child is None or child.stdin is None:
                return  # whoever asks is told that it is gone
            with contextlib.suppress(OSError, ValueError):
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()

    def _kill(self) -> None:
        if (child := self._child) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

    # In the thread that has the child.

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                if self._listen(start_driver(self._settings, put_mark(self._settings))):
                    # Its slots may still be at work where nobody reaches them; they end themselves by then.
                    self._closing.wait(LEASE_PART * self._settings.silent_seconds)
            except OSError as error:
                self._not_there(f"The process that drives the cluster cannot be started: {error.strerror}")
            except Exception:
                log.exception("The cluster is tried again after an unexpected error")
            self.looked.set()
            self._closing.wait(AGAIN_SECONDS)

    def _listen(self, child: subprocess.Popen[bytes]) -> bool:
        """Hear a driver until it ends; return whether it had slots."""
        with self._lock:
            self._child = child
        if self._closing.is_set():
            self._kill()
        assert child.stdout is not None
        try:
            for line in child.stdout:
                with contextlib.suppress(ValueError):  # killed in the middle of a line
                    self._hear(json.loads(line))
        finally:
            end_driver(child)
            with self._lock:
                self._child, self.slots = None, None
                had_slots = bool(self._up)
                self._up.clear()
                self._memory.clear()
                error = "Interrupted" if self._closing.is_set() else "ResourceUnavailable"
                for box in self._waiting.values():
                    box.put({"kind": "error", "error": error, "message": AWAY})
            if not self._closing.is_set():
                self._not_there("There is no connection to the cluster; it is tried again and again.")
        return had_slots

    def _hear(self, answer: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        match answer["kind"]:
            case "capacity":
                self.slots = answer["slots"]
                self._not_there.solved()
                self.looked.set()
            case "refused":
                self._not_there(answer["message"])
            case "gone":
                self._up.pop(answer["slot"], None)
            case "memory":
                self._memory[answer["slot"]] = answer["memory_bytes"]
            case _:
                self._take(answer)

    def _take(self, answer: dict[str, Any]) -> None:
        if (box := self._waiting.get(answer["turn"])) is None:
            return
        with self._lock:  # so that whoever sees that the slot is not up any more has the answer
            if answer["kind"] != "progress":
                self._note(answer["slot"], answer["ready"])
            box.put(answer)

    def _note(self, slot: int, ready: Mapping[str, Any] | None) -> None:
        try:
            self._up[slot] = Ready(**(ready or {}))
        except TypeError:  # there is nothing, or what another version would have
            self._up.pop(slot, None)
