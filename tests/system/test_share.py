"""The inbox and the outbox on shares: a real Samba server, mounts that go away and come back, and FUSE that hangs.

An NFS or CIFS mount by this kernel is not among them: it needs modules that test machines do not have. FUSE stands
in for it (a remote file system to the kernel and to Dropframe alike: no events, no leases to trust, it may hang).
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.ipc import spool
from daemon.jobs import JobSource, JobStatus, Options
from tests.clips import make_clip
from tests.sidecar_process import running_sidecar
from tests.system.running import Daemon, dropframe, running, wait_for
from tests.system.shares import fuse_share, mounted, samba

pytestmark = pytest.mark.slow

SETTINGS = {
    "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
    "DROPFRAME_POLL_SECONDS": "0.5",
    "DROPFRAME_SETTLE_SECONDS": "0.5",
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    return make_clip(folder / "clip.mp4", frames=2, size=(160, 120), text="GOAL", faststart=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A clip of 64 MB, most of it a box that is to be ignored."""
    path = tmp_path_factory.mktemp("clips") / "large.mp4"
    path.write_bytes(clip.read_bytes() + (64 << 20).to_bytes(4, "big") + b"free" + bytes((64 << 20) - 8))
    return path


def online(daemon: Daemon) -> bool | None:
    """What the daemon says of the inbox now; None if it says nothing."""
    beat = daemon.beat()
    fresh = beat is not None and beat.age_seconds(datetime.now(UTC)) < 5
    return bool(beat.inbox.online) if beat is not None and fresh else None


def each_is_one_completed_job(daemon: Daemon, names: set[str]) -> None:
    wait_for(lambda: {job.source_name for job in daemon.jobs() if job.ended} >= names, 120, "not all were done")
    jobs = daemon.jobs()
    assert Counter(job.source_name for job in jobs) == dict.fromkeys(names, 1)
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


# Samba.


@pytest.mark.parametrize("watch", ["events", "polling"])
def test_what_comes_over_samba_is_done_and_fetched_over_samba(
    tmp_path: Path, clip: Path, large: Path, watch: str
) -> None:
    with (
        running(tmp_path, DROPFRAME_WATCH=watch, **SETTINGS) as daemon,
        samba(tmp_path, daemon.inbox, daemon.outbox) as server,
    ):
        names = {f"match {number}.mp4" for number in range(8)} | {"renamed.mp4", "large.mp4"}
        puts = [f'put "{clip}" "{name}"' for name in sorted(names) if name.startswith("match")]
        upload = threading.Thread(target=server.client, args=("inbox", f'put "{large}" large.mp4'))
        upload.start()
        server.client("inbox", *puts)
        server.client("inbox", f'put "{clip}" renamed.mp4.part', "rename renamed.mp4.part renamed.mp4")
        upload.join()
        each_is_one_completed_job(daemon, names)
        assert {job.source_name: job.size_bytes for job in daemon.jobs()}["large.mp4"] == large.stat().st_size
        fetched = tmp_path / "fetched"
        fetched.mkdir()
        server.client("outbox", "prompt off", f'lcd "{fetched}"', "mget *.json")
        documents = {path.name: json.loads(path.read_bytes()) for path in fetched.iterdir()}
        assert set(documents) == {f"{name}.json" for name in names}
        assert {len(document["results"]) for document in documents.values()} == {2}


