"""When a file is taken: left alone after it came, its content still, and nobody's download. Time is passed in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import SourceChanged
from daemon.fs.folders import Folders
from daemon.fs.identity import identity_of
from daemon.fs.mounts import Mount
from daemon.fs.moves import move_file
from daemon.fs.storage import LocalStorageService
from daemon.ingest import left_behind, root
from daemon.ingest.control_files import CONTROL_SUFFIXES
from daemon.ingest.left_behind import LeftBehind
from daemon.jobs import Claim, Job, JobSource, input_key, new_job_id
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.unit.ingest.test_inbox import Bench, paths, wait_for_hints


@pytest.fixture(params=["polling", "events"])
def patient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, watch=request.param, close_grace_seconds=1.5)
    yield made
    made.inbox.shutdown()


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An inbox on a share, where neither locks nor events tell of a writer."""
    monkeypatch.setattr(root, "mount_of", lambda _: Mount(Path("/"), "cifs"))
    made = Bench(tmp_path, watch="auto")
    yield made
    made.inbox.shutdown()


# The grace.


def notice(bench: Bench) -> None:
    """Let an event arrive, where there are events; what is polled is seen at the next look."""
    if bench.inbox.health().mode == "events":
        wait_for_hints(bench)
        bench.step()


def moved_in(path: Path) -> None:
    path.rename(path.with_name("b.mp4"))
    path.with_name("b.mp4").rename(path)


TOUCHES: dict[str, Callable[[Path], object]] = {
    "chmod": lambda path: path.chmod(0o640),
    "the time is set": lambda path: os.utime(path, (1, 1)),
    "written again": lambda path: path.write_bytes(path.read_bytes()),
    "renamed": moved_in,
}


@pytest.mark.parametrize("how", TOUCHES)
def test_a_touch_by_name_starts_the_grace_anew(patient: Bench, how: str) -> None:
    path = make_clip(patient.folder / "a.mp4")
    for _ in range(3):
        assert patient.steps(1.4) == []
        assert patient.why() == {"a.mp4": "It waits until it has been left alone for 1.5 s."}
        TOUCHES[how](path)
        notice(patient)
    assert patient.steps(1.4) == []
    assert paths(patient.steps(1.7)) == ["a.mp4"]


def test_opening_for_writing_starts_the_grace_anew_though_nothing_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path, watch="events", close_grace_seconds=1.5)
    path = make_clip(bench.folder / "a.mp4")
    assert bench.steps(1.4) == []
    path.open("ab").close()
    wait_for_hints(bench)
    assert bench.steps(1.4) == []
    assert paths(bench.steps(0.2)) == ["a.mp4"]
    bench.inbox.shutdown()


def test_an_options_file_that_comes_within_the_grace_goes_with_its_video(patient: Bench) -> None:
    make_clip(patient.folder / "a.mp4")
    assert patient.steps(1.4) == []
    (patient.folder / "a.mp4.options.json").write_text("{}")
    notice(patient)
    [dropped] = patient.steps(4)
    assert dropped.options_path == "a.mp4.options.json"


# A share, where a writer cannot be seen.


def test_on_a_share_a_writer_that_makes_room_first_and_pauses_is_waited_for(share: Bench) -> None:
    whole = make_clip(share.folder.parent / "whole.mp4", frames=50, faststart=True).read_bytes()
    path = share.folder / "a.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3] + bytes(len(whole) - len(whole) * 2 // 3))
    os.utime(path, (1, 1))
    assert share.steps(7) == []
    assert share.why() == {"a.mp4": "It is not complete yet: Pictures that its index lists have not been written."}
    path.write_bytes(whole)
    os.utime(path, (1, 1))  # the server does not tell of it before the writer closes
    assert paths(share.steps(8)) == ["a.mp4"]


def test_on_a_share_a_writer_whose_size_and_time_stand_still_is_seen_by_the_content(share: Bench) -> None:
    old = make_clip(share.folder.parent / "old.mp4", frames=50, faststart=True).read_bytes()
    new = bytes(reversed(old))
    path = share.folder / "a.mp4"
    begin = len(old) // 2  # among the pictures
    for written in range(100, 1000, 100):
        path.write_bytes(old[:begin] + new[begin : begin + written] + old[begin + written :])
        os.utime(path, (1, 1))
        assert share.steps(1.9) == []
    assert paths(share.steps(4.1)) == ["a.mp4"]


