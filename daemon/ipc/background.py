"""Work in a child process of low priority: what becomes of the child never touches who started it.

The child calls ``settle`` first, and writes its ``Answer`` with what that returns.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from daemon.errors import Interrupted, StorageError
from daemon.ipc.child import be_killed_first, end_with_parent, private_stdout, resident_bytes, without_credentials

LOOK_SECONDS = 0.25
"""Time between two looks at a child: its memory, and whether it should stop."""
MEMORY_BYTES = 2_000_000_000
"""A child that holds more is ended."""
MOST_SECONDS = 6 * 3600.0
"""A child that takes longer is ended."""
NICE = 10
"""How far behind others a child stands in line for a processor, of 19."""
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


class BackgroundFailed(StorageError):
    """The child did not come to an end; trying again may help, unless it is ``final``."""

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class Answer:
    """How the work ended."""

    kind: str
    """``done``, ``refused`` (it would end the same way each time), or ``failed``."""
    message: str = ""
    """What went wrong, in a sentence."""


def run(module: str, arguments: list[str], should_stop: Callable[[], bool]) -> Answer:
    """Run a module of ours with arguments, and behind them our process id; wait for its answer.

    Raises:
        BackgroundFailed: it ended without one, or could not be started.
        Interrupted: ``should_stop`` said so.
    """
    try:
        # A session of its own, so that it is ended together with what it started.
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=without_credentials(),
        )
    except OSError as error:
        raise BackgroundFailed(f"A process cannot be started: {error.strerror}.") from error
    with child:
        try:
            _watch(child, should_stop)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        assert child.stdout is not None
        said = child.stdout.read()
    try:
        return Answer(**json.loads(said))
    except (ValueError, TypeError):
        code = child.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        final = code < 0 and code != -signal.SIGKILL  # that one somebody else sends, perhaps for want of memory
        raise BackgroundFailed(f"The process at work {how}.", final) from None


def _watch(child: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while True:
        if should_stop():
            raise Interrupted("Dropframe is stopping.")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(LOOK_SECONDS)
            return
        if resident_bytes(child.pid) > MEMORY_BYTES:
            raise BackgroundFailed(
                f"It used more than {MEMORY_BYTES / 1e9:.0f} GB of memory and was ended.", final=True
            )
        if time.monotonic() > deadline:
            raise BackgroundFailed(f"It took longer than {MOST_SECONDS / 3600:.0f} hours and was ended.", final=True)


def settle(parent: int) -> Callable[[Answer], None]:
    """Make this process one of low priority that ends with its parent; return what sends the answer."""
    import resource  # only Linux and its like have it, and the command line, which must start everywhere, loads this

    pipe = private_stdout()
    end_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    be_killed_first()
    os.nice(NICE)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))

    def answer(ended: Answer) -> None:
        pipe.write(json.dumps(asdict(ended)).encode() + b"\n")
        pipe.flush()

    return answer
