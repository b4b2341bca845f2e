"""The outbox: results under the name that people look for."""

from __future__ import annotations

import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.errors import Interrupted
from daemon.fs.mounts import Mount
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, new_job_id
from daemon.worker import outbox as outbox_module
from daemon.worker.outbox import ERROR, Outbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outbox"
    made.mkdir()
    return made


def a_job(name: str = "a.mp4", sequence: int = 1, source: JobSource = JobSource.INBOX, **values: object) -> Job:
    return Job(new_job_id(), source_name=name, sequence=sequence, source=source, **values)  # type: ignore[arg-type]


def publish(outbox: Outbox, job: Job, content: bytes = b"{}") -> Path | None:
    return outbox.publish(job, io.BytesIO(content))


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", "a.mp4.json"),
        ("ocr_only/2024/a.mp4", "ocr_only/2024/a.mp4.json"),
        ("my match (1) 'x' \"y\".mp4", "my match (1) 'x' \"y\".mp4.json"),
        ("🎬.mp4", "🎬.mp4.json"),
        ("two\nlines.mp4", "two\nlines.mp4.json"),
        ("bad\\xff.mp4", "bad\\xff.mp4.json"),
    ],
)
def test_a_dropped_file_gives_its_path_with_json_behind(folder: Path, name: str, expected: str) -> None:
    assert publish(Outbox(folder), a_job(name)) == folder / expected
    assert names(folder) == [expected]


@pytest.mark.parametrize("source", [JobSource.HTTP, JobSource.CLI])
def test_an_upload_is_named_by_its_job_whatever_its_file_was_called(folder: Path, source: JobSource) -> None:
    job = a_job("../../etc/passwd", source=source)
    assert publish(Outbox(folder), job) == folder / f"{job.job_id}.json"


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "🎬" * 62 + "xyz.mp4", "d/" + "ü" * 125 + ".mp4"])
def test_a_name_too_long_for_its_ending_is_cut_and_told_apart(folder: Path, name: str) -> None:
    outbox = Outbox(folder)
    jobs = [a_job(name, sequence=n) for n in (1, 2)]
    paths = [publish(outbox, job) for job in jobs]
    assert len(set(paths)) == 2
    for job, path in zip(jobs, paths, strict=True):
        assert path is not None
        assert len(os.fsencode(path.name)) <= 255
        assert path.name.endswith(f"~{job.job_id[:8]}.json")
        assert len(os.fsencode(outbox.path(job, ERROR).name)) <= 255


def test_the_longest_name_that_fits_is_kept_whole(folder: Path) -> None:
    name = "x" * 246 + ".mp4"
    path = publish(Outbox(folder), a_job(name))
    assert path is not None
    assert path.name == name + ".json"
    assert len(path.name) == 255


def test_publishing_twice_changes_nothing(folder: Path) -> None:
    outbox, job = Outbox(folder), a_job()
    first = publish(outbox, job, b"result")
    assert publish(outbox, job, b"result") == first
    assert publish(Outbox(folder), job, b"result") == first  # after a restart
    assert names(folder) == ["a.mp4.json"]
    assert (folder / "a.mp4.json").read_bytes() == b"result"


def test_the_newest_result_for_a_name_wins_whichever_ends_last(folder: Path) -> None:
    outbox = Outbox(folder)
    publish(outbox, a_job(sequence=2), b"newer")
    assert publish(outbox, a_job(sequence=1), b"older") is None
    assert (folder / "a.mp4.json").read_bytes() == b"newer"
    publish(outbox, a_job(sequence=3), b"newest")
    assert (folder / "a.mp4.json").read_bytes() == b"newest"


def test_which_is_newest_is_known_after_a_restart(folder: Path) -> None:
    known = [
        a_job(sequence=5, status=JobStatus.COMPLETED),
        a_job(sequence=9, status=JobStatus.FAILED),
        a_job("b.mp4", sequence=8, status=JobStatus.COMPLETED),
    ]
    outbox = Outbox(folder, known)
    assert publish(outbox, a_job(sequence=4)) is None
    assert publish(outbox, a_job(sequence=6)) is not None


def test_an_error_says_why_and_its_result_replaces_it(folder: Path) -> None:
    outbox = Outbox(folder)
    job = a_job("🎬.mp4", error_kind=ErrorKind.PERMANENT, error_message="It has no video.")
    path = outbox.publish_error(job)
    assert path == folder / "🎬.mp4.error.json"
    assert json.loads(path.read_text()) == {
        "error_kind": "permanent",
        "error_message": "It has no video.",
        "job_id": job.job_id,
        "pipeline_id": "yolo_ocr",
        "source_name": "🎬.mp4",
    }
    publish(outbox, job)
    assert names(folder) == ["🎬.mp4.json"]


def test_an_old_error_does_not_come_beside_a_newer_result(folder: Path) -> None:
    outbox = Outbox(folder)
    publish(outbox, a_job(sequence=2))
    assert outbox.publish_error(a_job(sequence=1)) is None
    assert names(folder) == ["a.mp4.json"]


def failed(sequence: int) -> Job:
    return a_job(sequence=sequence, status=JobStatus.FAILED, error_message=f"Job {sequence} is bad.")


