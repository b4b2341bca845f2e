"""What `make release` makes, installed by deploy/install.sh below a scratch root, as its services run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon import __version__
from tests import programs
from tests.clips import make_clip
from tests.system.booted import UNITS, Booted, booted
from tests.system.releases import Release, make_release
from tests.system.running import FAST, ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SYSTEM_PYTHON = "/usr/bin/python3"
"""As on a plain host: the services may see no home folder, so a Python that somebody keeps in theirs will not do."""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; it must end well."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DROPFRAME_")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**clean, "PYTHON": SYSTEM_PYTHON, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release"))


@dataclass(frozen=True)
class Host:
    """A scratch root that deploy/install.sh has installed into."""

    root: Path
    release: Release

    @property
    def program(self) -> Path:
        return self.root / "opt" / "dropframe" / "current" / "bin"

    @property
    def home(self) -> Path:
        return self.root / "var" / "lib" / "dropframe"

    def install(self, *flags: object) -> str:
        """Run the installer that is in the source archive."""
        script = self.release.source / "deploy" / "install.sh"
        return run(script, "--root", self.root, *flags).stdout


@pytest.fixture(scope="module")
def host(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Host:
    programs.skip_without("python3-venv", "root")
    made = Host(tmp_path_factory.mktemp("root"), release)
    made.install("--wheel", release.wheel)
    return made


def test_the_wheel_holds_what_runs_and_nothing_else(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as wheel:
        names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"daemon", "sidecar", f"dropframe-{__version__}.dist-info"}
    bundled = {
        path.relative_to(ROOT).as_posix()
        for package in ("daemon", "sidecar")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert bundled - names == set()
    assert "sidecar/page/index.html" in names


def test_the_source_archive_holds_what_tests_and_deploys_it(release: Release) -> None:
    for name in ("Makefile", "constraints.txt", ".ci/run", "deploy/install.sh", "docs/settings.md", "tests/clips.py"):
        assert (release.source / name).is_file(), name
    assert os.access(release.source / "deploy" / "install.sh", os.X_OK)


def test_the_version_is_written_in_one_place(host: Host) -> None:
    assert run(host.program / "dropframe", "--version").stdout == f"dropframe {__version__}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
    written = [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("daemon/**/*.py")
        if re.search(rf'= "{re.escape(__version__)}"', path.read_text())
    ]
    assert written == ["daemon/__init__.py"]


def test_a_clean_environment_holds_what_is_pinned(host: Host) -> None:
    pinned = dict(
        line.strip().lower().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    listed = json.loads(run(host.program / "pip", "list", "--format", "json").stdout)
    installed = {entry["name"].lower(): entry["version"].split("+")[0] for entry in listed}
    assert installed.pop("dropframe") == __version__
    installed.pop("pip")
    assert {name: version for name, version in installed.items() if pinned.get(name) != version} == {}


def test_doctor_finds_a_clean_environment_well(host: Host, tmp_path: Path) -> None:
    checked = json.loads(
        run(host.program / "dropframe", "doctor", "--json", "--home", tmp_path, **FAST, HOME=str(tmp_path)).stdout
    )
    assert {check["name"]: check["sentence"] for check in checked if not check["ok"]} == {}


def test_installing_again_keeps_settings_and_data(host: Host) -> None:
    settings = host.root / "etc" / "dropframe" / "dropframe.toml"
    before = settings.read_text()
    settings.write_text(before + "poll_seconds = 1.5\n")
    kept = host.home / "inbox" / "kept.mp4.part"
    kept.write_bytes(b"half")
    try:
        host.install("--wheel", host.release.wheel)
        assert settings.read_text().endswith("poll_seconds = 1.5\n")
        assert kept.read_bytes() == b"half"
    finally:
        settings.write_text(before)
        kept.unlink()


def test_folders_belong_to_the_service_and_its_group_may_drop(host: Host) -> None:
    user, group = (
        int(line.split(":")[2])
        for file in ("passwd", "group")
        for line in (host.root / "etc" / file).read_text().splitlines()
        if line.startswith("dropframe:")
    )
    for name, mode in (("", 0o750), ("inbox", 0o2770), ("outbox", 0o2750), ("data", 0o750), ("data/spool", 0o700)):
        status = (host.home / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (user, group, mode), name
    settings = (host.root / "etc" / "dropframe" / "dropframe.toml").stat()
    assert (settings.st_uid, settings.st_gid, settings.st_mode & 0o777) == (0, group, 0o640)


@pytest.fixture
def machine(host: Host, free_port: int) -> Iterator[Booted]:
    with booted(host.root, port=free_port) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_shipped_units_run_a_real_job_under_systemd(
    host: Host, machine: Booted, free_port: int, tmp_path: Path
) -> None:
    """Their hardening is the real one: systemd itself applies it, in namespaces of its own."""
    for unit in UNITS:
        machine.wait_active(unit)
    clip = make_clip(tmp_path / "a.mp4", frames=10, size=(640, 360), text="GOAL 42")
    part = host.home / "inbox" / ".a.mp4.part"
    shutil.copyfile(clip, part)
    part.rename(host.home / "inbox" / "a.mp4")
    result = host.home / "outbox" / "a.mp4.json"
    wait_for(result.exists, 240, "there was no result")
    assert json.loads(result.read_text())["summary"]["texts"] == ["GOAL 42"], machine.log()
    base = f"http://127.0.0.1:{free_port}"
    with urllib.request.urlopen(f"{base}/", timeout=30) as page:
        assert b"<title>Dropframe" in page.read()
    request = urllib.request.Request(
        f"{base}/v1/video/submit/b.mp4", clip.read_bytes(), {"Content-Type": "video/mp4"}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        job = json.load(answer)["job_id"]

    def status() -> str:
        with urllib.request.urlopen(f"{base}/v1/video/status/{job}", timeout=30) as answer:
            return str(json.load(answer)["status"])

    wait_for(lambda: status() == "completed", 240, "the upload was not run")
    for unit in UNITS:
        limits = machine.status(machine.show(unit, "MainPID"))
        assert limits["NoNewPrivs"] == "1"
        assert limits["Seccomp"] == "2"
        assert limits["CapEff"] == limits["CapBnd"] == "0" * 16
        assert limits["Uid"].split()[0] != "0"
        assert not machine.can_write(unit, "/etc/probe")
        assert machine.can_write(unit, "/var/lib/dropframe/data/spool/.probe.part")
    assert not machine.can_write("dropframe-sidecar.service", "/var/lib/dropframe/data/probe")
    for unit in UNITS:
        machine.systemctl("stop", unit)
        assert machine.show(unit, "Result") == "success", machine.log()


def test_systemd_starts_a_daemon_again_that_hangs(machine: Booted) -> None:
    machine.wait_active("dropframe.service")
    before = machine.show("dropframe.service", "MainPID")
    machine.freeze("dropframe.service")
    wait_for(lambda: machine.show("dropframe.service", "NRestarts") == "1", 120, "it was not started again")
    machine.wait_active("dropframe.service")
    assert machine.show("dropframe.service", "MainPID") != before


def test_uninstalling_keeps_videos_results_and_settings(host: Host) -> None:
    kept = host.home / "outbox" / "kept.mp4.json"
    kept.write_text("{}")
    said = host.install("--uninstall")
    assert "These stay" in said
    assert kept.read_text() == "{}"
    assert (host.root / "etc" / "dropframe" / "dropframe.toml").is_file()
    gone = ("opt/dropframe", "usr/local/bin/dropframe", *(f"etc/systemd/system/{unit}" for unit in UNITS))
    assert [name for name in gone if (host.root / name).exists()] == []
    host.install("--uninstall")  # a second time changes nothing
