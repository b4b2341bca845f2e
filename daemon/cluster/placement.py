"""Placement: one slot in the driver process. It has an actor placed, hands requests to it, and hears if it lives."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from daemon.cluster.actor import LEASE_PART, WATCH_SECONDS, Share
from daemon.errors import DropframeError, NodeLost, PipelineDied

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""Longest wait of one question to an actor that is at work."""


class Actor(Protocol):
    """What a place needs of an actor; see ``RemoteActor``."""

    def wait_up(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until it is up."""

    def send(self, request: Mapping[str, Any]) -> None:
        """Have something done."""

    def stop(self, turn: int) -> None:
        """Have a turn end soon."""

    def answers(self, seconds: float, silent_seconds: float) -> Mapping[str, Any]:
        """Return what it has to say."""

    def kill(self) -> None:
        """End it."""


class Placement:
    """Does one turn after the other.

    Args:
        number: Of the slot.
        make: Has an actor placed, with its share of a machine.
        share: Says what that is just now.
        tell: Sends an answer to the daemon.
        silent_seconds: Time without an answer after which an actor is ended.
    """

    def __init__(
        self,
        number: int,
        make: Callable[[Share], Actor],
        share: Callable[[], Share],
        tell: Callable[..., None],
        silent_seconds: float,
    ) -> None:
        self._share = share
        self._number, self._make, self._tell = number, make, tell
        self._silent_seconds = silent_seconds
        self._idle_seconds = min(2.0, silent_seconds / 8)
        """Time between two questions to an actor that has nothing to do; it ends itself if nobody asks."""
        self._due: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._actor: Actor | None = None
        self._closed = threading.Event()
        self._asked = 0.0
        """When an actor was last asked."""
        self._memory = 0
        threading.Thread(target=self._loop, name=f"place-{number}", daemon=True).start()

    def put(self, request: Mapping[str, Any]) -> None:
        """Have something done; its answers carry the same turn."""
        self._due.put(request)

    def stop(self, turn: int) -> None:
        """Have a turn end soon."""
        if (actor := self._actor) is not None:
            _try(lambda: actor.stop(turn))

    def close(self) -> None:
        """End the actor, whatever it does."""
        self._closed.set()
        self._due.put(None)
        if (actor := self._actor) is not None:
            _try(actor.kill)

    def _loop(self) -> None:
        while not self._closed.is_set():
            try:
                request = self._due.get(timeout=self._idle_seconds)
            except queue.Empty:
                self._look()
                continue
            if request is not None:
                self._serve(request)
        self._drop()

    def _look(self) -> None:
        """Ask an actor that has nothing to do, so that it is known whether it lives, and that it knows that we do."""
        if self._actor is None:
            return
        try:
            self._ask(self._actor, 0)
        except Exception as error:  # Ray has errors of its own, and this thread must live
            log.warning("slot %d: %s", self._number, error, exc_info=not isinstance(error, DropframeError))
            self._drop()
            self._tell("gone", slot=self._number)

    def _serve(self, request: Mapping[str, Any]) -> None:
        try:
            if (actor := self._started(request["kind"])) is not None:
                actor.send(request)
                self._hear(actor, request["turn"])
        except Exception as error:
            if not isinstance(error, DropframeError):
                log.exception("unexpected error")
                error = PipelineDied(f"A slot of the cluster failed: {type(error).__name__}.")
            was_at_work = self._actor is not None
            self._drop()
            if was_at_work and request["kind"] == "run":
                self._outlast()
            said = {"error": type(error).__name__, "message": str(error)}
            self._tell("error", slot=self._number, turn=request["turn"], ready=None, **said)

    def _hear(self, actor: Actor, turn: int) -> None:
        """Hand answers on until the turn is over."""
        while not self._closed.is_set():
            for answer in self._ask(actor, WAIT_SECONDS):
                if answer["turn"] != turn:
                    continue
                if answer.get("error") == "NodeLost":
                    raise NodeLost(answer["message"])  # as if it were not heard of any more
                self._tell(slot=self._number, **answer)
                if answer["kind"] != "progress":
                    return

    def _outlast(self) -> None:
        """Wait until an actor that was lost has ended itself, should it live where nobody reaches it.

        Whoever runs the video in one piece after it writes to the same file; parts have names of their own.
        """
        end = self._asked + LEASE_PART * self._silent_seconds + WATCH_SECONDS
        self._closed.wait(max(0.0, end - time.monotonic()))

    def _started(self, kind: str) -> Actor | None:
        """Return an actor that is up; None if there is to be none any more."""
        if self._actor is None:
            if kind != "start":
                raise NodeLost("The slot has ended.")  # after it was given this, and before it could begin
            self._place()
        return self._actor

    def _place(self) -> None:
        """Have an actor placed, and wait until it is up; anew if it waits for more than slots have by now."""
        while not self._closed.is_set():
            share = self._share()
            actor = self._actor = self._make(share)
            if actor.wait_up(lambda: self._closed.is_set() or self._share() != share):  # noqa: B023 - called before it changes
                return
            self._drop()

    def _ask(self, actor: Actor, seconds: float) -> list[Mapping[str, Any]]:
        self._asked = time.monotonic()
        said = actor.answers(seconds, self._silent_seconds + seconds)
        if said["memory_bytes"] != self._memory:
            self._memory = said["memory_bytes"]
            self._tell("memory", slot=self._number, memory_bytes=self._memory)
        answers: list[Mapping[str, Any]] = said["answers"]
        return answers

    def _drop(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            _try(actor.kill)


def _try(act: Callable[[], None]) -> None:
    """Have an actor end something; an error says that it is gone, or the whole cluster."""
    try:
        act()
    except Exception:
        log.debug("an actor cannot be reached", exc_info=True)
