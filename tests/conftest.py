"""What several tests share: weights, clips with known truth, and the rule that CI allows no skip."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# Taken out of the environment, where our own settings would refuse it as unknown.
NO_SKIPS = os.environ.pop("DROPFRAME_NO_SKIPS", "") not in ("", "0")

SHARED = Path(__file__).parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what torch says of its own parts while Ultralytics exports a network."""
    for line in ("ignore::DeprecationWarning:torch.*", "ignore:Converting a tensor"):
        config.addinivalue_line("filterwarnings", line)


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
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (DROPFRAME_NO_SKIPS is set, so a skip is a failure)"
    return report


@pytest.fixture(scope="session")
def weights() -> Path:
    """YOLOv8n with the COCO classes."""
    path = SHARED / "models" / "yolov8n-coco.pt"
    if not path.is_file():
        pytest.skip(f"the weights {path} are not there")
    return path


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """The folder of the clips with known truth: street.mp4, bunny_cam.mp4 and truth.json."""
    folder = SHARED / "media"
    if not (folder / "truth.json").is_file():
        pytest.skip(f"the clips with known truth in {folder} are not there")
    return folder


@pytest.fixture(scope="session")
def truth(shared_media: Path) -> dict[str, Any]:
    """What is on the frames of the shared clips."""
    values: dict[str, Any] = json.loads((shared_media / "truth.json").read_text())
    return values


@pytest.fixture(scope="session")
def warm_home(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A home whose data/models/ holds the weights, exported by the first test that needs them."""
    home = tmp_path_factory.mktemp("warm-home")
    folder = home / "data" / "models"
    folder.mkdir(parents=True)
    (folder / weights.name).symlink_to(weights)
    return home
