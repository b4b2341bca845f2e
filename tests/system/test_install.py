"""What `pip install dropframe` gives: the newest of everything that pyproject.toml allows, not what is pinned."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import __version__
from tests.clips import make_clip
from tests.system.releases import make_release
from tests.system.running import FAST, ROOT, environment, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("release")).wheel


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The command of an empty environment that the wheel alone was installed into."""
    folder = tmp_path_factory.mktemp("install")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    pip = [folder / "venv" / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile", wheel]
    done = subprocess.run(pip, env=clean(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin" / "dropframe"


def clean() -> dict[str, str]:
    """Return an environment in which this checkout is not found, and nothing constrains pip."""
    return {name: value for name, value in environment().items() if name not in ("PYTHONPATH", "PIP_CONSTRAINT")}


@pytest.fixture
def run(program: Path, tmp_path: Path) -> Callable[..., str]:
    def run_it(*arguments: object) -> str:
        command = [program, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    return run_it


def test_the_wheel_holds_every_file_of_the_program_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    wanted = {path for part in ("daemon", "sidecar") for path in (ROOT / part).rglob("*") if path.is_file()}
    assert held == {str(path.relative_to(ROOT)) for path in wanted if path.parent.name != "__pycache__"}
    assert "sidecar/page/vendor/vendor.json" in held


def test_what_is_installed_fits_together(program: Path, run: Callable[..., str]) -> None:
    assert run("--version") == f"dropframe {__version__}\n"
    checked = subprocess.run([program.with_name("pip"), "check"], env=clean(), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_doctor_finds_it_well(run: Callable[..., str], tmp_path: Path) -> None:
    checks = json.loads(run("doctor", "--json", "--home", tmp_path))
    assert {check["name"]: check["sentence"] for check in checks if not check["ok"]} == {}


def test_it_reads_a_video_and_shows_a_newcomer_a_result(program: Path, run: Callable[..., str], tmp_path: Path) -> None:
    make_clip(tmp_path / "inbox" / "a.mp4", frames=5, text="GOAL 42")
    result = tmp_path / "outbox" / "a.mp4.json"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--port", "0", "--home", tmp_path],
            cwd=tmp_path,
            env=clean() | FAST,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(result.exists, 120, "there was no result")
        assert json.loads(result.read_text())["summary"]["texts"] == ["GOAL 42"]
        assert "DROPFRAME DEMO" in run("demo", "--home", tmp_path)
        assert "No video at hand? In another terminal: " in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(30)
