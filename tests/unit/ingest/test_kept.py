"""``inbox_mode = "keep"``: files stay where they are, and nothing is run twice. Time is passed in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.deletion import Deletion
from daemon.fs import moves
from daemon.fs.storage import LocalStorageService
from daemon.ingest import kept
from daemon.ingest.put_back import ClaimedSources
from daemon.jobs import JobStatus
from daemon.store.job_store import JobStore
from daemon.worker.outbox import Outbox
from tests.clips import make_clip
from tests.unit.ingest.keeper import Keeper


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    made.end()


def seen_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}


def test_files_stay_where_they_are_and_are_one_job_each(keeper: Keeper) -> None:
    for name in ("a.mp4", "ocr_only/b.mp4"):
        make_clip(keeper.folder / name)
    before = seen_in(keeper.folder)
    keeper.pass_time(300)
    assert sorted(keeper.jobs()) == ["a.mp4", "ocr_only/b.mp4"]
    assert seen_in(keeper.folder) == before
    assert keeper.why() == {}, "they do not wait"
    for job in keeper.store.jobs():
        stored = keeper.stored(job)
        assert stored.read_bytes() == before[job.source_name]
        assert not stored.samefile(keeper.folder / job.source_name)
        assert stored.stat().st_nlink == 1
        assert ClaimedSources(keeper.settings, keeper.store, keeper.storage).unchanged(job)
        assert (job.pipeline_id == "ocr_only") == (job.source_name == "ocr_only/b.mp4")


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


def written_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    touched(path)


def sent_again_under_another_name(path: Path) -> None:
    part = path.with_name(".part")
    shutil.copyfile(path, part)
    part.rename(path)


def attributes_changed(path: Path) -> None:
    path.chmod(0o600)


SAME: list[Callable[[Path], None]] = [touched, written_again, sent_again_under_another_name, attributes_changed]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("when", ["before it has run", "after it has run", "after its video was removed"])
@pytest.mark.parametrize("how", SAME)
def test_the_same_content_is_not_run_again(
    keeper: Keeper, how: Callable[[Path], None], when: str, restarted: bool
) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    [job] = keeper.store.jobs()
    if when != "before it has run":
        keeper.complete(sha256=digest(path))
    if when == "after its video was removed":
        keeper.stored(job).unlink()
    if restarted:
        keeper.end()
    how(path)
    if restarted:
        keeper.start()
    keeper.pass_time(200)
    keeper.restart()
    keeper.pass_time(200)
    assert keeper.jobs() == ["a.mp4"]
    assert keeper.why() == {}
    if when == "before it has run":
        [job] = keeper.store.jobs()
        assert ClaimedSources(keeper.settings, keeper.store, keeper.storage).unchanged(job)


def digest(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return kept.sha256_of(descriptor, lambda: False) or ""
    finally:
        os.close(descriptor)


def test_the_same_content_is_read_once_and_then_known(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    touched(path)
    keeper.pass_time(200)
    keeper.end()
    keeper.start()
    monkeypatch.setattr(kept, "sha256_of", lambda *_: pytest.fail("it was read again"))
    monkeypatch.setattr("daemon.ingest.stability.check", lambda *_: pytest.fail("it was looked into again"))
    keeper.pass_time(200)
    assert keeper.jobs() == ["a.mp4"]


def overwritten(path: Path) -> None:
    make_clip(path, frames=12)


def overwritten_in_the_same_size(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"mdat") + 40
    path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])


def exchanged(path: Path) -> None:
    make_clip(path.with_name("other.mp4.part"), frames=12).rename(path)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("how", [overwritten, overwritten_in_the_same_size, exchanged])
def test_another_content_is_another_job(keeper: Keeper, how: Callable[[Path], None], restarted: bool) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    how(path)
    if restarted:
        keeper.restart()
    keeper.pass_time(200)
    keeper.restart()
    keeper.pass_time(200)
    first, second = keeper.store.jobs()
    assert keeper.stored(second).read_bytes() == path.read_bytes() != keeper.stored(first).read_bytes()
    assert [job.claim.seen is None for job in (first, second) if job.claim] == [True, False], "one memory a path"


def test_a_file_that_changes_while_it_is_copied_is_one_job_of_what_it_became(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    real = moves._copy_bytes
    changes = [True]

    def changing(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        if changes.pop() if changes else False:
            overwritten(path)

    monkeypatch.setattr(moves, "_copy_bytes", changing)
    keeper.pass_time(30)
    [job] = keeper.store.jobs()
    assert keeper.stored(job).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_is_gone_is_forgotten_and_run_again_when_it_is_back(keeper: Keeper, restarted: bool) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    path.rename(keeper.folder.parent / "away")
    if restarted:
        keeper.restart()
    keeper.pass_time(300)
    assert keeper.intake.kept._files == {}
    [job] = keeper.store.jobs()
    assert job.claim is not None
    assert job.claim.seen is None
    keeper.restart()
    (keeper.folder.parent / "away").rename(path)
    keeper.pass_time(30)
    assert keeper.jobs() == ["a.mp4", "a.mp4"]
    assert path.exists()


def test_an_inbox_that_went_away_and_came_back_has_not_lost_its_files(keeper: Keeper) -> None:
    make_clip(keeper.folder / "ocr_only/a.mp4")
    keeper.pass_time(5)
    keeper.folder.rename(keeper.folder.parent / "away")
    keeper.pass_time(500)
    (keeper.folder.parent / "away").rename(keeper.folder)
    keeper.pass_time(500)
    assert keeper.jobs() == ["ocr_only/a.mp4"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_was_renamed_is_not_run_again_unless_for_another_pipeline(keeper: Keeper, restarted: bool) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    path.rename(keeper.folder / "b.mp4")
    if restarted:
        keeper.restart()
    keeper.pass_time(300)
    assert keeper.jobs() == ["a.mp4"]
    (keeper.folder / "ocr_only").mkdir()
    (keeper.folder / "b.mp4").rename(keeper.folder / "ocr_only/b.mp4")
    keeper.pass_time(300)
    assert keeper.jobs() == ["a.mp4", "ocr_only/b.mp4"]


def test_a_second_name_of_a_file_is_a_second_job(keeper: Keeper) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    os.link(path, keeper.folder / "b.mp4")
    keeper.pass_time(300)
    assert keeper.jobs() == ["a.mp4", "b.mp4"]


def test_an_options_file_is_obeyed_and_stays_without_waiting(keeper: Keeper) -> None:
    make_clip(keeper.folder / "a.mp4")
    (keeper.folder / "a.mp4.options.json").write_text('{"frame_stride": 5}')
    for _ in range(2):
        keeper.pass_time(1000)
        [job] = keeper.store.jobs()
        assert job.options.frame_stride == 5
        assert keeper.why() == {}
        assert set(seen_in(keeper.folder)) == {"a.mp4", "a.mp4.options.json"}
        keeper.restart()
    overwritten(keeper.folder / "a.mp4")
    keeper.pass_time(300)
    assert [job.options.frame_stride for job in keeper.store.jobs()] == [5, 5]


def test_a_wrong_options_file_holds_its_video_up_until_it_is_corrected(keeper: Keeper) -> None:
    make_clip(keeper.folder / "a.mp4")
    options = keeper.folder / "a.mp4.options.json"
    options.write_text('{"stride": 5}')
    keeper.pass_time(100)
    assert keeper.jobs() == []
    assert "There is no option 'stride'" in keeper.why()["a.mp4"]
    assert "Correct the options file, or remove it. It is tried again" in keeper.why()["a.mp4"], "nothing was moved"
    options.write_text('{"frame_stride": 5}')
    keeper.pass_time(100)
    assert [job.options.frame_stride for job in keeper.store.jobs()] == [5]


def a_link(options: Path) -> None:
    options.symlink_to("/nowhere")


def a_folder(options: Path) -> None:
    options.mkdir()


@pytest.mark.parametrize("make", [a_link, a_folder])
def test_an_options_file_that_cannot_be_one_holds_its_video_up_until_it_is_gone(
    keeper: Keeper, make: Callable[[Path], None]
) -> None:
    make_clip(keeper.folder / "a.mp4")
    options = keeper.folder / "a.mp4.options.json"
    make(options)
    keeper.pass_time(1000)
    assert keeper.jobs() == []
    assert keeper.why()["a.mp4"].endswith("Correct the options file, or remove it.")
    options.rmdir() if options.is_dir() else options.unlink()
    keeper.pass_time(1000)
    assert keeper.jobs() == ["a.mp4"]
    assert keeper.why() == {}


def test_an_options_file_waits_for_its_video_as_long_as_it_takes(keeper: Keeper) -> None:
    keeper.folder.joinpath("a.mp4.options.json").write_text('{"frame_stride": 5}')
    keeper.pass_time(1000)
    assert keeper.why() == {"a.mp4.options.json": "It waits for its video."}
    make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(100)
    assert [job.options.frame_stride for job in keeper.store.jobs()] == [5]
    assert keeper.why() == {}


def test_what_is_not_named_as_a_video_is_left_alone_whatever_is_set(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, unknown_files="reject")
    (keeper.folder / "notes.txt").write_text("notes")
    for seconds in (5, 1000):
        keeper.pass_time(seconds)
        assert "so it is left alone; it is looked at once it is renamed" in keeper.why()["notes.txt"]
    assert set(seen_in(keeper.folder)) == {"notes.txt"}
    keeper.end()


def test_what_is_not_a_video_stays_too_and_is_shown_with_the_reason(keeper: Keeper) -> None:
    (keeper.folder / "a.mp4").write_bytes(b"these are notes and no video")
    keeper.pass_time(100)
    assert "It is text" in keeper.why()["a.mp4"]
    assert set(seen_in(keeper.folder)) == {"a.mp4"}
    make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(100)
    assert keeper.jobs() == ["a.mp4"]


def test_a_cancelled_job_is_not_made_again(keeper: Keeper) -> None:
    make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    [job] = keeper.store.jobs()
    keeper.store.move(job.job_id, JobStatus.FAILED)
    keeper.restart()
    keeper.pass_time(300)
    assert keeper.jobs() == ["a.mp4"]


def delete_all(keeper: Keeper, killed: bool) -> None:
    for job in keeper.store.jobs():
        keeper.store.delete(job)
    deletion = Deletion(keeper.settings, keeper.store, keeper.storage, Outbox(keeper.settings.outbox_dir))
    if not killed:
        deletion.remove()
    assert len(keeper.store.deleted.unfinished_ids()) == killed


def renamed(path: Path) -> None:
    path.rename(path.with_name("b.mp4"))


def left_as_it_is(path: Path) -> None:
    pass


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("when", ["before it has run", "after it has run", "and the deletion is killed"])
@pytest.mark.parametrize("how", [*SAME, renamed, left_as_it_is])
def test_a_file_whose_job_was_deleted_is_run_again_only_if_it_changes(
    keeper: Keeper, how: Callable[[Path], None], when: str, restarted: bool
) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.settings.outbox_dir.mkdir()
    keeper.pass_time(5)
    if when != "before it has run":
        keeper.complete(sha256=digest(path))
    delete_all(keeper, killed="killed" in when)
    if restarted:
        keeper.restart()
    how(path)
    for _ in range(2):
        keeper.pass_time(200)
        assert keeper.jobs() == []
        assert keeper.why() == {}, "it is done, and does not wait"
        keeper.restart()
    [now] = keeper.folder.glob("[!.]*")
    overwritten(now)
    keeper.pass_time(200)
    assert keeper.jobs() == [now.name]


def test_a_file_that_is_gone_is_forgotten_with_its_deleted_job(keeper: Keeper) -> None:
    path = make_clip(keeper.folder / "a.mp4")
    keeper.settings.outbox_dir.mkdir()
    keeper.pass_time(5)
    delete_all(keeper, killed=False)
    assert keeper.store.deleted.forget("9999") == 0
    path.unlink()
    keeper.pass_time(300)
    assert keeper.store.deleted.left_behind() == []
    assert keeper.store.deleted.forget("9999") == 1


def test_what_was_kept_stays_when_files_are_taken_again(keeper: Keeper) -> None:
    make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    keeper.end()
    taker = Keeper(keeper.settings.home, inbox_mode="take")
    make_clip(taker.folder / "b.mp4")
    taker.pass_time(300)
    assert taker.jobs() == ["a.mp4", "b.mp4"]
    assert set(seen_in(taker.folder)) == {"a.mp4"}
    taker.end()
    keeper.start()


def test_a_stored_copy_that_was_changed_does_not_come_back_into_the_inbox(keeper: Keeper) -> None:
    make_clip(keeper.folder / "a.mp4")
    keeper.pass_time(5)
    [job] = keeper.store.jobs()
    os.utime(keeper.stored(job), (5, 5))
    sources = ClaimedSources(keeper.settings, keeper.store, keeper.storage)
    renewed = sources.put_back(job, "it was changed")
    assert renewed is not None
    assert sources.unchanged(renewed)
    keeper.restart()
    keeper.pass_time(300)
    assert keeper.jobs() == ["a.mp4"]
    assert set(seen_in(keeper.folder)) == {"a.mp4"}


# Kills.

CHILD = """
import contextlib, sys
from pathlib import Path
from tests.unit.ingest.keeper import Keeper
keeper = Keeper(Path(sys.argv[1]), rescan_seconds=5.0)
keeper.pass_time(60)
keeper.end()
"""


def run(home: Path, fault: str | None = None) -> int:
    environment = os.environ | ({"DROPFRAME_FAULT": fault} if fault else {})
    return subprocess.run([sys.executable, "-c", CHILD, home], env=environment, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "intake.recorded:1",
        "intake.copied:1",
        "intake.copied:2",
        "intake.one_moved:1",
        "intake.one_moved:2",
        "intake.moved:1",
        "kept.noted:1",
        "kept.forgotten:1",
        "kept.forgotten:2",
    ],
)
def test_killed_at_any_point_each_content_is_one_job(tmp_path: Path, point: str) -> None:
    inbox = tmp_path / "inbox"
    for name in ("touched", "changed", "gone", "new"):
        make_clip(inbox / f"{name}.mp4", text=name)
    (inbox / "new.mp4").rename(tmp_path / "new.mp4")
    earlier = point.startswith("kept")
    if earlier:
        assert run(tmp_path) == 0
    touched(inbox / "touched.mp4")
    before = {name: data for name, data in seen_in(inbox).items() if name != "gone.mp4"}
    if earlier:
        overwritten(inbox / "changed.mp4")
        (inbox / "gone.mp4").unlink()
    (tmp_path / "new.mp4").rename(inbox / "new.mp4")
    assert run(tmp_path, point) == -signal.SIGKILL
    assert run(tmp_path) == 0
    assert run(tmp_path) == 0
    wanted = ["changed.mp4", "gone.mp4", "new.mp4", "touched.mp4"] + (["changed.mp4"] if earlier else [])
    with JobStore.open(tmp_path / "data") as store:
        jobs = store.jobs()
        assert sorted(job.source_name for job in jobs) == sorted(wanted)
        storage = LocalStorageService(tmp_path / "data")
        stored = {storage.path(job.input_path).read_bytes() for job in jobs}
        assert len(stored) == len(jobs)
        assert stored >= set(before.values())
        remembered = sorted(job.source_name for job in jobs if job.claim and job.claim.seen)
        assert remembered == sorted(name for name in seen_in(inbox))
    assert not list((tmp_path / "data/video_jobs").glob(".*"))
