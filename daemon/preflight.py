"""Checks of the machine: limits, folders, disk, libraries. A start makes the first two, ``dropframe doctor`` all."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import queue
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daemon.cluster.check import check_cluster, require_ray
from daemon.errors import DropframeError, MachineError
from daemon.fs import mounts
from daemon.fs.mounts import is_remote, mount_of
from daemon.fs.space import FULL, DiskGuard
from daemon.ipc import health
from daemon.ipc.health import SILENT_SECONDS
from daemon.objects.check import check_stores, require_package
from daemon.pipeline.executor_choice import choose
from daemon.pipeline.libraries import LIBRARIES, missing_library, version_of
from daemon.pipeline.machine import Machine
from daemon.settings import Settings

LEAST_FILES = 64
"""Twice what the daemon and its pipeline have open at a time."""
LEAST_THREADS = 48
"""What the daemon and its pipeline start on a small machine."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    sentence: str
    """What was found; if it is not ok, what to do."""
    away: bool = False
    """Whether Dropframe can wait for it: it is a share that was used before, or a disk without room."""


def check_limits() -> Iterator[Check]:
    """Look at how many files this process may open, and try how many threads it may start."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sentence = f"up to {files} may be open"
    if files < LEAST_FILES:
        sentence = f"Only {files} files may be open; allow {LEAST_FILES} or more (ulimit -n, LimitNOFILE= of systemd)."
    yield Check("open files", files >= LEAST_FILES, sentence)
    threads = _startable_threads(LEAST_THREADS)
    sentence = f"{LEAST_THREADS} more can be started"
    if threads < LEAST_THREADS:
        sentence = (
            f"Only {threads} more threads can be started; allow {LEAST_THREADS} or more processes and threads "
            "(ulimit -u, TasksMax= of systemd, --pids-limit of a container)."
        )
    yield Check("threads", threads >= LEAST_THREADS, sentence)


def _startable_threads(wanted: int) -> int:
    enough = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=enough.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:  # the only way to know: limits are of the user, the group, the container
        pass
    finally:
        enough.set()
        for thread in started:
            thread.join()
    return len(started)


def check_folders(settings: Settings, *, make: bool = True) -> Iterator[Check]:
    """Write, rename and delete a file in each folder, and look at the file system that it is on.

    Args:
        settings: Say where they are.
        make: Make those below the home that are missing, as a start does; else only say so.
    """
    for name, folder in (
        ("inbox", settings.inbox_dir),
        ("outbox", settings.outbox_dir),
        ("data", settings.data_dir),
    ):
        hangs = f"{folder} does not answer; the share that it is on hangs. Mount it again, or set another folder."
        yield _in_time(
            lambda name=name, folder=folder: _check_folder(name, folder, settings, make),  # type: ignore[misc]
            Check(name, False, hangs),
        )


def _check_folder(name: str, folder: Path, settings: Settings, make: bool) -> Check:
    offline = mounts.away(settings.data_dir, folder)
    if offline is not None:
        return Check(name, False, offline, away=True)
    missing = not make and _is_missing(folder, settings.home)
    full = ""
    try:
        problem = _try_parent(folder) if missing else _try_folder(folder, settings.home)
    except OSError as error:  # room may be made by deleting jobs, for which Dropframe has to run
        problem = None
        full = f"{folder} is on a disk without room ({error.strerror}); delete jobs (dropframe delete) or other files."
    read_only = problem is not None and name == "inbox" and settings.inbox_mode == "keep" and os.access(folder, os.R_OK)
    if read_only:  # nothing is to be moved there
        problem = None
    if problem is not None:
        return Check(name, False, problem)
    kind = mount_of(folder).kind
    if name == "data" and is_remote(kind):
        return Check(
            name,
            False,
            f"{folder} is on {kind}, a network file system, where the job store is not safe; set data_dir to a "
            "folder on a local disk.",
        )
    if full:
        return Check(name, False, full, away=True)
    watched = ""
    if name == "inbox":
        polled = settings.watch == "polling" or (settings.watch == "auto" and is_remote(kind))
        watched = f", watched by {'polling' if polled else 'events'}{', read-only' if read_only else ''}"
    return Check(name, True, f"{folder} ({kind}{watched}){', which the first start makes' if missing else ''}")


def _in_time(ask: Callable[[], Check], otherwise: Check) -> Check:
    """Return an answer, or ``otherwise`` if it does not come: a call into a share that hangs may never return."""
    answers: queue.SimpleQueue[Check] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
    try:
        return answers.get(timeout=SILENT_SECONDS)
    except queue.Empty:
        return otherwise


def _is_missing(folder: Path, home: Path) -> bool:
    """Tell whether a folder of the home is not there yet; one elsewhere may be on a share, and is looked for."""
    return not os.path.lexists(folder) and folder.resolve().is_relative_to(home.resolve())


def nearest_existing(folder: Path) -> Path:
    """Return a folder, or where it would be made: the nearest folder above it that is there."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _try_parent(folder: Path) -> str | None:
    place = nearest_existing(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return None
    return f"{folder} cannot be made: user {os.getuid()} may not write to {place}. Grant that, or set another folder."


def _try_folder(folder: Path, home: Path) -> str | None:
    """Say why a folder cannot be used, if so.

    Raises:
        OSError: its disk has no room.
    """
    probe = folder / f".dropframe-preflight-{os.getpid()}"
    try:
        if not folder.exists() and not folder.resolve().is_relative_to(home.resolve()):
            # It may be on a share that is not mounted yet; made here, it would hide that for ever.
            return f"{folder} is not there; mount it or make it, or set another folder."
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        moved = probe.rename(probe.with_name(probe.name + "-2"))
        moved.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        if error.errno in FULL and folder.is_dir():
            raise
        return (
            f"{folder} cannot be used: {error.strerror}. Give user {os.getuid()} the right to write, rename and "
            "delete there, or set another folder."
        )
    return None


def require_machine(settings: Settings) -> list[str]:
    """Check limits and folders and stop at the first that will not do.

    Returns:
        A sentence for each share that is away, and disk without room, that can be waited for, and for each setting
        without effect.

    Raises:
        MachineError: which one, and what to do.
    """
    require_package(settings)
    require_ray(settings)
    told = settings.without_effect()
    for check in itertools.chain(check_limits(), check_folders(settings)):
        if check.away:
            told.append(check.sentence)
        elif not check.ok:
            raise MachineError(check.sentence)
    return told


def check_disk(settings: Settings, folder: Path | None = None) -> Check:
    """Compare free space with ``min_free_bytes``.

    Args:
        settings: Say where the data folder is and how much stays free.
        folder: A folder on the disk to ask; the data folder if not given.
    """
    disk = DiskGuard(folder or settings.data_dir, settings.min_free_bytes)
    try:
        room = disk.room()
    except OSError as error:
        return Check("disk", False, f"the free space of {disk.folder} is not known: {error.strerror}")
    sentence = f"{(room + disk.least) / 1e9:.1f} GB free for data"
    if room < 0:
        sentence += f", less than min_free_bytes ({disk.least}); make room or lower it"
    return Check("disk", room >= 0, sentence)


def check_libraries() -> Iterator[Check]:
    """Import each library; name the system library that one misses and the Debian package that has it."""
    import daemon.pipeline  # noqa: F401 - sets the environment that Ultralytics reads

    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # torch raises OSError for a library that it misses
            yield Check(f"library {name}", False, missing_library(name, error))
        else:
            yield Check(f"library {name}", True, version_of(module))


def check_models(settings: Settings, exports: Path | None = None) -> Iterator[Check]:
    """Load the models as the daemon would.

    Args:
        settings: Say which.
        exports: What to use as the data folder, where exported models are kept, if not the data folder itself.
    """
    from daemon.pipeline.loaded import LoadedModels
    from daemon.pipeline.recognisers import plan

    try:
        loaded = LoadedModels(settings.model_copy(update={"data_dir": exports}) if exports else settings)
        models = loaded.describe()
    except (DropframeError, OSError) as error:
        yield Check("models", False, str(error))
        return
    yield Check("device", True, loaded.device)
    if loaded.objects is None:
        yield Check(
            "objects",
            True,
            f"no weights, so only text is detected; put an Ultralytics .pt into {settings.models_dir}, "
            "or run dropframe models pull yolo11n.",
        )
    for model in models:
        digest = f", sha256 {model.sha256[:12]}…" if model.sha256 else ""
        yield Check(model.role, True, f"{model.name} on {model.runtime} ({model.device}, {model.precision}{digest})")
    yield Check("text languages", True, plan(settings).describe())


def check_unused_weights(settings: Settings) -> Iterator[Check]:
    """Name the files among the weights that cannot be used; older weights are left out, as they are kept on purpose."""
    from daemon.pipeline.models import find_weights
    from daemon.pipeline.unused_weights import unused_weights

    try:
        found = find_weights(settings)
    except (DropframeError, OSError):
        found = None  # loading the models says so
    for file in unused_weights(settings, found.path if found else None):
        if found is None or not file.name.endswith(".pt"):
            yield Check("weights", True, f"{file.name} is not used. {file.reason}")


def check_tesseract() -> Check:
    """Look for the Tesseract program and its languages."""
    from daemon.pipeline.engines import TesseractReader, installed_packs

    try:
        version, packs = TesseractReader().version, ", ".join(sorted(installed_packs()))
    except MachineError:
        return Check(
            "tesseract",
            True,
            "not installed; only text_engine = tesseract and some text_languages need it (package tesseract-ocr)",
        )
    return Check("tesseract", True, f"tesseract-{version} with {packs}")


def check_store(settings: Settings) -> Check:
    """Read the job store, without the lock, as the sidecar does."""
    from daemon.store.job_reader import JobReader

    with JobReader(settings.data_dir) as reader:
        try:
            reader.refresh()
        except DropframeError as error:
            return Check("jobs", False, str(error))
        counts = reader.counts()
    return Check("jobs", True, ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "none")


def check_executor(settings: Settings) -> Check:
    """Say which executor runs jobs here."""
    return Check("executor", True, choose(settings, Machine.here()).why)


def check_daemon(settings: Settings) -> Check:
    """Say what ``judge`` says of a daemon; one that was never started or was stopped is nothing to mend.

    Disk and job store have checks of their own.
    """
    heartbeat = health.read(settings.data_dir)
    if heartbeat is None or heartbeat.state == "stopping":
        return Check("daemon", True, "not running")
    now = datetime.now(UTC)
    parts = health.judge(heartbeat, settings, now)
    problem = health.explain({name: parts[name] for name in parts if name not in ("disk", "store")}, heartbeat, now)
    return Check("daemon", not problem, problem or f"running, process {heartbeat.pid}")


def all_checks(settings: Settings) -> Iterator[Check]:
    """Run every check, in the order in which a person would mend things; nothing is made that a start would make."""
    yield from (Check("settings", True, sentence) for sentence in settings.without_effect())
    yield from check_limits()
    yield from check_folders(settings, make=False)
    yield check_disk(settings, nearest_existing(settings.data_dir))
    yield check_store(settings)
    yield check_daemon(settings)
    yield from (Check(*each) for each in itertools.chain(check_stores(settings), check_cluster(settings)))
    yield from (libraries := list(check_libraries()))
    if all(check.ok for check in libraries):
        yield check_executor(settings)
        yield check_tesseract()
        yield from check_unused_weights(settings)
        if settings.data_dir.is_dir():
            yield from check_models(settings)
        else:
            with tempfile.TemporaryDirectory() as folder:  # loading exports weights below the data folder
                yield from check_models(settings, Path(folder))