def test_a_large_file_is_looked_at_in_a_few_blocks(share: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_clip(share.folder.parent / "whole.mp4", faststart=True).read_bytes()
    path = share.folder / "a.mp4"
    path.write_bytes(data + (1 << 30).to_bytes(4, "big") + b"free")
    os.truncate(path, len(data) + (1 << 30))
    read = []
    real = os.pread
    monkeypatch.setattr(
        os, "pread", lambda descriptor, count, start: read.append(count) or real(descriptor, count, start)
    )
    assert paths(share.steps(5)) == ["a.mp4"]
    assert 0 < sum(read) <= 3 * 64 * 4096


def test_a_source_that_changes_while_it_is_copied_stays_though_size_and_time_stand_still(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in/a.mp4", faststart=True)
    (tmp_path / "data").mkdir()
    os.link(source, tmp_path / "another name")  # so that it has to be copied
    seen = identity_of(source.stat())
    new = bytes(reversed(source.read_bytes()))

    def writes_meanwhile() -> bool:
        source.write_bytes(new)
        os.utime(source, ns=(seen.mtime_ns, seen.mtime_ns))
        return False

    with Folders(tmp_path) as folders, pytest.raises(SourceChanged, match="neither size nor time"):
        move_file(
            "a.mp4",
            folders.get("in"),
            "b.mp4",
            folders.get("data"),
            seen,
            True,
            stopping=writes_meanwhile,
            compare=True,
        )
    assert source.read_bytes() == new
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("changed", [False, True])
def test_a_source_on_a_share_that_a_crash_left_is_removed_only_if_it_is_what_was_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    monkeypatch.setattr(left_behind, "is_on_share", lambda _: True)
    source = make_clip(tmp_path / "inbox/a.mp4")
    storage = LocalStorageService(tmp_path / "data")
    job_id = new_job_id()
    stored = storage.path(input_key(job_id))
    stored.parent.mkdir(parents=True)
    stored.write_bytes(bytes(reversed(source.read_bytes())) if changed else source.read_bytes())
    with JobStore.open(tmp_path / "data") as store:
        claim = Claim("a.mp4", identity_of(source.stat()))
        [job] = store.create([Job(job_id, input_path=input_key(job_id), source=JobSource.INBOX, claim=claim)])
        behind = LeftBehind(tmp_path / "inbox", store, storage)
        behind.remove_source(job)
        assert source.exists() == changed
        assert claim.identity not in behind, "it is taken in as it is now"


# Downloads.


@pytest.mark.parametrize("suffix", CONTROL_SUFFIXES)
def test_a_video_waits_while_a_download_managers_control_file_is_beside_it(patient: Bench, suffix: str) -> None:
    make_clip(patient.folder / "yolo/movie.mp4")
    control = patient.folder / f"yolo/movie.mp4{suffix}"
    control.write_bytes(b"\0\1")
    assert patient.steps(700) == []
    assert patient.why()["yolo/movie.mp4"] == (
        f"It is being downloaded: movie.mp4{suffix} is beside it. If that was given up, remove both."
    )
    control.unlink()
    assert [dropped.reason for dropped in patient.steps(5)] == [None]


def test_a_file_that_is_not_a_video_yet_is_not_rejected_while_it_is_downloaded(patient: Bench) -> None:
    (patient.folder / "movie.mp4").write_bytes(b"not yet what it will be, but text so far")
    (patient.folder / "movie.mp4.aria2").write_bytes(b"\0\1")
    assert patient.steps(700) == []


@pytest.mark.parametrize("part", ["ff.Xy12abCD.mp4.part", "ff.mp4.part", "ff.mp4.crdownload"])
def test_a_browsers_placeholder_waits_while_its_download_runs(patient: Bench, part: str) -> None:
    (patient.folder / "ff.mp4").touch()
    (patient.folder / part).write_bytes(b"so far")
    assert patient.steps(1400) == []
    assert patient.why()["ff.mp4"].startswith(f"It is being downloaded: {part} is beside it.")
    (patient.folder / part).unlink()
    make_clip(patient.folder / "new.mp4").replace(patient.folder / "ff.mp4")
    assert {dropped.reason for dropped in patient.steps(20)} == {None}


def test_a_whole_video_does_not_wait_for_a_part_file_that_was_left_beside_it(patient: Bench) -> None:
    make_clip(patient.folder / "a.mp4")
    (patient.folder / "a.Xy.mp4.part").write_bytes(b"given up")
    assert [dropped.path for dropped in patient.steps(20)] == ["a.mp4"]


@pytest.mark.parametrize("other", ["T [id].f140.m4a", "T [id].f251.webm.part", "T [id].temp.mp4"])
def test_the_half_of_a_download_waits_until_both_are_put_together(patient: Bench, other: str) -> None:
    make_clip(patient.folder / "T [id].f137.mp4")
    (patient.folder / other).write_bytes(b"sound")
    assert "T [id].f137.mp4" not in [dropped.path for dropped in patient.steps(30)]
    assert patient.why()["T [id].f137.mp4"].startswith(f"It is being downloaded: {other} is beside it.")


def test_videos_named_like_halves_are_taken_where_nothing_else_is_missing(patient: Bench) -> None:
    make_clip(patient.folder / "race.f1.mp4")
    make_clip(patient.folder / "race.f2.mp4")
    assert sorted(dropped.path for dropped in patient.steps(20)) == ["race.f1.mp4", "race.f2.mp4"]
