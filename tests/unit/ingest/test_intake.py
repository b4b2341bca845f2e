"""Dropped files and tickets become jobs."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.errors import StoreError
from daemon.fs import mounts, moves, space
from daemon.fs.identity import from_claim, identity_of, to_claim
from daemon.fs.storage import LocalStorageService
from daemon.ingest import claims, options_file, quarantine, tickets
from daemon.ingest.claims import Claims
from daemon.ingest.intake import Intake
from daemon.ingest.model import Blocked, Dropped, Ignored, Outcome, Rejected, Taken
from daemon.ingest.owner import OWNER
from daemon.ingest.put_back import ClaimedSources
from daemon.ipc import spool
from daemon.ipc.spool import TicketKind
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, Options, new_job_id, utc_now
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.store.tinydb_table import MemoryStorage
from daemon.worker.outbox import Outbox

PIPELINES = frozenset({"yolo_ocr", "yolo", "ocr_only"})


class Answer:
    """What became of a batch."""

    def __init__(self, batch: Sequence[Dropped], outcomes: list[Outcome]) -> None:
        files = [outcome.dropped for outcome in outcomes]
        assert len(set(files)) == len(files), "a file has two outcomes"
        assert {file.path for file in batch} <= {file.path for file in files}, "a file has no outcome"
        self.jobs = tuple(each.job for each in outcomes if isinstance(each, Taken))
        self.rejected = [(each.dropped, each.reason) for each in outcomes if isinstance(each, Rejected)]
        self.blocked = [(each.dropped, each.reason) for each in outcomes if isinstance(each, Blocked)]
        self.ignored = [(each.dropped, each.reason) for each in outcomes if isinstance(each, Ignored)]


class Bench:
    """An intake over an in-memory store."""

    def __init__(self, home: Path, **changes: object) -> None:
        self.settings = Settings(home=home, min_free_bytes=0, **changes)  # type: ignore[arg-type]
        self.inbox = self.settings.inbox_dir
        self.inbox.mkdir(exist_ok=True)
        self.store = JobStore(MemoryStorage())
        self.storage = LocalStorageService(self.settings.data_dir)
        self.restart()

    def restart(self) -> list[Job]:
        self.queue = InMemoryQueueService()
        self.intake = Intake(
            self.settings, self.store, self.queue, self.storage, PIPELINES, clock=lambda: 1_800_000_000.0
        )
        self.sources = ClaimedSources(self.settings, self.store, self.storage)
        return self.intake.recover() + list(self.take().jobs)

    def drop(self, name: str, content: bytes = b"video", options: str | None = None) -> Dropped:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        options_path = None
        if options is not None:
            options_path = name + ".options.json"
            (self.inbox / options_path).write_text(options)
        return Dropped(name, identity_of(path.stat()), options_path)

    def take(self, *batch: Dropped) -> Answer:
        return Answer(batch, self.intake.take(batch))

    def stored(self, job: Job) -> bytes:
        return self.storage.path(job.input_path).read_bytes()

    def dropped_files(self) -> list[str]:
        found = (path for path in self.inbox.rglob("*") if path.is_file() and path.name != OWNER)
        return sorted(str(path.relative_to(self.inbox)) for path in found)

    def queued(self) -> list[str | None]:
        return [self.queue.dequeue() for _ in range(self.queue.size())]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def another_disk(monkeypatch: pytest.MonkeyPatch, code: int = errno.EXDEV) -> None:
    real = moves.rename_new

    def rename(source: str, source_folder: int, target: str, target_folder: int) -> None:
        if source_folder != target_folder:
            raise OSError(code, os.strerror(code))
        real(source, source_folder, target, target_folder)

    monkeypatch.setattr(moves, "rename_new", rename)


# A dropped file.


def test_a_dropped_file_becomes_a_stored_video_a_job_and_a_queue_entry(bench: Bench) -> None:
    [job] = bench.take(bench.drop("my match.mp4")).jobs
    assert bench.store.jobs() == [job]
    assert (job.status, job.pipeline_id, job.source) == (JobStatus.PENDING, "yolo_ocr", JobSource.INBOX)
    assert (job.source_name, job.size_bytes, job.options) == ("my match.mp4", 5, Options())
    assert bench.stored(job) == b"video"
    assert bench.queued() == [job.job_id]
    assert bench.dropped_files() == []
    assert bench.sources.unchanged(job)


def test_a_batch_keeps_its_order_and_is_one_commit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    real = bench.store.create
    monkeypatch.setattr(bench.store, "create", lambda jobs: commits.append(len(jobs)) or real(jobs))
    batch = [bench.drop(f"{name}.mp4") for name in "dbca"]
    jobs = bench.take(*batch).jobs
    assert [job.source_name for job in jobs] == ["d.mp4", "b.mp4", "c.mp4", "a.mp4"]
    assert [job.sequence for job in jobs] == sorted(job.sequence for job in jobs)
    assert bench.queued() == [job.job_id for job in jobs]
    assert commits == [4]


def test_a_folder_chooses_the_pipeline(bench: Bench) -> None:
    [job] = bench.take(bench.drop("ocr_only/2024/a.mp4")).jobs
    assert (job.pipeline_id, job.source_name) == ("ocr_only", "ocr_only/2024/a.mp4")


@pytest.mark.parametrize("name", ["2026/01/30/cam.mp4", "Holiday 2026/Beach/a.mp4", "yolos/a.mp4", "models/yolo/a.mp4"])
def test_any_other_folder_is_a_plain_one_and_its_path_is_kept(bench: Bench, name: str) -> None:
    [job] = bench.take(bench.drop(name)).jobs
    assert (job.pipeline_id, job.source_name) == ("yolo_ocr", name)
    assert Outbox(bench.settings.outbox_dir).path(job) == bench.settings.outbox_dir / f"{name}.json"


@pytest.mark.parametrize("folders", ["plain", "pipelines"])
@pytest.mark.parametrize(
    ("folder", "pipeline_id"), [("Yolo", "yolo"), ("YOLO-OCR", "yolo_ocr"), ("yolo ocr", "yolo_ocr"), ("yolo", "yolo")]
)
def test_a_pipelines_folder_may_be_written_in_other_ways(
    tmp_path: Path, folders: str, folder: str, pipeline_id: str
) -> None:
    bench = Bench(tmp_path, folders=folders)
    [job] = bench.take(bench.drop(f"{folder}/a.mp4")).jobs
    assert (job.pipeline_id, job.source_name) == (pipeline_id, f"{folder}/a.mp4")


def test_a_slip_in_a_pipelines_name_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    jobs = bench.take(*(bench.drop(name) for name in ("yollo/a.mp4", "yollo/b.mp4", "beach/c.mp4"))).jobs
    assert {job.pipeline_id for job in jobs} == {"yolo_ocr"}
    assert [record.getMessage() for record in caplog.records] == [
        "The folder yollo does not name a pipeline, so its videos run yolo_ocr; if yolo is meant, rename it."
    ]


def test_an_unknown_default_pipeline_is_not_made_up_for_by_a_folder(tmp_path: Path) -> None:
    bench = Bench(tmp_path, default_pipeline="nope")
    for name in ("a.mp4", "beach/a.mp4"):
        [(_, reason)] = bench.take(bench.drop(name)).rejected
        assert reason.startswith("There is no pipeline ")


def test_the_default_pipeline_is_a_setting(tmp_path: Path) -> None:
    bench = Bench(tmp_path, default_pipeline="yolo")
    assert bench.take(bench.drop("a.mp4")).jobs[0].pipeline_id == "yolo"


@pytest.mark.parametrize(
    "name", ["two\nlines.mp4", "🎬.mp4", os.fsdecode(b"bad\xff.mp4"), "x" * 251 + ".mp4", "a\\xff.mp4"]
)
def test_any_name_is_taken_and_found_again_after_a_crash(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    dropped = bench.drop(name)
    with monkeypatch.context() as patch:
        patch.setattr(Claims, "fetch_all", lambda *_: [])
        bench.intake.take([dropped])
    [job] = bench.restart()
    job.source_name.encode()
    json.dumps(job.to_record(), ensure_ascii=False).encode()
    assert bench.stored(job) == b"video"


def test_a_claimed_path_can_be_written_and_read_back() -> None:
    for path in ("a.mp4", os.fsdecode(b"b\xff\x80.mp4"), r"c\xff.mp4", "ü/🎬.mp4"):
        to_claim(path).encode()
        assert from_claim(to_claim(path)) == path


def test_the_same_name_twice_is_two_jobs(bench: Bench) -> None:
    bench.take(bench.drop("a.mp4", b"first"))
    bench.take(bench.drop("a.mp4", b"second"))
    assert [bench.stored(job) for job in bench.store.jobs()] == [b"first", b"second"]


def test_a_file_exchanged_since_it_was_looked_at_stays(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    bench.drop("a.mp4", b"another one", options="{}")
    [(file, why)] = bench.take(dropped).blocked
    assert (file, why) == (dropped, "It cannot be taken in: a.mp4 was written to or exchanged while it was taken in.")
    assert bench.store.jobs() == []
    assert bench.dropped_files() == ["a.mp4", "a.mp4.options.json"]


def test_a_file_that_vanished_is_no_job(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    (bench.inbox / "a.mp4").unlink()
    other = bench.drop("b.mp4")
    assert [job.source_name for job in bench.take(dropped, other).jobs] == ["b.mp4"]
    assert len(bench.store.jobs()) == 1


def test_a_folder_exchanged_for_a_link_leads_nowhere(bench: Bench) -> None:
    dropped = bench.drop("yolo/a.mp4")
    (bench.inbox / "yolo").rename(bench.inbox.parent / "secret")
    (bench.inbox / "yolo").symlink_to(bench.inbox.parent / "secret")
    assert bench.take(dropped).jobs == ()
    assert (bench.inbox.parent / "secret" / "a.mp4").exists()


def test_a_file_with_another_name_elsewhere_becomes_a_private_copy(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    os.link(bench.inbox / "a.mp4", bench.inbox.parent / "other.mp4")
    [job] = bench.take(dropped).jobs
    (bench.inbox.parent / "other.mp4").write_bytes(b"changed")
    assert bench.stored(job) == b"video"
    assert bench.sources.unchanged(job)


def test_from_another_disk_a_file_is_copied_and_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch)
    [job] = bench.take(bench.drop("a.mp4", options='{"frame_stride": 2}')).jobs
    assert bench.stored(job) == b"video"
    assert bench.sources.unchanged(job)
    assert bench.dropped_files() == []


def test_a_source_that_cannot_be_removed_is_taken_once_even_after_a_restart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    another_disk(monkeypatch, errno.EROFS)
    monkeypatch.setattr(moves, "remove_file", lambda *_: False)
    dropped = bench.drop("a.mp4")
    assert len(bench.take(dropped).jobs) == 1
    for _ in range(2):
        taken = bench.take(dropped)
        assert taken.jobs == ()
        assert [why for _, why in taken.ignored] == [
            "It was taken in; it is still here because it could not be removed."
        ]
        bench.restart()
    assert len(bench.store.jobs()) == 1
    assert len(caplog.records) == 1


def test_a_full_disk_leaves_the_file_and_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dropped = bench.drop("a.mp4", options="{}")
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(moves, "rename_new", full)
        assert bench.take(dropped).jobs == ()
        assert bench.take(dropped).jobs == ()
    assert bench.store.jobs() == []
    assert len(caplog.records) == 1
    assert len(bench.take(dropped).jobs) == 1


def test_what_would_be_copied_is_taken_as_far_as_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    another_disk(monkeypatch)
    monkeypatch.setattr(Intake, "_has_to_be_copied", lambda *_: True)
    batch = [bench.drop(f"{number}.mp4", b"0123456789") for number in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _: 25)
        taken = bench.take(*batch)
        assert [job.source_name for job in taken.jobs] == ["0.mp4", "1.mp4"]
        assert "2.mp4 stays in the inbox: It has to be copied. Fewer than 30 bytes are free" in caplog.text
        assert [file.path for file, _ in taken.blocked] == ["2.mp4", "3.mp4", "4.mp4"]
    assert bench.dropped_files() == ["2.mp4", "3.mp4", "4.mp4"]
    assert len(bench.take(*batch[2:]).jobs) == 3


def test_with_little_room_nothing_is_taken_and_it_goes_on_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = bench.drop("a.mp4")
    bad = bench.drop("b.mp4")
    bad = Dropped(bad.path, bad.identity, reason="It is text.")
    with monkeypatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _: -1)
        taken = bench.take(dropped, bad)
        assert taken.jobs == ()
        [(file, paused)] = taken.blocked
        assert file == dropped
        assert "min_free_bytes" in paused
        assert len(taken.rejected) == 1
        assert bench.intake.short_of_space() == paused
    assert len(bench.take(dropped).jobs) == 1
    assert bench.intake.short_of_space() is None


def test_after_a_failed_store_call_no_second_job_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = bench.drop("a.mp4")
    real = bench.store.create

    def written_but_reported_as_failed(jobs: list[Job]) -> list[Job]:
        real(jobs)
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "create", written_but_reported_as_failed)
        with pytest.raises(StoreError):
            bench.take(dropped)
    taken = bench.take(dropped)
    [job] = bench.store.jobs()
    assert [taken.job_id for taken in taken.jobs] == [job.job_id]
    assert bench.stored(job) == b"video"
    assert bench.queued() == [job.job_id]


# Options files.


def test_an_options_file_sets_the_options_and_is_kept_with_the_video(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4", options='{"frame_stride": 5, "max_frames": null}')).jobs
    assert job.options == Options(5, None)
    assert bench.dropped_files() == []
    kept = bench.settings.data_dir / "video_jobs" / f"{job.job_id}.options.json"
    assert kept.read_text() == '{"frame_stride": 5, "max_frames": null}'


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 60_000, "not JSON"),
        ("[1]", "must hold an object"),
        ('{"frame_strid": 2}', "no option 'frame_strid' (did you mean frame_stride"),
        ('{"frame_stride": 0}', "1 or more"),
        ('{"frame_stride": "2"}', "1 or more"),
        ('{"max_frames": 1.5}', "1 or more"),
        (" " * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_malformed_options_file_rejects_the_video_with_it(bench: Bench, options: str, part: str) -> None:
    taken = bench.take(bench.drop("yolo/a.mp4", options=options))
    assert taken.jobs == ()
    assert bench.store.jobs() == []
    assert bench.dropped_files() == [
        "rejected/yolo/a.mp4",
        "rejected/yolo/a.mp4.options.json",
        "rejected/yolo/a.mp4.reason.txt",
    ]
    assert part in (bench.inbox / "rejected/yolo/a.mp4.reason.txt").read_text()


# Rejected files.


def reject(bench: Bench, name: str, content: bytes = b"text") -> Answer:
    dropped = bench.drop(name, content)
    return bench.take(Dropped(dropped.path, dropped.identity, reason="It is text. Convert it."))


def test_a_rejected_file_moves_beside_its_reason(bench: Bench) -> None:
    assert [why for _, why in reject(bench, "yolo/a.mp4").rejected] == ["It is text. Convert it."]
    assert bench.dropped_files() == ["rejected/yolo/a.mp4", "rejected/yolo/a.mp4.reason.txt"]
    assert (bench.inbox / "rejected/yolo/a.mp4.reason.txt").read_text() == (
        "a.mp4 was not taken in.\n\nIt is text. Convert it.\n\nTime: 2027-01-15 08:00:00 UTC\n"
    )


def test_an_unknown_pipeline_folder_is_rejected_with_the_known_ones_where_the_setting_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, folders="pipelines")
    [(_, reason)] = bench.take(bench.drop("yollo/a.mp4")).rejected
    assert reason == (
        "There is no pipeline 'yollo'; the folders that choose one are ocr_only, yolo, yolo_ocr. "
        "Drop it into one of them, or into the inbox itself."
    )


def test_rejected_names_that_are_taken_get_a_number(bench: Bench) -> None:
    for content in (b"one", b"two", b"three"):
        reject(bench, "a.mp4", content)
    (bench.inbox / "rejected/a.mp4").unlink()
    reject(bench, "a.mp4", b"four")
    assert bench.dropped_files() == [
        "rejected/a (2).mp4",
        "rejected/a (2).mp4.reason.txt",
        "rejected/a (3).mp4",
        "rejected/a (3).mp4.reason.txt",
        "rejected/a (4).mp4",
        "rejected/a (4).mp4.reason.txt",
        "rejected/a.mp4.reason.txt",
    ]


def taken_meanwhile(monkeypatch: pytest.MonkeyPatch, times: int, ending: str = "") -> None:
    """Have somebody take each name that is found to be free, so many times."""

    def racing(name: str, folder: int, also: tuple[str, ...] = ()) -> str:
        free = real(name, folder, also)
        if len(taken) < times:
            taken.append(free)
            os.close(os.open(free + ending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=folder))
        return free

    real, taken = moves.free_name, list[str]()
    monkeypatch.setattr(moves, "free_name", racing)


@pytest.mark.parametrize("ending", ["", ".reason.txt"])
def test_a_name_that_somebody_takes_while_a_file_is_rejected_is_left_to_him(
    bench: Bench, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_meanwhile(monkeypatch, 2, ending)
    reject(bench, "a.mp4", b"one")
    others = {f"rejected/a.mp4{ending}", f"rejected/a (2).mp4{ending}"}
    assert set(bench.dropped_files()) == others | {"rejected/a (3).mp4", "rejected/a (3).mp4.reason.txt"}
    assert all((bench.inbox / other).read_bytes() == b"" for other in others)


def test_a_file_whose_names_are_all_taken_stays_and_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_meanwhile(monkeypatch, 1000)
    assert reject(bench, "a.mp4", b"one").rejected == []
    assert (bench.inbox / "a.mp4").read_bytes() == b"one"
    assert len(bench.dropped_files()) == 1 + moves.NAME_TRIES


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "ü" * 125 + ".mp4", os.fsdecode(b"\xff" * 255)])
def test_long_names_are_shortened_when_rejected(bench: Bench, name: str) -> None:
    assert len(reject(bench, name).rejected) == 1
    assert len(bench.dropped_files()) == 2


def test_rejecting_works_across_disks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch)
    reject(bench, "a.mp4")
    assert bench.dropped_files() == ["rejected/a.mp4", "rejected/a.mp4.reason.txt"]


def test_a_file_that_cannot_be_moved_is_left_with_its_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    another_disk(monkeypatch, errno.EACCES)
    [(dropped, why)] = reject(bench, "a.mp4").ignored
    assert dropped.path == "a.mp4"
    assert why == ("It is text. Convert it. It could not be moved to the rejected files: Permission denied.")
    assert bench.dropped_files() == ["a.mp4"]
    assert len(caplog.records) == 1


def test_a_file_that_a_full_disk_lets_nobody_reject_comes_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(quarantine.os, "fsync", full)
        for _ in range(3):
            [(_, why)] = reject(bench, "a.mp4").blocked
            assert why.startswith("It is text. Convert it. It could not be moved to the rejected files: No space left")
    assert len(caplog.records) == 1
    assert "a.mp4 stays in the inbox: It is text. Convert it. It could not be moved" in caplog.text
    assert bench.dropped_files() == ["a.mp4"]
    reject(bench, "a.mp4")
    assert bench.dropped_files() == ["rejected/a.mp4", "rejected/a.mp4.reason.txt"]


def test_a_planted_link_for_the_rejected_files_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bench.inbox / "rejected").symlink_to(tmp_path / "elsewhere")
    assert len(reject(bench, "a.mp4").ignored) == 1
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_file_made_whole_meanwhile_is_not_rejected(bench: Bench) -> None:
    dropped = bench.drop("a.mp4", b"text")
    bench.drop("a.mp4", b"a whole video")
    taken = bench.take(Dropped(dropped.path, dropped.identity, reason="It is text."))
    assert taken.rejected == taken.ignored == []
    assert bench.dropped_files() == ["a.mp4"]


def test_reasons_are_one_line_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reject(bench, "a\nERROR forged.mp4")
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert quarantine.REASON_SUFFIX == ".reason.txt"


# Tickets.


def submit(bench: Bench, **changes: object) -> str:
    values: dict[str, object] = {
        "source": JobSource.HTTP,
        "source_name": "match.mp4",
        "pipeline_id": "yolo",
        "options": Options(3, 7),
    }
    return spool.submit(bench.intake.spool_dir, io.BytesIO(b"video"), **(values | changes))  # type: ignore[arg-type]


def test_a_submission_becomes_the_job_that_was_promised(bench: Bench) -> None:
    job_id = submit(bench)
    assert bench.intake.take_tickets() == []
    [job] = bench.store.jobs()
    assert (job.job_id, job.source, job.source_name) == (job_id, JobSource.HTTP, "match.mp4")
    assert (job.pipeline_id, job.options, job.size_bytes) == ("yolo", Options(3, 7), 5)
    assert bench.stored(job) == b"video"
    assert bench.queued() == [job_id]
    assert os.listdir(bench.intake.spool_dir) == []
    assert bench.intake.take_tickets() == []


def test_after_a_weekend_with_the_daemon_down_a_submission_still_says_friday(bench: Bench) -> None:
    job_id = submit(bench)
    ticket = bench.intake.spool_dir / f"{job_id}.submit.json"
    friday = "2026-11-20T18:00:00.000000+00:00"
    ticket.write_text(json.dumps(json.loads(ticket.read_text()) | {"created_at": friday}))
    bench.intake.take_tickets()
    job = bench.store.get(job_id)
    assert job.created_at == friday < job.updated_at


def test_a_dropped_file_was_created_when_it_was_taken_in(bench: Bench) -> None:
    before = utc_now()
    [job] = bench.take(bench.drop("a.mp4")).jobs
    assert before <= job.created_at == job.updated_at <= utc_now()


def test_the_results_of_submissions_are_named_after_their_videos_where_that_is_set(tmp_path: Path) -> None:
    bench = Bench(tmp_path, outbox_names="name")
    bench.take(bench.drop("dropped.mp4"), bench.drop("yolo/below.mp4"))
    ids = [submit(bench, source_name=name) for name in ("match.mp4", "MATCH.mp4", "dropped.mp4", "below.mp4")]
    bench.intake.take_tickets()
    ids += [submit(bench, source_name=name) for name in ("match.mp4", "a/../b/../up.mp4", "..", "")]
    bench.restart()
    bench.intake.take_tickets()
    outbox = Outbox(bench.settings.outbox_dir, bench.store.jobs())
    marks = [job_id[:8] for job_id in ids]
    named = [outbox.path(bench.store.get(job_id)).relative_to(bench.settings.outbox_dir) for job_id in ids]
    assert [str(path) for path in named] == [
        "match.mp4.json",
        f"MATCH.mp4~{marks[1]}.json",  # one file on shares that do not tell case apart
        f"dropped.mp4~{marks[2]}.json",
        "below.mp4.json",
        f"match.mp4~{marks[4]}.json",
        "up.mp4.json",
        f"{ids[6]}.json",
        f"{ids[7]}.json",
    ]
    # The name is in the record: another setting changes what comes later and nothing else.
    again = Bench(tmp_path)
    again.store = bench.store
    again.restart()
    submit(again, source_name="match.mp4", job_id=(later := new_job_id()))
    again.intake.take_tickets()
    assert outbox.path(again.store.get(later)).name == f"{later}.json"
    assert outbox.path(again.store.get(ids[0])).name == "match.mp4.json"


def test_submissions_keep_their_order(bench: Bench) -> None:
    ids = [submit(bench) for _ in range(5)]
    bench.intake.take_tickets()
    assert bench.queued() == ids


def test_submissions_keep_their_order_when_the_clock_is_set_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for day in (26, 25, 27, 24, 23):
        monkeypatch.setattr(spool, "utc_now", lambda day=day: f"2026-11-{day}T12:00:00.000000+00:00")
        ids.append(submit(bench))
    assert [ticket.job_id for ticket in spool.pending_submissions(bench.intake.spool_dir)] == ids
    bench.intake.take_tickets()
    assert bench.queued() == ids
    assert [job.job_id for job in bench.store.jobs()] == ids


def test_submissions_of_an_older_dropframe_come_first_and_in_the_order_of_its_clock(bench: Bench) -> None:
    ids = [submit(bench) for _ in range(4)]
    for number, job_id in enumerate((ids[3], ids[1])):
        path = bench.intake.spool_dir / f"{job_id}.submit.json"
        friday = f"2026-11-20T18:00:0{number}.000000+00:00"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": friday}))  # as of now
    bench.intake.take_tickets()
    assert bench.queued() == [ids[3], ids[1], ids[0], ids[2]]


def test_many_submissions_are_taken_in_a_slice_of_time_after_the_other(bench: Bench) -> None:
    ids = [submit(bench) for _ in range(2 * tickets.AT_ONCE + 1)]
    for job_id in (ids[0], ids[-1]):
        spool.request(bench.intake.spool_dir, TicketKind.CANCEL, job_id)
    taken: list[str] = []
    looks = 0
    while len(taken) < len(ids):
        asked = bench.intake.take_tickets(until=0.0)
        taken = [job.job_id for job in bench.store.jobs()]
        assert taken == ids[: len(taken)]
        assert [ticket.job_id for ticket in asked] == [job_id for job_id in (ids[0], ids[-1]) if job_id in taken]
        looks += 1
        assert looks < 10
    assert looks > 3
    assert bench.queued() == ids


def test_requests_about_jobs_are_handed_to_the_caller_and_stay_until_done(bench: Bench) -> None:
    job_id = submit(bench)
    spool.request(bench.intake.spool_dir, TicketKind.CANCEL, job_id)
    [request] = bench.intake.take_tickets()
    assert (request.kind, request.job_id) == (TicketKind.CANCEL, job_id)
    assert bench.intake.take_tickets() == [request]
    spool.done(bench.intake.spool_dir, request)
    assert bench.intake.take_tickets() == []


def test_a_file_whose_job_was_deleted_before_it_had_come_is_not_taken_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted_meanwhile(*_: object, **__: object) -> bool:
        [job] = bench.store.jobs()
        assert job.claim is not None
        bench.store.delete(replace(job, claim=replace(job.claim, left_behind=True)))  # as the worker does
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    dropped = bench.drop("a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(claims, "move_file", deleted_meanwhile)
        bench.take(dropped)
    for _ in range(2):
        assert bench.take(dropped).jobs == ()
        bench.restart()
    assert bench.dropped_files() == ["a.mp4"]
    assert bench.store.jobs() == []


def test_with_little_room_a_submission_and_requests_about_it_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, other = submit(bench), new_job_id()
    for wanted in (job_id, other):
        spool.request(bench.intake.spool_dir, TicketKind.RETRY, wanted)
    with monkeypatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _: -1)
        assert [t.job_id for t in bench.intake.take_tickets()] == [other]
    assert bench.store.jobs() == []
    assert [t.job_id for t in bench.intake.take_tickets()] == [job_id, other]


def test_a_submission_with_a_wrong_pipeline_ends_with_a_reason(bench: Bench) -> None:
    submit(bench, pipeline_id="yollo")
    bench.intake.take_tickets()
    [job] = bench.store.jobs()
    assert (job.status, job.error_kind) == (JobStatus.FAILED, ErrorKind.PERMANENT)
    assert job.error_message == ("There is no pipeline 'yollo' (did you mean yolo?).")
    assert bench.queue.size() == 0


def test_a_submission_without_its_video_is_rejected(bench: Bench) -> None:
    job_id = submit(bench)
    (bench.intake.spool_dir / f"{job_id}.mp4").unlink()
    bench.intake.take_tickets()
    assert bench.store.jobs() == []
    assert os.listdir(bench.intake.spool_dir / "bad") == [f"{job_id}.submit.json"]


def test_a_ticket_left_over_from_a_crash_makes_no_second_job(bench: Bench) -> None:
    job_id = submit(bench)
    ticket = (bench.intake.spool_dir / f"{job_id}.submit.json").read_bytes()
    bench.intake.take_tickets()
    (bench.intake.spool_dir / f"{job_id}.submit.json").write_bytes(ticket)
    bench.restart()
    bench.intake.take_tickets()
    assert len(bench.store.jobs()) == 1
    assert os.listdir(bench.intake.spool_dir) == []


# Videos that were written to after they were taken in.


def test_writing_to_a_stored_video_is_noticed(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    with (bench.inbox / "a.mp4").open("ab") as writer:
        [job] = bench.take(dropped).jobs
        assert bench.sources.unchanged(job)
        writer.write(b" and more")
    assert not bench.sources.unchanged(job)


def test_options_survive_a_share_that_fails_between_them_and_their_video(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = bench.drop("a.mp4", options='{"frame_stride": 5}')
    move = claims.move_file

    def failing_after_the_options(name: str, *args: object, **kwargs: object) -> object:
        if name == "a.mp4.options.json":
            return move(name, *args, **kwargs)  # type: ignore[arg-type]
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        for module in (claims, options_file):
            patch.setattr(module, "move_file", failing_after_the_options)
        assert bench.take(dropped).jobs == ()
        assert bench.dropped_files() == ["a.mp4"]
        assert bench.take(dropped).jobs == (), "it is not time to try again"
        patch.setattr(claims, "RETRY_SECONDS", 0.0)
        bench.restart()
        assert bench.take(dropped).jobs == ()
    [job] = bench.take(bench.drop("b.mp4")).jobs[:1]
    assert (job.source_name, job.options.frame_stride) == ("a.mp4", 5)
    assert [each.source_name for each in bench.store.jobs()] == ["a.mp4", "b.mp4"]
    assert bench.dropped_files() == []


def test_a_dropped_video_is_put_back_with_its_options(bench: Bench) -> None:
    [job] = bench.take(bench.drop("yolo/a.mp4", options='{"frame_stride": 2}')).jobs
    bench.storage.path(job.input_path).write_bytes(b"video and more")
    assert bench.sources.put_back(job, "It was written to.") is None
    assert bench.dropped_files() == ["yolo/a.mp4", "yolo/a.mp4.options.json"]
    assert (bench.inbox / "yolo/a.mp4").read_bytes() == b"video and more"


def test_a_video_is_not_put_back_into_an_inbox_that_is_away(bench: Bench) -> None:
    [job] = bench.take(bench.drop("yolo/a.mp4")).jobs
    bench.storage.path(job.input_path).write_bytes(b"video and more")
    away = bench.inbox.with_name("away")
    bench.inbox.rename(away)
    with pytest.raises(FileNotFoundError):
        bench.sources.put_back(job, "It was written to.")
    assert not bench.inbox.exists()
    assert bench.stored(job) == b"video and more"


def test_a_video_is_not_put_back_onto_the_mount_point_of_a_share_that_is_away(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.storage.path(job.input_path).write_bytes(b"video and more")
    known = {str(bench.inbox): {"kind": "cifs", "point": str(bench.inbox)}}
    (bench.settings.data_dir / mounts.NAME).write_text(json.dumps(known))
    with pytest.raises(OSError, match="the inbox is offline"):
        bench.sources.put_back(job, "It was written to.")
    assert bench.dropped_files() == []


def test_a_video_is_put_back_beside_one_of_the_same_name(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.drop("a.mp4", b"a new one")
    bench.sources.put_back(job, "It was written to.")
    assert bench.dropped_files() == ["a (2).mp4", "a.mp4"]


@pytest.mark.parametrize("ending", ["", ".options.json"])
def test_a_name_that_somebody_takes_while_a_video_is_put_back_is_left_to_him(
    bench: Bench, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = bench.take(bench.drop("a.mp4", options='{"frame_stride": 2}')).jobs
    taken_meanwhile(monkeypatch, 2, ending)
    bench.sources.put_back(job, "It was written to.")
    back = {"a (3).mp4", "a (3).mp4.options.json"}
    assert set(bench.dropped_files()) == back | {f"a.mp4{ending}", f"a (2).mp4{ending}"}
    assert (bench.inbox / "a (3).mp4.options.json").read_text() == '{"frame_stride": 2}'
    assert os.listdir(bench.settings.videos_dir) == []


def test_a_video_put_back_before_a_crash_leaves_no_record(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.store.move(job.job_id, JobStatus.RUNNING)
    bench.storage.path(job.input_path).write_bytes(b"video and more")
    bench.sources.put_back(job, "It was written to.")
    bench.restart()
    assert bench.store.jobs() == []
    assert bench.dropped_files() == ["a.mp4"]


def test_an_upload_that_was_written_to_keeps_its_promised_id(bench: Bench) -> None:
    job_id = submit(bench)
    bench.intake.take_tickets()
    job = bench.store.get(job_id)
    bench.storage.path(job.input_path).write_bytes(b"video and more")
    again = bench.sources.put_back(job, "It was written to.")
    assert again is not None
    assert again.job_id == job_id
    assert bench.sources.unchanged(again)


# Recovery; the kills themselves are in the integration tests.


def test_leftover_copies_are_removed_at_start(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    videos = bench.settings.data_dir / "video_jobs"
    (videos / ".0123.part").write_bytes(b"half")
    assert bench.restart() == []
    assert os.listdir(videos) == [f"{job.job_id}.mp4"]


def test_a_copied_source_is_removed_at_start_and_not_taken_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(moves, "remove_file", lambda *_: True)  # killed just before
        bench.take(bench.drop("a.mp4"))
    assert bench.dropped_files() == ["a.mp4"]
    bench.restart()
    assert bench.dropped_files() == []
    assert len(bench.store.jobs()) == 1


def test_a_claim_that_was_not_carried_out_is_left_to_the_thread_that_takes_in_and_found_once(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claims, "fetch_all", lambda *_: [])  # killed just after it was recorded
        bench.intake.take([dropped])
    [job] = bench.store.jobs()
    bench.intake = Intake(bench.settings, bench.store, bench.queue, bench.storage, PIPELINES)
    assert bench.intake.recover() == []
    assert (bench.queued(), bench.dropped_files()) == ([], ["a.mp4"])
    taken = bench.take(dropped)  # the scan has found the file too
    assert [taken.job_id for taken in taken.jobs] == [job.job_id]
    assert (bench.queued(), bench.dropped_files()) == ([job.job_id], [])
    assert len(bench.store.jobs()) == 1


def test_ended_jobs_are_left_as_they_are_at_start(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.store.move(job.job_id, JobStatus.RUNNING)
    bench.store.move(job.job_id, JobStatus.COMPLETED)
    bench.storage.delete_file(job.input_path)
    bench.restart()
    assert [j.status for j in bench.store.jobs()] == [JobStatus.COMPLETED]


def unmount(bench: Bench, job: Job) -> Job:
    """Make the claim one on another device, which has another number or is not there now."""
    assert job.claim is not None
    identity = replace(job.claim.identity, device=job.claim.identity.device + 1)
    return bench.store.note(job.job_id, claim=replace(job.claim, identity=identity))


def refusing(*_: object, **__: object) -> None:
    raise StoreError("disk full")


def test_a_job_that_a_failed_store_call_kept_from_the_queue_is_queued_with_the_rest_of_its_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [bench.drop("a.mp4"), bench.drop("b.mp4")]
    with monkeypatch.context() as patch:
        another_disk(patch, errno.EROFS)
        patch.setattr(moves, "remove_file", lambda *_: False)
        patch.setattr(bench.store, "note", refusing)
        with pytest.raises(StoreError):
            bench.take(*batch)
    assert bench.queued() == []
    bench.take()
    assert bench.queued() == [job.job_id for job in bench.store.jobs()]
    assert len(bench.store.jobs()) == 2


def test_recovering_in_mid_life_leaves_a_job_that_waits_its_turn(bench: Bench) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.queue.enqueue(job.job_id, job.sequence, due=1e12)
    bench.intake.recover()
    assert bench.queue.next_due() == 1e12


def test_a_video_folder_that_cannot_be_used_for_once_leaves_no_job_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = bench.drop("a.mp4")
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(Path, "mkdir", full)
        with pytest.raises(OSError, match="No space"):
            bench.take(dropped)
    bench.take()
    assert len(bench.queued()) == 1


def test_a_copied_file_whose_share_is_away_at_start_is_not_taken_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_disk(monkeypatch)
    dropped = bench.drop("a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(moves, "remove_file", lambda *_: True)  # killed just before
        [job] = bench.take(dropped).jobs
    unmount(bench, job)
    bench.inbox.rename(bench.inbox.with_name("share"))
    bench.inbox.mkdir()
    bench.restart()
    bench.store.move(job.job_id, JobStatus.RUNNING)
    bench.store.move(job.job_id, JobStatus.COMPLETED)
    bench.restart()
    bench.inbox.rmdir()
    bench.inbox.with_name("share").rename(bench.inbox)
    taken = bench.take(dropped)
    assert taken.jobs == ()
    assert [file.path for file, _ in taken.ignored] == ["a.mp4"]


def test_a_copied_file_seen_to_be_gone_is_not_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch)
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.restart()
    claim = bench.store.get(job.job_id).claim
    assert claim is not None
    assert not claim.left_behind


def test_a_file_left_behind_is_known_under_another_device_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch, errno.EROFS)
    monkeypatch.setattr(moves, "remove_file", lambda *_: False)
    dropped = bench.drop("a.mp4")
    [job] = bench.take(dropped).jobs
    unmount(bench, job)
    bench.restart()
    assert bench.take(dropped).jobs == ()


def test_a_claim_is_carried_out_under_another_device_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submit(bench)
    with monkeypatch.context() as patch:
        patch.setattr(Claims, "fetch_all", lambda *_: [])
        bench.intake.take_tickets()
    unmount(bench, bench.store.get(job_id))
    assert [job.job_id for job in bench.restart()] == [job_id]


@pytest.mark.parametrize("retried", [False, True])
def test_a_job_that_was_tried_and_lost_its_video_is_left_to_the_worker_to_fail(bench: Bench, retried: bool) -> None:
    [job] = bench.take(bench.drop("a.mp4")).jobs
    bench.store.move(job.job_id, JobStatus.RUNNING, attempts=1, started_at="2026-01-01T00:00:00.000000+00:00")
    bench.store.move(job.job_id, JobStatus.PENDING, attempts=0 if retried else 1)
    bench.storage.delete_file(job.input_path)
    bench.restart()
    assert bench.queued() == [job.job_id]


def test_a_submission_with_bad_options_has_failed_from_the_first_moment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(bench)
    ticket = bench.intake.spool_dir / f"{job_id}.submit.json"
    ticket.write_text(ticket.read_text().replace("frame_stride", "frame_strid"))
    with monkeypatch.context() as patch:
        patch.setattr(Claims, "fetch_all", lambda *_: [])  # killed before its video was moved
        bench.intake.take_tickets()
    bench.restart()
    bench.intake.take_tickets()
    job = bench.store.get(job_id)
    assert (job.status, job.error_kind) == (JobStatus.FAILED, ErrorKind.PERMANENT)
    assert "no option 'frame_strid' (did you mean frame_stride" in (job.error_message or "")
    assert bench.queue.size() == 0
    assert not ticket.exists()


def test_an_options_file_that_comes_late_is_not_swallowed(bench: Bench) -> None:
    dropped = bench.drop("a.mp4")
    bench.drop("a.mp4.options.json", b'{"frame_stride": 2}')
    [job] = bench.take(dropped).jobs
    assert job.options == Options()
    assert bench.dropped_files() == ["a.mp4.options.json"]


def test_a_copied_video_is_queued_before_the_next_is_copied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    another_disk(monkeypatch)
    queued: list[int] = []
    real = claims.move_file

    def move(*args: object, **kwargs: object) -> bool:
        queued.append(bench.queue.size())
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(claims, "move_file", move)
    bench.take(*(bench.drop(f"{name}.mp4") for name in "abc"))
    assert queued == [0, 1, 2]


def test_a_stored_video_whose_record_was_lost_becomes_a_job_again(bench: Bench) -> None:
    job_id = submit(bench)
    kept = submit(bench)
    bench.intake.take_tickets()
    bench.store.remove(job_id)
    (bench.settings.data_dir / "video_jobs" / "notes.mp4").write_bytes(b"not ours")
    bench.restart()
    bench.queued()
    [job] = bench.intake.reconcile()
    assert (job.job_id, job.status, job.source) == (job_id, JobStatus.PENDING, JobSource.CLI)
    assert (job.source_name, job.pipeline_id, job.size_bytes) == (f"{job_id}.mp4", "yolo_ocr", 5)
    assert bench.sources.unchanged(job)
    assert bench.queued() == [job_id]
    assert {j.job_id for j in bench.store.jobs()} == {job_id, kept}
    assert bench.intake.reconcile() == []


@pytest.mark.parametrize("looks", [1, 2])
def test_a_job_that_is_cancelled_before_its_file_was_copied_stays_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    another_disk(monkeypatch)
    dropped = bench.drop("a.mp4")
    looked = 0

    def cancel_and_stop() -> None:
        nonlocal looked
        looked += 1
        if looked == looks:
            [job] = bench.store.jobs()
            bench.store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED, error_message="Cancelled.")
            intake.stop()

    intake = Intake(
        bench.settings,
        bench.store,
        bench.queue,
        bench.storage,
        PIPELINES,
        while_copying=cancel_and_stop,
    )
    intake.recover()
    intake.take([dropped])
    assert looked >= looks
    bench.restart()
    assert bench.take(dropped).jobs == ()
    [job] = bench.store.jobs()
    assert job.error_kind is ErrorKind.CANCELLED
    assert bench.queued() == []
