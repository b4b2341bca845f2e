"""From the inbox to the job and back: what became of a file is shown where people look for it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import StoreError
from daemon.fs import moves, space
from daemon.fs.storage import LocalStorageService
from daemon.ingest import claims, intake, options_file, quarantine
from daemon.ingest.consumer import InboxConsumer
from daemon.ingest.intake import Intake
from daemon.ingest.model import Dropped, Outcome
from daemon.jobs import Job, JobStatus
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.store.tinydb_table import MemoryStorage
from tests.clips import make_clip


class Bench:
    """Inbox and intake as the daemon puts them together, stepped by hand."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, watch="polling", min_free_bytes=0, close_grace_seconds=0)
        self.folder = self.settings.inbox_dir
        self.now = 1000.0
        self.store = JobStore(MemoryStorage())
        self.consumer = InboxConsumer(self.settings, lambda: self.now)
        self.consumer.inbox.startup()
        storage = LocalStorageService(self.settings.data_dir)
        self.intake = Intake(
            self.settings,
            self.store,
            InMemoryQueueService(),
            storage,
            frozenset({"yolo_ocr"}),
            monotonic=lambda: self.now,
        )
        self.intake.recover()

    def pass_time(self, seconds: float) -> None:
        """Step whenever a step is due."""
        end = self.now + seconds
        while True:
            with contextlib.suppress(OSError, StoreError):  # the loop logs it and goes on
                self.consumer.step(self.now, self.intake, lambda: None)
            if self.now >= end:
                break
            self.now = min(end, self.now + max(0.01, self.consumer.inbox.next_due(self.now)))

    def why(self) -> dict[str, str]:
        return {waiting.name: waiting.why for waiting in self.consumer.health().waiting}

    def jobs(self) -> list[Job]:
        return self.store.jobs()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.consumer.inbox.shutdown()


Patch = pytest.MonkeyPatch


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def no_room_at_all(bench: Bench, patch: Patch) -> str:
    patch.setattr(space, "free_bytes", lambda _: -1)
    return "Intake is paused. Fewer than 0 bytes are free"


def no_room_for_a_copy_from_another_disk(bench: Bench, patch: Patch) -> str:
    patch.setattr(Intake, "_has_to_be_copied", lambda *_: True)
    patch.setattr(space, "free_bytes", lambda _: 10)
    size = (bench.folder / "a.mp4").stat().st_size
    return f"It has to be copied. Fewer than {size} bytes are free"


def a_video_that_cannot_be_moved(bench: Bench, patch: Patch) -> str:
    patch.setattr(moves, "rename_new", failing(errno.EIO))
    return "It cannot be taken in: Input/output error."


def an_options_file_that_cannot_be_read(bench: Bench, patch: Patch) -> str:
    patch.setattr(options_file, "open_regular", failing(errno.EIO))
    return "Its options file cannot be read: Input/output error."


def a_claim_whose_options_cannot_be_put_back(bench: Bench, patch: Patch) -> str:
    real = moves.move_file

    def only_the_options_come(name: str, *args: object, **kwargs: object) -> object:
        if name == "a.mp4.options.json":
            return real(name, *args, **kwargs)  # type: ignore[arg-type]
        raise OSError(errno.EIO, "Input/output error")

    for module in (claims, options_file):
        patch.setattr(module, "move_file", only_the_options_come)
    return "It cannot be taken in: Input/output error."


