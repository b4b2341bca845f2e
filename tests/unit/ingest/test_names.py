"""Which names of the drop folder are Dropframe's, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.unit.ingest.test_inbox import Bench, paths

WAITS = "Its name is not that of a video, so it is left alone; it is looked at once it is renamed."
UNFINISHED = [
    *("a.mp4.!qB", "a.mp4.!ut", "a.mp4.aria2", "a.mp4.ffs_tmp", "a.mp4.!sync", "a.mp4.~4ef5", "a.mp4.ytdl", "a.mp4.st"),
    *("a.mp4~", "a.mp4.sb-1a2b3c4d-Xy", "a.mp4.uploading", "a.mp4.temp", "a.mov.unfinished", "A.MP4.XYZ", "a.m4v_new"),
    *("a.mp4.baiduyun.p.downloading", "a.mp4.no-such-program", "a.mp4-journal", "a.!ut", "a.~1b", "a~"),
]
LITTER = [
    *("Thumbs.db", "desktop.ini", ".DS_Store", "._a.mp4", "Icon\r", "a.mp4:Zone.Identifier", "Thumbs.db:encryptable"),
    *("a.mp4:com.apple.quarantine:$DATA", "a.mp4\uf03aZone.Identifier", "notes.txt:Zone.Identifier", "Icon\uf00d"),
]
NOT_OURS = [
    *("@Recycle", "@Recently-Snapshot", "@SynoResource", "@eaDir", "@sharebin", "@never-heard-of", "#recycle"),
    *("#snapshot", "$RECYCLE.BIN", "$recycle.bin", "Recycled", "RECYCLER", "Recycle Bin", "Network Recycle Bin 1"),
    *(".Trash-1000", ".Trashes", ".zfs", ".snapshot", ".snapshots", "~snapshot", "lost+found", "LOST+FOUND"),
    *("System Volume Information", "Network Trash Folder", "Temporary Items", ".stfolder", ".stversions"),
    *("trashbox", "_NAS_Recycle_RAID", "FOUND.000", "a.mp4.sb-1a2b3c4d-Xy", "a.mp4.download"),
]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.inbox.shutdown()


@pytest.fixture
def rejecting(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, unknown_files="reject")
    yield made
    made.inbox.shutdown()


@pytest.mark.parametrize("name", [*UNFINISHED, "notes.txt", "film.mpc", "noending", "GX010042.THM"])
def test_a_file_not_named_as_a_video_stays_and_is_shown_with_the_reason(bench: Bench, name: str) -> None:
    make_clip(bench.folder / "clip.mp4").rename(bench.folder / name)
    assert bench.steps(2000) == []
    assert bench.why() == {name: WAITS}


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_another_program_may_come_back_to_is_never_rejected(rejecting: Bench, name: str) -> None:
    (rejecting.folder / name).write_bytes(b"half of it")
    assert rejecting.steps(3000) == []
    assert rejecting.why() == {name: WAITS}


def test_other_names_are_rejected_after_the_timeout_where_the_setting_says_so(rejecting: Bench) -> None:
    (rejecting.folder / "notes.txt").write_bytes(b"")
    assert rejecting.steps(599) == []
    assert rejecting.why() == {
        "notes.txt": "Its name is not that of a video; it is rejected once it has not changed for 10 minutes."
    }
    [dropped] = rejecting.steps(2)
    assert dropped.reason == (
        "Its name is not that of a video, and it has not changed for 10 minutes. If it is a video, rename it to end as "
        "one, such as .mp4, and drop it again."
    )


def test_a_file_that_is_written_to_is_not_rejected_for_its_name(rejecting: Bench) -> None:
    with (rejecting.folder / "notes.txt").open("wb"):
        assert rejecting.steps(2000) == []


def test_a_file_is_taken_as_soon_as_it_has_a_videos_name(bench: Bench) -> None:
    clip = make_clip(bench.folder / "a.mp4")
    part = clip.rename(bench.folder / "a.mp4.!qB")
    assert bench.steps(30) == []
    part.rename(clip)
    assert paths(bench.steps(3)) == ["a.mp4"]
    clip.unlink()
    bench.steps(30)
    assert bench.why() == {}


def test_videos_are_shown_before_files_of_other_names(bench: Bench) -> None:
    for number in range(60):
        (bench.folder / f"{number}.srt").write_bytes(b"1")
    bench.steps(5)
    (bench.folder / "late.mp4").write_bytes(b"")
    bench.steps(5)
    health = bench.inbox.health()
    assert (health.waiting_count, len(health.waiting), health.waiting[0].name) == (61, 50, "late.mp4")


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_passed_over_without_a_word(rejecting: Bench, name: str) -> None:
    (rejecting.folder / name).write_bytes(b"[ZoneTransfer]\r\nZoneId=3\r\n")
    assert rejecting.steps(2000) == []
    assert rejecting.inbox.health().waiting_count == 0


@pytest.mark.parametrize("folder", NOT_OURS)
@pytest.mark.parametrize("above", ["", "yolo/Holiday"])
def test_recycle_bins_snapshots_and_working_folders_are_not_looked_into(
    rejecting: Bench, above: str, folder: str
) -> None:
    make_clip(rejecting.folder / above / folder / "old.mp4")
    make_clip(rejecting.folder / above / folder / "below" / "old.mp4")
    (rejecting.folder / above / folder / "notes.txt").write_bytes(b"1")
    assert rejecting.steps(700) == []
    assert rejecting.inbox.health().waiting_count == 0


@pytest.mark.parametrize("folder", ["rejected", "Rejected", "REJECTED"])
def test_the_rejected_files_are_not_looked_into_on_a_share_that_knows_no_capitals(bench: Bench, folder: str) -> None:
    make_clip(bench.folder / folder / "b" / "a.mp4")
    make_clip(bench.folder / "b" / folder / "a.mp4")
    assert paths(bench.steps(10)) == [f"b/{folder}/a.mp4"]


@pytest.mark.parametrize(
    "name",
    [
        *("#1 goal.mp4", "@home.mp4", "$100.mp4", "12:30:00.mp4", "a.mp4.mp4", "recycled.mp4", "thumbs.db.mp4"),
        *("2026:01/a.mp4", "Movie.mp4-GROUP/a.mp4", "Recycling plant/a.mp4", "a.mp4/a.mp4", "snapshots/a.mp4"),
    ],
)
def test_names_that_only_look_like_those_are_ordinary(bench: Bench, name: str) -> None:
    make_clip(bench.folder / name)
    assert paths(bench.steps(3)) == [name]


@pytest.mark.parametrize("folder", ["Panorama.360.Paris", "Clips.mov.old", "charts.ts.v2"])
def test_a_folder_with_a_dot_and_a_videos_ending_in_its_name_is_looked_into(bench: Bench, folder: str) -> None:
    make_clip(bench.folder / folder / "a.mp4")
    assert paths(bench.steps(20)) == [f"{folder}/a.mp4"]
