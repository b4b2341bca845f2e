"""What several tests share: weights, clips with known truth, and the rules that hold for every test."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from daemon.pipeline import models
from daemon.settings import Settings
from tests import programs

# Taken out of the environment, where our own settings would refuse it as unknown.
NO_SKIPS = os.environ.pop("DROPFRAME_NO_SKIPS", "") not in ("", "0")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["COLUMNS"] = "200"  # such a process has no terminal of which a command could learn its width

SHARED = Path(__file__).parents[2] / "shared"
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ROOMS = ["gpu", "int8", "cluster", "system", "integration", "unit", "governance"]
"""Folders of tests, those with the longest tests first."""
THREAD_SECONDS = 5.0
"""How long a thread may take to end after its test, on a busy machine."""


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what torch says of its own parts while Ultralytics exports a network."""
    for line in ("ignore::DeprecationWarning:torch.*", "ignore:Converting a tensor"):
        config.addinivalue_line("filterwarnings", line)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Load no file without a slow test where those alone are asked for: each process loads them all, for 20 seconds."""
    only_slow = config.option.markexpr == "slow" and collection_path.suffix == ".py"
    return True if only_slow and "mark.slow" not in collection_path.read_text() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: where several processes share the tests, none is left over at the end."""
    items.sort(key=lambda item: ROOMS.index(item.path.relative_to(Path(__file__).parent).parts[0]))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Call a test alike in every process, though its parameter holds a new job id."""
    return JOB_ID.sub("ID", val) if isinstance(val, str) and JOB_ID.search(val) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``needs("nginx")`` where nginx is not installed."""
    for marker in item.iter_markers("needs"):
        programs.skip_without(*marker.args)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """Say in the last line how many tests were skipped, what is missing, and how to run them all."""
    result = yield
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [report for report in reporter.stats.get("skipped", ()) if not hasattr(report, "wasxfail")]
    if skipped:
        reporter.write_line(programs.sentence([_reason(report) for report in skipped]), yellow=True)
    return result


def _reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Under DROPFRAME_NO_SKIPS=1 a skipped test is a failure."""
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """See pytest_runtest_makereport; this one is for whole files."""
    return _no_skip((yield))


def _no_skip(report: Any) -> Any:
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{_reason(report)} (DROPFRAME_NO_SKIPS is set, so a skip is a failure)"
    return report


@pytest.fixture(scope="session")
def weights() -> Path:
    """YOLOv8n with the COCO classes."""
    path = SHARED / "models" / "yolov8n-coco.pt"
    if not path.is_file():
        pytest.skip(programs.MISSING + f"../shared/models/{path.name}")
    return path


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """The folder of the clips with known truth: street.mp4, bunny_cam.mp4 and truth.json."""
    folder = SHARED / "media"
    if not (folder / "truth.json").is_file():
        pytest.skip(programs.MISSING + "../shared/media")
    return folder


@pytest.fixture(scope="session")
def truth(shared_media: Path) -> dict[str, Any]:
    """What is on the frames of the shared clips."""
    values: dict[str, Any] = json.loads((shared_media / "truth.json").read_text())
    return values


@pytest.fixture(scope="session")
def warm_home(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, weights: Path) -> Path:
    """A home whose data/models/ holds the weights and their export, which is made once for many runs."""
    home = tmp_path_factory.mktemp("warm-home")
    folder = home / "data" / "models"
    folder.mkdir(parents=True)
    (folder / weights.name).symlink_to(weights)
    shutil.copytree(_exports(pytestconfig.rootpath, weights), folder / "exported")
    return home


def _exports(root: Path, weights: Path) -> Path:
    """Return the folder of the weights' export, made by whichever process comes first."""
    made_by = "-".join(f"{name}-{version(name)}" for name in ("openvino", "torch", "ultralytics-opencv-headless"))
    kept = root / ".pytest_cache" / "exports" / made_by
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        given = models.Weights(weights, weights.stem, models.file_sha256(weights))
        models.export(given, Settings.load(home=kept))
    return Settings.load(home=kept).models_dir / "exported"


@pytest.fixture(scope="module")
def shared_threads() -> frozenset[str]:
    """Names of threads that belong to what the tests of a file share; such a file overrides this fixture."""
    return frozenset()


@pytest.fixture(autouse=True)
def _no_thread_is_left(shared_threads: frozenset[str]) -> Iterator[None]:
    """Every thread that a test has started ends with it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_SECONDS
    while left := [t for t in threading.enumerate() if t not in before and t.name not in shared_threads]:
        assert time.monotonic() < deadline, f"threads were left: {left}"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_error_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test in whose course our code logs an error says so: by ``caplog`` or the marker ``expects_error_log``."""
    expected = "caplog" in request.fixturenames or request.node.get_closest_marker("expects_error_log") is not None
    errors = _Errors()
    loggers = [logging.getLogger(name) for name in ("daemon", "sidecar")]
    for logger in loggers:
        logger.addHandler(errors)
    yield
    for logger in loggers:
        logger.removeHandler(errors)
    assert expected or not errors.lines, f"errors were logged: {errors.lines}"


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")