@pytest.mark.parametrize("restarted", [False, True])
def test_an_error_goes_with_a_result_that_is_not_older(folder: Path, restarted: bool) -> None:
    outbox, newer = Outbox(folder), failed(2)
    outbox.publish_error(newer)
    if restarted:
        outbox = Outbox(folder, [newer])
    publish(outbox, a_job(sequence=1))
    assert names(folder) == ["a.mp4.error.json", "a.mp4.json"]
    publish(outbox, newer)  # it was tried again
    assert names(folder) == ["a.mp4.json"]


@pytest.mark.parametrize("restarted", [False, True])
def test_the_newest_error_for_a_name_stays_whichever_job_fails_last(folder: Path, restarted: bool) -> None:
    outbox, newer = Outbox(folder), failed(2)
    path = outbox.publish_error(newer)
    if restarted:
        outbox = Outbox(folder, [newer])
    assert outbox.publish_error(failed(1)) is None
    assert path is not None
    assert json.loads(path.read_text())["error_message"] == "Job 2 is bad."


def test_an_outbox_that_is_away_is_not_made_anew(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "share" / "outbox")
    for call in (lambda: publish(outbox, a_job("x/a.mp4")), lambda: outbox.publish_error(a_job())):
        with pytest.raises(FileNotFoundError):
            call()
    assert not (tmp_path / "share").exists()
    (tmp_path / "share" / "outbox").mkdir(parents=True)
    assert publish(outbox, a_job("x/a.mp4")) is not None


def test_a_failure_leaves_nothing_of_the_result_visible(folder: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("away")

    outbox = Outbox(folder)
    outbox.publish_error(a_job())
    with pytest.raises(OSError, match="away"):
        outbox.publish(a_job(sequence=2), Broken())
    assert names(folder) == ["a.mp4.error.json"]
    assert publish(outbox, a_job(sequence=1)) is not None  # the failed one does not count as published


def test_a_link_planted_where_the_result_goes_is_replaced(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    (folder / "a.mp4.json").symlink_to(canary)
    publish(Outbox(folder), a_job(), b"new")
    assert canary.read_bytes() == b"alive"
    assert (folder / "a.mp4.json").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["yolo/a.mp4", "yolo/2024/a.mp4"])
def test_a_folder_that_is_a_link_is_not_written_through(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "yolo").symlink_to(elsewhere)
    outbox = Outbox(folder)
    for call in (lambda: publish(outbox, a_job(name)), lambda: outbox.publish_error(a_job(name))):
        with pytest.raises(OSError, match="is reached through a link"):
            call()
    assert list(elsewhere.iterdir()) == []


def test_the_outbox_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    publish(Outbox(link), a_job("yolo/a.mp4"))
    assert names(folder) == ["yolo/a.mp4.json"]


def test_the_folder_that_a_share_was_mounted_on_is_not_the_outbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = [Path("/")]
    monkeypatch.setattr(outbox_module, "mount_of", lambda path: Mount(point[0], "nfs4"))
    outbox = Outbox(folder)
    point[0] = folder  # mounted after the start
    publish(outbox, a_job("a"))
    point[0] = folder.parent
    for call in (lambda: publish(outbox, a_job("b")), lambda: outbox.publish_error(a_job("b"))):
        with pytest.raises(OSError, match="nothing is mounted on"):
            call()
    point[0] = folder
    publish(outbox, a_job("c"))
    assert names(folder) == ["a.json", "c.json"]


def test_publishing_ends_between_two_blocks(folder: Path) -> None:
    asked: list[bool] = []

    def stopping() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(Interrupted):
        Outbox(folder).publish(a_job(), io.BytesIO(bytes(5 << 20)), stopping)
    assert names(folder) == []
    assert len(asked) == 3


def test_a_copy_that_takes_long_holds_up_nothing_but_its_own_name(folder: Path) -> None:
    outbox, begun, go_on = Outbox(folder), threading.Event(), threading.Event()

    def wait() -> bool:
        begun.set()
        assert go_on.wait(20)
        return False

    with ThreadPoolExecutor() as threads:
        slow = threads.submit(outbox.publish, a_job("slow.mp4"), io.BytesIO(b"first"), wait)
        assert begun.wait(20)
        newer = threads.submit(publish, outbox, a_job("slow.mp4", 2), b"second")
        publish(outbox, a_job("quick.mp4"))
        outbox.publish_error(a_job("failed.mp4"))
        outbox.publish_note("refused.mp4", "It is text.", 1.0)
        assert names(folder)[1:] == ["failed.mp4.error.json", "quick.mp4.json", "refused.mp4.rejected.txt"]
        assert not newer.done()
        go_on.set()
        assert slow.result(20) == newer.result(20) == folder / "slow.mp4.json"
    assert (folder / "slow.mp4.json").read_bytes() == b"second"


def test_what_a_killed_daemon_was_writing_goes_when_it_is_old(folder: Path) -> None:
    below = folder / "yolo"
    below.mkdir()
    old, young, other = (below / name for name in (".7-abcdef012345.tmp", ".8-abcdef012345.tmp", ".7-somebody.tmp"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    assert Outbox(folder).sweep() == 1
    assert names(folder) == ["yolo/.7-somebody.tmp", "yolo/.8-abcdef012345.tmp"]
