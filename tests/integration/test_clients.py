"""Programs that people copy with, as they are: each file they bring is one job, and none of them sees an error."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import programs
from tests.clips import make_clip
from tests.integration.test_taking_in import Taker
from tests.system.shares import fuse_share, samba

pytestmark = pytest.mark.slow

FILES = 12


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Taker]:
    """An inbox whose grace is long enough for clients that look at what they sent while other tests keep both busy."""
    made = Taker(tmp_path / "home", close_grace_seconds=4)
    yield made
    made.close()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of twelve clips with contents of their own."""
    folder = tmp_path / "clips"
    whole = make_clip(tmp_path / "one.mp4", faststart=True).read_bytes()
    folder.mkdir()
    for number in range(FILES):
        padding = b"x" * (200_000 + number)
        data = whole + (8 + len(padding)).to_bytes(4, "big") + b"free" + padding
        (folder / f"{number}.mp4").write_bytes(data)
    return folder


def each_is_one_job(taker: Taker, clips: list[bytes]) -> None:
    names = {f"{number}.mp4" for number in range(FILES)}
    end = time.monotonic() + 60
    while {job.source_name for job in taker.jobs()} < names or any(taker.folder.glob("*.mp4")):
        assert time.monotonic() < end, f"{taker.inbox.health()}"
        time.sleep(0.05)
    time.sleep(2)
    jobs = taker.jobs()
    assert Counter(job.source_name for job in jobs) == dict.fromkeys(names, 1)
    assert sorted(map(taker.stored, jobs)) == sorted(clips)
    assert not list((taker.folder / "rejected").rglob("*"))


def run(*command: object, **environment: str) -> None:
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


MOVE = """
import shutil, sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).iterdir()):
    shutil.move(path, sys.argv[2])
"""
WRITE_CHMOD_UTIME = """
import os, sys, time
from pathlib import Path
for path in sorted(Path(sys.argv[1]).iterdir()):
    target = Path(sys.argv[2], path.name)
    target.write_bytes(path.read_bytes())
    time.sleep(0.1)
    target.chmod(0o640)
    time.sleep(0.1)
    os.utime(target, (1e9, 1e9))
    time.sleep(0.1)
    assert target.stat().st_size == path.stat().st_size
"""


def test_files_moved_from_another_file_system_are_one_job_each(taker: Taker, clips: Path) -> None:
    with other_file_system(clips) as folder:
        wanted = contents(folder)
        run(sys.executable, "-c", MOVE, folder, taker.folder)
        each_is_one_job(taker, wanted)


def test_files_written_and_then_touched_by_name_are_one_job_each(taker: Taker, clips: Path) -> None:
    run(sys.executable, "-c", WRITE_CHMOD_UTIME, clips, taker.folder)
    each_is_one_job(taker, contents(clips))


@pytest.mark.needs("rsync")
@pytest.mark.parametrize("flags", [["-a"], ["-a", "--inplace", "--bwlimit=2000"]])
def test_files_that_rsync_brings_are_one_job_each(taker: Taker, clips: Path, flags: list[str]) -> None:
    run("rsync", *flags, f"{clips}/", taker.folder)
    each_is_one_job(taker, contents(clips))


@pytest.mark.needs("rclone")
@pytest.mark.parametrize("verb", ["copy", "move"])
def test_files_that_rclone_brings_over_samba_are_one_job_each(
    taker: Taker, clips: Path, tmp_path: Path, verb: str
) -> None:
    wanted = contents(clips)
    with samba(tmp_path, taker.folder, tmp_path / "outbox") as server:
        place = f":smb,host=127.0.0.1,port={server.port},user=guest:inbox"
        run("rclone", verb, clips, place, "--retries=1", "--low-level-retries=1", RCLONE_CONFIG=str(tmp_path / "none"))
        each_is_one_job(taker, wanted)


