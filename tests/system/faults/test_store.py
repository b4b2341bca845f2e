"""Faults of the job store (group B), with real daemons: damage, sick disks, upgrades, backups, odd names."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from daemon.jobs import Job, JobStatus
from daemon.store.job_store import JobStore
from tests import programs
from tests.clips import make_clip
from tests.sidecar_process import running_sidecar
from tests.system.running import ROOT, Daemon, as_json, dropframe, environment, running, wait_for

pytestmark = pytest.mark.slow

COMPLETED = JobStatus.COMPLETED


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=3, text="GOAL 42")


@contextmanager
def injected(pid: int, *faults: str, path: Path | None = None) -> Iterator[None]:
    """Have system calls of a process and its threads fail, as strace's --inject says (strace(1))."""
    programs.skip_without("strace")
    arguments = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(pid)]
    for fault in faults:
        arguments += ["-e", f"inject={fault}"]
    if path is not None:
        arguments += ["-P", str(path)]
    tracer = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: tracer.poll() is not None or traced(pid), 20, "strace did not attach")
        assert tracer.poll() is None, tracer.communicate()[1]
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)


def traced(pid: int) -> bool:
    """Tell whether every thread of a process has a tracer."""
    states = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return all("TracerPid:\t0\n" not in state for state in states)


def journal(data: Path) -> Path:
    return max(data.glob("jobs.*.journal"), key=lambda path: int(path.name.split(".")[1]))


def facts(jobs: list[Job]) -> list[tuple[str, str, JobStatus]]:
    return sorted((job.job_id, job.source_name, job.status) for job in jobs)


# B3, B4: a sick disk under a running daemon.


def test_a_sick_disk_under_the_journal_is_waited_out_and_makes_no_second_job(tmp_path: Path, clip: Path) -> None:
    names = []
    with running(tmp_path) as daemon:
        for number, fault in enumerate(["write:error=ENOSPC", "write:error=EIO", "fsync:error=EIO"], 1):
            # Once idle, the daemon begins a new journal; before that its name may change under the fault.
            wait_for(lambda: journal(daemon.data).stat().st_size == 0, 60)
            before = len(daemon.log())
            with injected(daemon.pid, fault, path=journal(daemon.data)):
                daemon.drop(clip, f"{number}.mp4")
                wait_for(lambda: "could not be stored" in daemon.log()[before:], 90, fault)  # noqa: B023
            assert daemon.wait_job(f"{number}.mp4").status is COMPLETED, fault
            names.append(f"{number}.mp4.json")
            assert (len(daemon.jobs()), sorted(daemon.results())) == (number, names), fault
    with JobStore.open(daemon.data) as store:
        assert store.recovered_from is None
        assert [job.status for job in store.jobs()] == [COMPLETED] * 3


# B8, B9: a job file that is damaged while nothing runs.


