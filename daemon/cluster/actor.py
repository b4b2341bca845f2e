"""SlotActor: what runs on a machine of the cluster. It holds one pipeline process, and answers when it is asked.

Nothing here knows Ray, and nothing is raised over the wire: errors are answers like others.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon import __version__
from daemon.cluster.cores import Cores
from daemon.cluster.node_folder import settings_on_node
from daemon.cluster.share import require_share
from daemon.errors import DropframeError, MachineError, ModelError, NodeLost, ResourceUnavailable
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.machine import SLOT_BYTES, abilities, count_cores, count_gpus, machine_memory, sixty_percent
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.seams import NotExact
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.cluster.staging import Staging

log = logging.getLogger(__name__)

LEASE_PART = 0.5
"""Part of ``silent_seconds`` after which an actor that nobody asks any more ends itself.

Whoever does not hear of it for the whole of that time has its work done by another, which must not write to the same
files as this one."""
WATCH_SECONDS = 0.5
"""Time between two looks whether it is so."""
STILL_SECONDS = 10.0
"""Shortest time without a sign of the thread that does the work after which a turn counts as lost; its pipeline process
looks at least that often whether it should stop."""


@dataclass(frozen=True)
class Share:
    """What a slot has of its machine."""

    cores: int
    gpu: bool = False


class SlotActor:
    """Holds one pipeline process, in a thread of its own, as the kernel ends a child with the thread that started it.

    Args:
        told: Settings, in JSON form.
        share: What the slot has of its machine.
        mark: What the mark in the shared folders says.
        version: Of Dropframe where all that comes from.
    """

    def __init__(self, told: Mapping[str, Any], share: Share, mark: str, version: str) -> None:
        self._told, self._share, self._mark, self._version = told, share, mark, version
        self._silent_seconds = float(told["silent_seconds"])
        self._requests: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stopped = -1
        """The last turn that is to be stopped; those before it are over."""
        self._unasked = 0.0
        self._still = 0.0
        """Seconds since the last sign of the thread that does the work."""
        self._turn: int | None = None
        """What it does just now."""
        self._process: PipelineProcess | None = None
        self._staging: Staging | None = None
        threading.Thread(target=self._work, name="slot", daemon=True).start()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def send(self, request: Mapping[str, Any]) -> None:
        """Have something done: ``kind`` and ``turn`` say what; ``answers`` gives what comes of it."""
        self._requests.put(request)

    def stop(self, turn: int) -> None:
        """Have a turn end soon."""
        self._stopped = max(self._stopped, turn)

    def answers(self, seconds: float) -> dict[str, Any]:
        """Return what there is to say, after so many seconds at most, and the memory that is held."""
        self._unasked = 0.0
        if (turn := self._turn) is not None and self._still > max(STILL_SECONDS, self._silent_seconds):
            self._answers.put(self._stands_still(turn))
        said = []
        try:
            said.append(self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait())
            while True:
                said.append(self._answers.get_nowait())
        except queue.Empty:
            return {"answers": said, "memory_bytes": self._process.resident_bytes() if self._process else 0}

    @staticmethod
    def _stands_still(turn: int) -> dict[str, Any]:
        message = f"A slot on {socket.gethostname()} stands still; a shared folder or object storage may hang there."
        return {"turn": turn, "ready": None, "kind": "error", "error": "NodeLost", "message": message}

    def _watch(self) -> None:
        while self._unasked < LEASE_PART * self._silent_seconds:
            time.sleep(WATCH_SECONDS)
            self._unasked += WATCH_SECONDS  # not the clock: the machine may have been asleep, and so whoever asks
            self._still += WATCH_SECONDS
        self._expire()

    def _expire(self) -> None:
        log.error("nobody asks any more, so this slot ends itself")
        os._exit(1)  # and the kernel the pipeline process

    # In the thread that has the process.

    def _work(self) -> None:
        while True:
            request = self._requests.get()
            self._still, self._turn = 0.0, request["turn"]
            answer = self._answer(request)
            self._turn = None
            self._answers.put({"turn": request["turn"], "ready": self._ready(), **answer})

    def _made(self) -> tuple[Settings, PipelineProcess]:
        """Return what does the work, which is made for the first request.

        Raises:
            MachineError: this machine has another version.
        """
        if self._version != __version__:
            raise MachineError(f"it has Dropframe {__version__}, and the daemon {self._version}; install the same.")
        settings = _settings_for(Settings.told(self._told), self._share)
        if self._process is None:
            self._process = self._make(settings)
        return settings, self._process

    def _make(self, settings: Settings) -> PipelineProcess:
        cores = Cores(self._share.cores)
        slots = max(1, count_gpus(environment={}) if self._share.gpu else count_cores() // self._share.cores)
        whole = sixty_percent(machine_memory())
        limit = settings.memory_limit_bytes or max(whole // slots, min(whole, SLOT_BYTES))
        told = settings if settings.cluster_store is None else settings_on_node(settings)
        return PipelineProcess(told, cores.numbers, limit)

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"kind": "done", "report": self._do(request)}
        except DropframeError as error:
            of_machine = isinstance(error, MachineError | ModelError)  # there are others
            message = f"On {socket.gethostname()}: {error}" if of_machine else str(error)
            return {"kind": "error", "error": type(error).__name__, "message": message}
        except Exception as error:
            log.exception("unexpected error")
            said = (str(error).strip() or "no message").splitlines()[0][:200]
            message = f"The slot failed on {socket.gethostname()}: {type(error).__name__}: {said}."
            return {"kind": "error", "error": "PipelineDied", "message": message}

    def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        turn: int = request["turn"]

        def tell(progress: Progress) -> None:
            self._answers.put({"turn": turn, "kind": "progress", **asdict(progress)})

        def should_stop() -> bool:
            self._still = 0.0
            return self._stopped >= turn

        settings, process = self._made()
        if settings.cluster_store is not None:
            if self._staging is None:
                from daemon.cluster.staging import Staging  # loads what the daemon does not need to

                self._staging = Staging(settings)
            return self._staging(process, request, tell, should_stop)
        self._check_share(settings, request["kind"])
        match request["kind"]:
            case "start":
                process.start(should_stop)
                return {}
            case "plan":
                run, path = RunRequest.from_record(request["request"]), Path(request["plan_path"])
                return {"planned": process.plan(run, path, should_stop, request["least_parts"])}
            case "part":
                part = PartRequest.from_record(request["request"])
                try:
                    return {"not_exact": None, "stage_seconds": process.run_part(part, tell, should_stop)}
                except NotExact as why:
                    return {"not_exact": str(why)}
        return asdict(process.run(RunRequest.from_record(request["request"]), tell, should_stop))

    def _check_share(self, settings: Settings, kind: str) -> None:
        """Make sure that files are missing because they are, not because this machine lacks a shared folder."""
        try:
            require_share(settings, self._mark)
        except ResourceUnavailable as error:
            raise error if kind == "start" else NodeLost(str(error)) from error

    def _ready(self) -> dict[str, Any] | None:
        process = self._process
        if process is None or process.ready is None or not process.is_up:
            return None
        return {**asdict(process.ready), "node": socket.gethostname(), "abilities": abilities()}


def _settings_for(settings: Settings, share: Share) -> Settings:
    """Return the settings of a slot. Ray shows it no GPU but its own, which is the first one then."""
    return settings.model_copy(update={"device": "cuda:0" if share.gpu else "cpu"})