# A share that goes away and comes back.


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The inbox as a mount of a folder that stands for the share; that folder and the inbox."""
    share, inbox = tmp_path / "share", tmp_path / "home" / "inbox"
    share.mkdir()
    with mounted(inbox, "--bind", share):
        yield share, inbox


def test_a_share_that_is_unmounted_is_offline_and_loses_and_doubles_nothing(
    bound: tuple[Path, Path], clip: Path, tmp_path: Path
) -> None:
    share, inbox = bound
    home = inbox.parent
    settings = {**SETTINGS, "DROPFRAME_WATCH": "polling"}
    with running(home, **settings) as daemon, running_sidecar(home) as sidecar:
        daemon.drop(clip, "before.mp4")
        daemon.wait_job("before.mp4")
        wait_for(lambda: readiness(sidecar.url) == 200, 30)
        daemon.send(signal.SIGSTOP)  # so that these wait in the inbox when it goes away
        for number in range(10):
            shutil.copyfile(clip, inbox / f"waiting {number}.mp4")
        unmount(inbox)
        daemon.send(signal.SIGCONT)
        wait_for(lambda: online(daemon) is False, 30, "it was not said to be offline")
        wait_for(lambda: readiness(sidecar.url) == 503, 30)
        said = dropframe(home, "doctor", **settings)
        assert said.returncode != 0
        assert "offline" in said.stdout
        shutil.copyfile(clip, inbox / "into the bare folder.mp4")  # hidden by the mount later
        for number in range(5):  # others take some away and bring some
            (share / f"waiting {number}.mp4").unlink()
            shutil.copyfile(clip, share / f"new {number}.mp4")
        time.sleep(2)  # for several looks at the bare folder
        assert [job.source_name for job in daemon.jobs()] == ["before.mp4"]
        with mounted(inbox, "--bind", share):
            wait_for(lambda: online(daemon), 30, "it did not come back")
            names = {f"waiting {number}.mp4" for number in range(5, 10)} | {f"new {number}.mp4" for number in range(5)}
            each_is_one_completed_job(daemon, names | {"before.mp4"})
            wait_for(lambda: readiness(sidecar.url) == 200, 30)
            assert [path.name for path in share.iterdir() if not path.name.startswith(".")] == []
        daemon.stop()


def test_a_daemon_that_starts_before_its_share_is_mounted_works_and_takes_it_up_later(
    tmp_path: Path, clip: Path
) -> None:
    share, home, inbox = tmp_path / "share", tmp_path / "home", tmp_path / "home" / "inbox"
    settings = {**SETTINGS, "DROPFRAME_WATCH": "polling"}
    with fuse_share(share, inbox), running(home, ready=False, **settings) as daemon:
        wait_for(lambda: online(daemon), 60)
    shutil.copyfile(clip, share / "on the share.mp4")
    shutil.copyfile(clip, inbox / "into the bare folder.mp4")
    with running(home, **settings) as daemon:
        assert online(daemon) is False
        beat = daemon.beat()
        assert beat is not None
        assert f"nothing is mounted on {inbox}" in (beat.inbox.problem or "")
        said = dropframe(home, "health", **settings)
        assert (said.returncode, "inbox cannot be reached" in said.stderr + said.stdout) == (1, True)
        submit(daemon, clip, "submitted.mp4")
        daemon.wait_job("submitted.mp4", JobStatus.COMPLETED)
        assert [job.source_name for job in daemon.jobs()] == ["submitted.mp4"]
        (inbox / "into the bare folder.mp4").unlink()  # it is still there, and FUSE wants an empty folder
        with fuse_share(share, inbox):
            wait_for(lambda: online(daemon), 30, "it did not come back")
            each_is_one_completed_job(daemon, {"submitted.mp4", "on the share.mp4"})
            daemon.stop()


def test_folders_below_a_share_that_is_not_mounted_are_waited_for_and_not_made(tmp_path: Path, clip: Path) -> None:
    home, share, point = tmp_path / "home", tmp_path / "share", tmp_path / "nas"
    folders = {"DROPFRAME_INBOX_DIR": str(point / "in"), "DROPFRAME_OUTBOX_DIR": str(point / "out")}
    for folder in (home, share / "in", share / "out"):
        folder.mkdir(parents=True)
    with fuse_share(share, point), running(home, ready=False, **SETTINGS, **folders) as daemon:
        wait_for(lambda: online(daemon), 60)
    shutil.copyfile(clip, share / "in" / "a.mp4")
    mistyped = dropframe(home, "daemon", **{**SETTINGS, **folders, "DROPFRAME_INBOX_DIR": str(point / "im")})
    assert (mistyped.returncode, f"{point}/im is not there" in mistyped.stderr) == (5, True)
    with running(home, **SETTINGS, **folders) as daemon:
        assert online(daemon) is False
        submit(daemon, clip, "submitted.mp4")
        wait_for(lambda: any((daemon.data / "video_jobs").glob("*_results.json")), 60)
        assert list(point.iterdir()) == []
        with fuse_share(share, point):
            each_is_one_completed_job(daemon, {"submitted.mp4", "a.mp4"})
            assert len(list((share / "out").iterdir())) == 2
            daemon.stop()


def readiness(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def unmount(point: Path) -> None:
    subprocess.run(["umount", "-l", str(point)], check=True)


# A share that hangs.


def test_a_share_that_hangs_holds_up_nothing_else_and_loses_nothing(tmp_path: Path, clip: Path) -> None:
    share, home = tmp_path / "share", tmp_path / "home"
    with fuse_share(share, home / "inbox") as fuse, running(home, **SETTINGS) as daemon:
        beat = daemon.beat()
        assert beat is not None
        assert (beat.inbox.mode, beat.inbox.file_system) == ("polling", "fuse")
        shutil.copyfile(clip, share / "before.mp4")  # on the other machine, so to say
        daemon.wait_job("before.mp4")
        fuse.hang()
        wait_for(lambda: online(daemon) is False, 60, "it was not said to be offline")
        beat = daemon.beat()
        assert beat is not None
        assert "has not answered" in (beat.inbox.problem or "")
        submit(daemon, clip, "submitted.mp4")
        assert daemon.wait_job("submitted.mp4").status is JobStatus.COMPLETED
        names = {"before.mp4", "submitted.mp4"} | {f"{number}.mp4" for number in range(5)}
        for number in range(5):
            shutil.copyfile(clip, share / f"{number}.mp4")
        fuse.go_on()
        wait_for(lambda: online(daemon), 30, "it did not come back")
        each_is_one_completed_job(daemon, names)


def test_a_share_that_hangs_does_not_keep_the_daemon_from_ending(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with fuse_share(tmp_path / "share", home / "inbox") as fuse, running(home, **SETTINGS) as daemon:
        fuse.hang()
        wait_for(lambda: online(daemon) is False, 60)
        daemon.stop()
        assert "The inbox does not answer" in daemon.log()


def test_a_start_on_a_share_that_hangs_is_refused_with_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with fuse_share(tmp_path / "share", home / "inbox") as fuse:
        fuse.hang()
        refused = dropframe(home, "daemon", seconds=120)
        assert refused.returncode != 0
        assert "does not answer" in refused.stderr


@pytest.mark.parametrize("way", ["hangs", "dies"])
def test_a_share_that_fails_in_the_middle_of_a_copy_doubles_nothing(
    tmp_path: Path, clip: Path, large: Path, way: str
) -> None:
    share, home = tmp_path / "share", tmp_path / "home"
    with fuse_share(share, home / "inbox") as fuse, running(home, **SETTINGS) as daemon:
        for number in range(3):
            shutil.copyfile(large, share / f"{number}.mp4")
        videos = daemon.data / "video_jobs"
        wait_for(lambda: any(videos.glob(".*.part")), 60, "no copy began")
        fuse.hang()
        if way == "dies":
            fuse.die()
            wait_for(lambda: online(daemon) is False, 60, "it was not said to be offline")
            unmount(home / "inbox")
            again = fuse_share(share, home / "inbox")
            with again:
                each_is_one_completed_job(daemon, {f"{number}.mp4" for number in range(3)})
                daemon.stop()
        else:
            wait_for(lambda: online(daemon) is False, 60, "it was not said to be offline")
            fuse.go_on()
            each_is_one_completed_job(daemon, {f"{number}.mp4" for number in range(3)})
        assert {job.size_bytes for job in daemon.jobs()} == {large.stat().st_size}
        assert [path.name for path in share.iterdir() if not path.name.startswith(".")] == []


def test_a_copy_that_a_kill_cut_off_is_done_again_beside_other_work(tmp_path: Path, clip: Path, large: Path) -> None:
    """The share is slow, and then hangs in the middle of the copy: the daemon is up and runs jobs all the same."""
    share, home = tmp_path / "share", tmp_path / "home"
    with fuse_share(share, home / "inbox", read_rate="16M") as fuse, running(home, **SETTINGS) as daemon:
        shutil.copyfile(large, share / "large.mp4")
        videos = daemon.data / "video_jobs"
        wait_for(lambda: any(videos.glob(".*.part")), 60, "no copy began")
        [before] = daemon.jobs()
        daemon.kill()
        assert not list(videos.glob("*.mp4"))
        daemon.start()
        wait_for(lambda: (beat := daemon.beat()) and beat.inbox.online, 60, "there was no heartbeat")
        wait_for(lambda: any(videos.glob(".*.part")), 60, "the copy did not begin again")
        fuse.hang()
        submit(daemon, clip, "submitted.mp4")
        assert daemon.wait_job("submitted.mp4").status is JobStatus.COMPLETED
        assert not videos.joinpath(f"{before.job_id}.mp4").exists()
        fuse.go_on()
        each_is_one_completed_job(daemon, {"large.mp4", "submitted.mp4"})
        job = daemon.job("large.mp4")
        assert job is not None
        assert (job.job_id, job.size_bytes) == (before.job_id, large.stat().st_size)
        assert list(share.glob("*.mp4")) == []


def test_a_large_batch_on_another_disk_holds_up_no_submission(tmp_path: Path, clip: Path) -> None:
    home, many = tmp_path / "home", 300
    with mounted(home / "inbox", "-t", "tmpfs", "dropframe-test"), running(home, **SETTINGS) as daemon:
        daemon.send(signal.SIGSTOP)
        for number in range(many):
            shutil.copyfile(clip, daemon.inbox / f"{number}.mp4")
        daemon.send(signal.SIGCONT)
        videos = daemon.data / "video_jobs"
        wait_for(lambda: any(videos.glob("*.mp4")), 60)
        submit(daemon, clip, "submitted.mp4")
        wait_for(lambda: daemon.job("submitted.mp4"), 60)
        here = len(list(videos.glob("*.mp4")))
        assert here < many, "the submission waited for the whole batch"
        assert online(daemon) is not None, "no heartbeat during the copies"
        wait_for(lambda: len(list(videos.glob("*.mp4"))) == many + 1, 120)
        assert Counter(job.source_name for job in daemon.jobs()).most_common(1)[0][1] == 1
        daemon.stop()


def submit(daemon: Daemon, clip: Path, name: str) -> None:
    spool.submit(
        daemon.data / "spool",
        io.BytesIO(clip.read_bytes()),
        source=JobSource.CLI,
        source_name=name,
        pipeline_id="ocr_only",
        options=Options(),
    )