def test_every_damage_to_the_job_file_is_mended_and_the_damaged_file_kept(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path) as daemon:
        for number in range(3):
            daemon.drop(clip, f"{number}.mp4")
        for number in range(3):
            daemon.wait_job(f"{number}.mp4")
    snapshot = daemon.data / "jobs.json"
    whole = snapshot.read_bytes()
    known = facts(daemon.jobs())
    damages = {
        "empty": b"",
        "filled with NUL": bytes(len(whole)),
        "cut": whole[: len(whole) // 2],
        "garbage": os.urandom(len(whole)),
        "an empty database": b"{}",
    }
    for number, (name, content) in enumerate(damages.items(), 1):
        snapshot.write_bytes(content)
        with JobStore.open(daemon.data) as store:
            assert facts(store.jobs()) == known, name
            assert "is damaged; the jobs were restored" in (store.recovered_from or ""), name
        assert (daemon.data / f"jobs.json.damaged-{number}").read_bytes() == content, name
    snapshot.unlink()
    with running(tmp_path) as daemon:
        assert "jobs.json is missing; the jobs were restored" in daemon.log()
        assert facts(daemon.jobs()) == known
        daemon.drop(clip, "next.mp4")
        assert daemon.wait_job("next.mp4").status is COMPLETED


def test_a_video_whose_record_was_lost_with_the_damage_is_run_again_under_its_id(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.drop(clip, "old.mp4")
        daemon.wait_job("old.mp4")
    backup = {path.name: path.read_bytes() for path in daemon.data.glob("jobs.*") if path.name != "jobs.lock"}
    with running(tmp_path) as daemon:
        daemon.drop(clip, "new.mp4")
        lost = daemon.wait_job("new.mp4")
    for path in daemon.data.glob("jobs.*"):
        path.unlink()
    for name, content in backup.items():
        (daemon.data / name).write_bytes(content)
    (daemon.data / "jobs.json").write_bytes(bytes(1000))
    (daemon.data / "jobs.previous.json").write_bytes(backup["jobs.json"])
    with running(tmp_path) as daemon:
        assert f"Job {lost.job_id} was lost with the damage; it is run again" in daemon.log()
        wait_for(lambda: all(job.ended for job in daemon.jobs()), 60)
        assert {job.job_id: job.status for job in daemon.jobs()}[lost.job_id] is COMPLETED
        assert daemon.job("old.mp4") is not None


def test_a_store_of_which_nothing_is_left_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with JobStore.open(data) as store:
        store.create([Job("3f2b1c1e-0000-4000-8000-000000000001")])
    for path in data.glob("jobs.*"):
        if path.name != "jobs.lock":
            path.write_bytes(bytes(200))
    before = {path.name: path.read_bytes() for path in data.glob("jobs.*.json")}
    done = dropframe(tmp_path, "daemon")
    assert done.returncode == 5
    assert "Put a backup of all jobs.* files there" in done.stderr
    assert {path.name: path.read_bytes() for path in data.glob("jobs.*.json")} == before


# B5: who may use a home.


@pytest.mark.needs("bindfs", "root")
def test_a_data_folder_on_a_fuse_mount_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    subprocess.run(["bindfs", tmp_path / "elsewhere", tmp_path / "data"], check=True, capture_output=True)
    try:
        done = dropframe(tmp_path, "daemon")
    finally:
        subprocess.run(["umount", tmp_path / "data"], check=True)
    assert done.returncode == 5
    assert "a network file system, where the job store is not safe; set data_dir to a folder on a local disk" in (
        done.stderr
    )
    assert list((tmp_path / "elsewhere").iterdir()) == []


# B13: names.


def test_a_name_that_is_no_utf_8_is_shown_escaped_everywhere(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path) as daemon, running_sidecar(tmp_path) as sidecar:
        target = os.fsencode(daemon.inbox) + b"/bad\xff.mp4"
        shutil.copyfile(clip, os.fsencode(tmp_path) + b"/bad")
        os.rename(os.fsencode(tmp_path) + b"/bad", target)
        job = daemon.wait_job(r"bad\xff.mp4")
        assert job.status is COMPLETED
        assert list(daemon.results()) == [r"bad\xff.mp4.json"]
        assert json.loads(daemon.results()[r"bad\xff.mp4.json"])["source"]["name"] == r"bad\xff.mp4"
        assert [record["source_name"] for record in as_json(tmp_path, "jobs")["jobs"]] == [r"bad\xff.mp4"]
        told = httpx.get(f"{sidecar.url}/v1/video/status/{job.job_id}").json()
        assert (told["status"], told["source_name"]) == ("completed", r"bad\xff.mp4")


# B17: upgrades and downgrades.

OPEN = (
    "import sys; from pathlib import Path; from daemon.store.job_store import JobStore;"
    " JobStore.open(Path(sys.argv[1])).close()"
)


def version_1(data: Path) -> None:
    """Write a store as the first version of the job file had it."""
    records = {
        str(n): {"job_id": f"3f2b1c1e-0000-4000-8000-00000000000{n}", "status": "completed", "filename": f"{n}.mp4"}
        | {"created_at": 1000.0 + n, "updated_at": 2000.0 + n, "error": None}
        for n in range(1, 4)
    }
    data.mkdir()
    (data / "jobs.json").write_text(json.dumps({"_meta": {"1": {"schema_version": 1}}, "jobs": records}))


@pytest.mark.parametrize("point", ["storage.written", "storage.renamed"])
def test_a_kill_at_any_step_of_an_upgrade_leaves_a_store_that_upgrades(tmp_path: Path, point: str) -> None:
    kills = 0
    while True:
        data = tmp_path / str(kills)
        version_1(data)
        killed = subprocess.run(
            [sys.executable, "-c", OPEN, data],
            env=environment({"DROPFRAME_FAULT": f"{point}:{kills + 1}"}),
            cwd=ROOT,
            check=False,
        )
        with JobStore.open(data) as store:
            assert [job.source_name for job in store.jobs()] == ["1.mp4", "2.mp4", "3.mp4"]
            assert [job.sequence for job in store.jobs()] == [1, 2, 3]
        kept = json.loads((data / "jobs.v1.json").read_text())
        assert kept["jobs"]["2"]["filename"] == "2.mp4", "the file as it was before is not kept"
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        kills += 1
    print(f"{kills} kills at {point}")
    assert kills > 0, "an upgrade does not pass this point"


def test_a_store_of_a_later_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with JobStore.open(data):
        pass
    later = (data / "jobs.json").read_text().replace('"schema_version": 2', '"schema_version": 99')
    assert "99" in later
    (data / "jobs.json").write_text(later)
    done = dropframe(tmp_path, "daemon")
    assert done.returncode == 5
    assert "The job file has schema version 99; this Dropframe knows those up to 2." in done.stderr
    assert "Install the later version again" in done.stderr
    assert (data / "jobs.json").read_text() == later


# H12: backups.


def test_a_plain_copy_at_any_moment_opens_with_every_job_there_was(tmp_path: Path, clip: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    before: list[set[str]] = []
    stop = threading.Event()

    def copy(daemon: Daemon) -> None:
        while not stop.is_set():
            before.append({job.job_id for job in daemon.jobs()})
            target = copies / str(len(before) - 1)
            target.mkdir()
            subprocess.run(f"cp {daemon.data}/jobs.* {target}", shell=True, check=True)

    with running(tmp_path) as daemon:
        copier = threading.Thread(target=copy, args=(daemon,))
        copier.start()
        try:
            wait_for(lambda: before, 60, "the first copy was not begun")
            for number in range(8):
                daemon.drop(clip, f"{number}.mp4")
            for number in range(8):
                daemon.wait_job(f"{number}.mp4")
        finally:
            stop.set()
            copier.join()
    assert len(before) > 5
    assert before[-1] != before[0]
    for number, known in enumerate(before):
        with JobStore.open(copies / str(number)) as store:
            assert store.recovered_from is None
            assert known <= {job.job_id for job in store.jobs()}