@pytest.mark.needs("sshd", "sftp", "rclone")
@pytest.mark.parametrize("client", ["sftp", "rclone copy", "rclone move"])
def test_files_that_come_over_sftp_are_one_job_each(taker: Taker, clips: Path, tmp_path: Path, client: str) -> None:
    wanted = contents(clips)
    with ssh_server(tmp_path) as port:
        key = tmp_path / "ssh" / "key"
        if client == "sftp":
            batch = tmp_path / "batch"
            batch.write_text(f'lcd "{clips}"\ncd "{taker.folder}"\nmput -p *.mp4\nls -l\n')
            trust = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"]
            run("sftp", "-b", batch, "-P", port, "-i", key, *trust, f"{getpass.getuser()}@127.0.0.1")
        else:
            place = f":sftp,host=127.0.0.1,port={port},user={getpass.getuser()},key_file={key}:{taker.folder}"
            run("rclone", client.split()[1], clips, place, "--retries=1", RCLONE_CONFIG=str(tmp_path / "none"))
        each_is_one_job(taker, wanted)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[Path, Taker]]:
    """A folder on another machine, so to say, and an inbox that is a share of it."""
    home, behind = tmp_path / "home", tmp_path / "behind"
    with fuse_share(behind, home / "inbox"):
        made = Taker(home, poll_seconds=0.5, settle_seconds=0.5)
        yield behind, made
        made.close()


def waits(taker: Taker, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert taker.jobs() == []
        time.sleep(0.05)


def is_taken_as(taker: Taker, wanted: bytes) -> None:
    end = time.monotonic() + 30
    while not taker.jobs():
        assert time.monotonic() < end, f"{taker.inbox.health()}"
        time.sleep(0.05)
    time.sleep(1)
    assert [taker.stored(job) for job in taker.jobs()] == [wanted]
    assert list(taker.folder.glob("*.mp4")) == []


def test_a_writer_on_a_share_that_makes_room_and_pauses_is_waited_for(far: tuple[Path, Taker], clips: Path) -> None:
    behind, taker = far
    whole = make_clip(clips / "whole.mp4", frames=100, faststart=True).read_bytes()
    with (behind / "a.mp4").open("wb", buffering=0) as file:
        file.truncate(len(whole))
        file.write(whole[: len(whole) // 3])
        waits(taker, 7)
        file.write(whole[len(whole) // 3 :])
    is_taken_as(taker, whole)


def test_a_writer_on_a_share_whose_size_and_time_stand_still_is_waited_for(
    far: tuple[Path, Taker], clips: Path
) -> None:
    behind, taker = far
    old = make_clip(clips / "whole.mp4", frames=100, faststart=True).read_bytes()
    begin = old.index(b"mdat") + 4
    path = behind / ".a.mp4"
    path.write_bytes(old)
    os.utime(path, (1, 1))
    path.rename(behind / "a.mp4")
    path = behind / "a.mp4"
    for number in range(1, 31):
        with path.open("r+b", buffering=0) as file:
            file.seek(begin + 100 * number)
            file.write(bytes([number]) * 10)
        os.utime(path, (1, 1))
        written = path.read_bytes()
        waits(taker, 0.1)
    is_taken_as(taker, written)


@contextmanager
def other_file_system(clips: Path) -> Iterator[Path]:
    """The clips on a file system of their own, where the machine has one that needs no mount."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == clips.stat().st_dev:
        pytest.skip("needs /dev/shm on a file system of its own")
    folder = memory / f"dropframe-{os.getpid()}-{clips.parent.name}"
    shutil.copytree(clips, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def ssh_server(tmp_path: Path) -> Iterator[int]:
    """A server of this user's on the loopback address, which knows the key ``ssh/key``."""
    programs.skip_without("root")
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("key", "host"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/key.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    server = subprocess.Popen(
        [programs.find("sshd") or "", "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 20
        while not answers(port):
            assert server.poll() is None, "the SSH server did not start"
            assert time.monotonic() < end, "the SSH server did not start in time"
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)