def a_video_folder_that_cannot_be_used(bench: Bench, patch: Patch) -> str:
    real = os.open

    def full(path: object, *args: object, **kwargs: object) -> int:
        if str(path).endswith("video_jobs"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    patch.setattr(os, "open", full)
    return "It cannot be taken in: Stale file handle."


def a_job_store_that_cannot_be_written(bench: Bench, patch: Patch) -> str:
    def refuse(*_: object) -> None:
        raise StoreError("The job store cannot be written.")

    patch.setattr(bench.store, "create", refuse)
    return "It cannot be taken in: The job store cannot be written."


CAUSES = (
    no_room_at_all,
    no_room_for_a_copy_from_another_disk,
    a_video_that_cannot_be_moved,
    an_options_file_that_cannot_be_read,
    a_claim_whose_options_cannot_be_put_back,
    a_video_folder_that_cannot_be_used,
    a_job_store_that_cannot_be_written,
)


@pytest.mark.parametrize("cause", CAUSES)
def test_what_holds_a_whole_file_up_is_shown_and_the_file_is_taken_once_it_is_gone(
    bench: Bench, caplog: pytest.LogCaptureFixture, cause: Callable[[Bench, Patch], str]
) -> None:
    make_clip(bench.folder / "a.mp4")
    (bench.folder / "a.mp4.options.json").write_text('{"frame_stride": 5}')
    with pytest.MonkeyPatch.context() as patch:
        expected = cause(bench, patch)
        for seconds in (0, 1, 30, 300):
            bench.pass_time(seconds)
            why = bench.why()["a.mp4"]
            assert why.startswith(expected)
            assert re.search(r" It is tried again in \d+ s\.$", why)
            assert bench.consumer.health().waiting_count >= 1
        assert sum("a.mp4" in record.getMessage() for record in caplog.records) <= 1, "the log has it once"
    bench.pass_time(intake.BLOCKED_SECONDS)
    [job] = bench.jobs()
    assert (job.source_name, job.status, job.options.frame_stride) == ("a.mp4", JobStatus.PENDING, 5)
    bench.pass_time(3)
    assert bench.why() == {}


def test_a_blocked_file_is_tried_again_when_its_time_has_come_and_not_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(bench.folder / "a.mp4")
    tried: list[float] = []
    real = bench.intake.take

    def take(batch: list[Dropped]) -> list[Outcome]:
        if batch:
            tried.append(bench.now)
        return real(batch)

    monkeypatch.setattr(bench.intake, "take", take)
    no_room_at_all(bench, monkeypatch)
    bench.pass_time(35)
    assert tried == [1000, 1010, 1020, 1030]


def test_a_blocked_file_that_changes_is_judged_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(bench.folder / "a.mp4")
    no_room_at_all(bench, monkeypatch)
    bench.pass_time(0)
    with (bench.folder / "a.mp4").open("ab"):
        bench.pass_time(11)
        assert bench.why() == {"a.mp4": "Another program still has it open for writing."}
    (bench.folder / "a.mp4").unlink()
    bench.pass_time(11)
    assert bench.why() == {}


def test_what_keeps_a_file_from_being_rejected_is_shown_and_it_is_rejected_once_that_is_gone(bench: Bench) -> None:
    (bench.folder / "a.mp4").write_text("these are notes and no video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quarantine.os, "fsync", failing(errno.ENOSPC))
        bench.pass_time(60)
        why = bench.why()["a.mp4"]
        assert why.startswith("It is text")
        assert "It could not be moved to the rejected files: No space left on device. It is tried again" in why
    bench.pass_time(intake.BLOCKED_SECONDS)
    assert (bench.folder / "rejected/a.mp4.reason.txt").exists()
    assert bench.why() == {}


def test_a_file_that_was_taken_and_cannot_be_removed_says_so_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moves.rename_new

    def rename(source: str, source_folder: int, target: str, target_folder: int) -> None:
        if source_folder != target_folder:
            raise OSError(errno.EROFS, "Read-only file system")
        real(source, source_folder, target, target_folder)

    monkeypatch.setattr(moves, "rename_new", rename)
    monkeypatch.setattr(moves, "remove_file", lambda *_: False)
    make_clip(bench.folder / "a.mp4")
    bench.pass_time(0.1)
    assert len(bench.jobs()) == 1
    assert bench.why() == {"a.mp4": "It was taken in; it is still here because it could not be removed."}
    bench.pass_time(200)
    assert len(bench.jobs()) == 1


def test_a_job_cancelled_while_its_file_was_copied_leaves_a_file_that_says_so(bench: Bench) -> None:
    make_clip(bench.folder / "a.mp4")

    def cancelled_meanwhile(*_: object, **__: object) -> None:
        [job] = bench.jobs()
        bench.store.move(job.job_id, JobStatus.FAILED, error_message="Cancelled.")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "move_file", cancelled_meanwhile)
        bench.pass_time(0)
    bench.pass_time(100)
    assert bench.why() == {"a.mp4": "Its job was cancelled before it had been taken in; it is not taken again."}
