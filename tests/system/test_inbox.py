"""One inbox under real daemons: of two homes one refuses, and files that stay are run once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import Daemon, dropframe, running, wait_for
from tests.system.shares import fuse_share, mounted

pytestmark = pytest.mark.slow

SETTINGS = {
    "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
    "DROPFRAME_POLL_SECONDS": "0.5",
    "DROPFRAME_SETTLE_SECONDS": "0.5",
    "DROPFRAME_RESCAN_SECONDS": "2",
}
OWNER = ".dropframe-owner"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=2, size=(160, 120), faststart=True)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def stays_so(daemon: Daemon, names: list[str]) -> None:
    """Wait until these jobs are completed, and see that there are no more some scans later."""
    wait_for(lambda: len(daemon.jobs()) >= len(names) and all(job.ended for job in daemon.jobs()), 60)
    time.sleep(3)
    assert sorted(job.source_name for job in daemon.jobs()) == sorted(names)
    assert {job.status for job in daemon.jobs()} == {JobStatus.COMPLETED}


def test_a_second_home_on_another_file_systems_inbox_refuses_and_takes_over_when_the_first_is_killed(
    tmp_path: Path, clip: Path
) -> None:
    shared = tmp_path / "shared"
    first_home, second = tmp_path / "home", tmp_path / "second"
    for home in (first_home, second):
        home.mkdir()
    with (
        mounted(shared, "-t", "tmpfs", "dropframe-test"),
        running(first_home, DROPFRAME_INBOX_DIR=str(shared), **SETTINGS) as first,
    ):
        refused = dropframe(second, "daemon", DROPFRAME_INBOX_DIR=str(shared), **SETTINGS)
        assert refused.returncode not in (0, -signal.SIGKILL)
        assert f"belongs to another Dropframe (home {first_home} on " in refused.stderr
        assert "Traceback" not in refused.stderr
        shutil.copyfile(clip, shared / "a.mp4")
        first.wait_job("a.mp4")
        first.kill()
        with running(second, DROPFRAME_INBOX_DIR=str(shared), **SETTINGS) as other:
            shutil.copyfile(clip, shared / "b.mp4")
            other.wait_job("b.mp4")


def test_on_a_share_a_second_home_refuses_and_the_first_is_back_at_once_after_a_kill(
    tmp_path: Path, clip: Path
) -> None:
    first, second, share = tmp_path / "first", tmp_path / "second", tmp_path / "share"
    second.mkdir()
    # The same share at two places, as on two machines.
    with (
        fuse_share(share, first / "inbox"),
        fuse_share(share, second / "inbox"),
        running(first, **SETTINGS) as daemon,
    ):
        refused = dropframe(second, "daemon", **SETTINGS)
        assert refused.returncode != 0
        assert f"home {first} on " in refused.stderr
        daemon.kill()
        daemon.start()
        daemon.wait_ready()
        shutil.copyfile(clip, share / "a.mp4")
        daemon.wait_job("a.mp4")


@pytest.mark.needs("rsync")
def test_a_folder_that_rsync_sends_again_and_again_is_kept_and_run_once(tmp_path: Path, clip: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    home.mkdir()
    for name in ("a.mp4", "ocr_only/b.mp4"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, source / name)
    names = ["a.mp4", "ocr_only/b.mp4"]
    with running(home, DROPFRAME_INBOX_MODE="keep", **SETTINGS) as daemon:
        for flags in (["-a"], ["-a"], ["-r", "-I"], ["-r", "-I", "--inplace"]):
            subprocess.run(["rsync", *flags, f"{source}/", daemon.inbox], check=True)
            stays_so(daemon, names)
            assert [data for data, _ in content(daemon.inbox).values()] == [clip.read_bytes()] * 2
        daemon.kill()
        os.utime(daemon.inbox / "a.mp4")
        daemon.start()
        daemon.wait_ready()
        stays_so(daemon, names)
        make_clip(source / "a.mp4", frames=3, size=(160, 120))
        subprocess.run(["rsync", "-a", f"{source}/", daemon.inbox], check=True)
        stays_so(daemon, [*names, "a.mp4"])
        assert set(daemon.results()) == {"a.mp4.json", "ocr_only/b.mp4.json"}


def test_an_inbox_that_may_only_be_read_is_kept_and_that_nothing_guards_it_is_said_once(
    tmp_path: Path, clip: Path
) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    shutil.copyfile(clip, source / "a.mp4")
    with mounted(home / "inbox", "--bind", source):
        subprocess.run(["mount", "-o", "remount,ro,bind", home / "inbox"], check=True)
        with running(home, DROPFRAME_INBOX_MODE="keep", **SETTINGS) as daemon:
            before = content(source)
            stays_so(daemon, ["a.mp4"])
            assert daemon.log().count("Nothing keeps another Dropframe from using the inbox") == 1
            assert dropframe(home, "health").returncode == 0
            assert content(source) == before
            assert [path.name for path in source.iterdir()] == ["a.mp4"]
