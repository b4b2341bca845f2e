"""The child process that keeps a pipeline warm (``python -m daemon.pipeline.process``).

It reads requests from its standard input and answers on what was its standard output, one JSON object a line
(the parent's end is ``daemon.pipeline.client``). Decoders, models and OCR run here and nowhere else, so a video
that crashes one of them ends this process and nothing more. It ends by itself when its parent does.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from daemon.errors import DropframeError
from daemon.fs.space import TRANSIENT_DISK_ERRORS
from daemon.ipc.child import be_killed_first, end_with_parent, private_stdout
from daemon.logs import FORMAT
from daemon.pipeline.isolation import unshare_network
from daemon.pipeline.libraries import missing_library
from daemon.pipeline.machine import has_cuda_driver
from daemon.settings import Settings

UNAVAILABLE = TRANSIENT_DISK_ERRORS | {errno.EMFILE, errno.ENFILE}
"""Errors of the machine, not of the video, so they do not count as attempts."""


class Answers:
    """Writes JSON lines to the parent; safe from any thread."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Send one answer: ``ready``, ``refused``, ``progress``, ``done`` or ``error``."""
        with self._lock:
            self._pipe.write(json.dumps({"kind": kind, **content}).encode() + b"\n")
            self._pipe.flush()


def main() -> None:
    """Load the models, then run one request after the other until the parent is gone."""
    answers = Answers(private_stdout())
    requests = sys.stdin.buffer
    line = requests.readline()
    if not line.endswith(b"\n"):
        return  # the parent died before it said what to do
    beginning = json.loads(line)
    reachable = unshare_network()  # before the next line, which a change of namespaces would undo
    end_with_parent(beginning["parent"])
    if beginning.get("cores"):
        os.sched_setaffinity(0, beginning["cores"])  # before a library counts them
    _take_along()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    be_killed_first()
    settings = Settings.told(beginning["settings"])
    logging.basicConfig(level=settings.log_level.upper(), format=FORMAT, stream=sys.stderr)
    if reachable is not None:
        logging.getLogger(__name__).info("the network cannot be taken away from this process: %s", reachable)
    try:
        _give_libraries_a_home(settings.models_dir / ".libraries")
        from daemon.pipeline.service import VideoFilePipelineService  # loads much: seconds
        from daemon.pipeline.serving import Serving

        service = VideoFilePipelineService(settings)
        models = [asdict(model) for model in service.loaded.describe()]
        gpus = _gpu_names()
        gpu = gpus[int(service.loaded.device.partition(":")[2])] if gpus and service.loaded.device != "cpu" else None
        what = {"device": service.loaded.device, "models": models, "calibration": service.loaded.calibration}
        answers.send("ready", **what, gpu=gpu, gpus=len(gpus))
    except (DropframeError, ImportError, OSError, RuntimeError) as error:
        answers.send("refused", **_refusal(error))
        return
    stop = threading.Event()
    work: queue.Queue[Mapping[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, work, stop), name="listen", daemon=True).start()
    serve = Serving(service, answers, stop.is_set)
    while True:
        request = work.get()
        try:
            report = serve(request)
        except Exception as error:
            described = _described(error)
            answers.send("error", **described)
            if described["error"] == "PipelineDied":
                return  # its state is unknown: the parent starts a fresh process
        else:
            answers.send("done", report=report)


def _gpu_names() -> list[str]:
    """Return the names of the GPUs that can be used; without a driver there are none, and torch is not loaded."""
    if not has_cuda_driver():
        return []
    from daemon.pipeline.yolo import gpu_names

    return gpu_names()


def _listen(requests: BinaryIO, work: queue.Queue[Mapping[str, Any]], stop: threading.Event) -> None:
    for line in requests:
        request = json.loads(line)
        if request["kind"] == "stop":
            stop.set()
        else:
            stop.clear()  # here, where the order of requests is known
            work.put(request)
    os._exit(0)  # the parent is gone; nothing here needs tidying, and a stage may never return


def _refusal(error: Exception) -> dict[str, str]:
    if isinstance(error, DropframeError):
        return {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError) and error.errno in UNAVAILABLE:
        return {"error": "ResourceUnavailable", "message": f"The models cannot be prepared: {error.strerror}."}
    if isinstance(error, OSError) and error.filename:  # which a library that cannot be loaded does not give
        return {"error": "MachineError", "message": f"{error.filename} cannot be used: {error.strerror}."}
    if type(error).__name__ == "OutOfMemoryError":  # another program may hold the GPU only for now
        return {"error": "ResourceUnavailable", "message": f"The models do not fit into the GPU's memory: {error}."}
    if isinstance(error, RuntimeError):
        return {"error": "MachineError", "message": f"The models cannot be loaded: {error}."}
    name = getattr(error, "name", None) or "a library of the pipeline"
    return {"error": "MachineError", "message": missing_library(name, error)}


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, DropframeError):
        return {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError) and error.errno in UNAVAILABLE:
        return {"error": "ResourceUnavailable", "message": f"The data folder cannot be used: {error.strerror}."}
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return {"error": "PipelineDied", "message": "The pipeline ran out of memory on this video."}
    logging.getLogger(__name__).error("unexpected error", exc_info=error)
    text = (str(error).strip() or "no message").splitlines()[0][:200]
    # A library that gets no more memory says so in words of its own, and may fail from then on.
    return {"error": "PipelineDied", "message": f"The pipeline failed: {type(error).__name__}: {text}."}


def _take_along() -> None:
    """Have all that this process starts (text engines, what stages of others run) end with it, however it ends."""
    # The signal that end_with_parent asks for reaches this process alone. So there is a shell whose input ends when
    # this process does, as nobody else holds the other end of the pipe; it then ends its process group, which is ours.
    if os.getpgrp() != os.getpid():
        return  # started by hand, in the group of somebody else
    theirs, _open_as_long_as_we_live = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    command = ["sh", "-c", "trap '' INT TERM HUP; read -r _; kill -9 0"]
    os.posix_spawn("/bin/sh", command, os.environ, file_actions=actions)
    os.close(theirs)


def _give_libraries_a_home(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_CONFIG_DIR=str(folder), MPLCONFIGDIR=str(folder))


if __name__ == "__main__":
    main()
