"""Options files: which goes with which video, and what becomes of those that cannot be used."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.ingest import claims, options_file, stability
from daemon.ingest.options_pairing import pair
from daemon.jobs import Options
from tests.clips import make_clip
from tests.unit.ingest.test_inbox import Bench as InboxBench
from tests.unit.ingest.test_intake import Answer
from tests.unit.ingest.test_intake import Bench as IntakeBench


class Bench(InboxBench):
    """An inbox and an intake over one folder."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.intake = IntakeBench(home)

    def drop(self, name: str, text: str | None = None) -> Path:
        path = self.folder / name
        if text is None:
            return make_clip(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def take(self, seconds: float = 5.0) -> dict[str, Options | str]:
        """Let time pass and take in what comes; return by path the options of each job or why it was rejected."""
        found = self.steps(seconds)
        outcomes = self.intake.intake.take(found)
        self.inbox.acknowledge(outcomes)
        answer = Answer(found, outcomes)
        told: dict[str, Options | str] = {job.source_name: job.options for job in answer.jobs}
        return told | {dropped.path: reason for dropped, reason in answer.rejected}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.inbox.shutdown()


# Names.


@pytest.mark.parametrize(
    ("video", "options"),
    [
        ("a.mp4", "a.mp4.options.json"),
        ("a.mp4", "a.options.json"),
        ("CASE6.MP4", "CASE6.MP4.OPTIONS.JSON"),
        ("Case6.Mp4", "case6.mp4.options.json"),
        ("clip.MOV", "CLIP.Options.json"),
        ("caf\u00e9.mp4", "cafe\u0301.mp4.options.json"),
        ("two.parts.mp4", "two.parts.options.json"),
        ("x" * 240 + ".mp4", "x" * 240 + ".options.json"),
        ("12:30.mp4", "12:30.mp4.options.json"),
    ],
)
def test_an_options_file_is_found_under_both_names_in_any_case(bench: Bench, video: str, options: str) -> None:
    bench.drop(f"yolo/{options}", '{"frame_stride": 5}')
    bench.drop(f"yolo/{video}")
    assert bench.take() == {f"yolo/{video}": Options(frame_stride=5)}
    assert bench.intake.dropped_files() == []


def test_of_two_options_files_the_one_with_the_videos_whole_name_counts(bench: Bench) -> None:
    bench.drop("a.options.json", '{"frame_stride": 2}')
    bench.drop("a.mp4.options.json", '{"frame_stride": 3}')
    video = bench.drop("a.mp4")
    with video.open("ab"):
        assert bench.take() == {}
        assert bench.why()["a.options.json"] == ("It waits for another video: a.mp4.options.json goes before it.")
    assert bench.take(6) == {"a.mp4": Options(3)}
    assert bench.intake.dropped_files() == ["a.options.json"]
    [reason] = bench.take(700).values()
    assert "no video of that name came" in str(reason)


def test_an_options_file_that_could_be_for_two_videos_is_for_none(bench: Bench) -> None:
    bench.drop("a.options.json", '{"frame_stride": 2}')
    bench.drop("a.mp4")
    second = bench.drop("a.mov")
    assert bench.take(2000) == {}
    assert bench.why()["a.mp4"] == (
        "The options file a.options.json could be for it or for a.mov; rename it to a.mp4.options.json if it is for "
        "this one."
    )
    second.rename(bench.folder.parent / "a.mov")
    assert bench.take(6) == {"a.mp4": Options(2)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.mp4", "A.MP4", "a.mp4.options.json"], {"a.mp4": "a.mp4.options.json"}),
        (
            ["a.mp4", "A.MP4", "a.mp4.options.json", "A.MP4.OPTIONS.JSON"],
            {"a.mp4": "a.mp4.options.json", "A.MP4": "A.MP4.OPTIONS.JSON"},
        ),
        (["A.mp4", "a.Mp4", "a.mp4.options.json"], {}),
        (["a.mp4", "A.MP4.options.json", "a.mp4.options.json"], {"a.mp4": "a.mp4.options.json"}),
        (
            ["a.mp4", "a.mov", "a.mp4.options.json", "a.options.json"],
            {"a.mp4": "a.mp4.options.json", "a.mov": "a.options.json"},
        ),
        (["a.mp4.mp4", "a.mp4.options.json"], {"a.mp4.mp4": "a.mp4.options.json"}),
        (["a.mp4.mp4", "a.mp4", "a.mp4.options.json"], {"a.mp4": "a.mp4.options.json"}),
        (["a.mp4", "b.options.json", ".options.json", "a.json"], {}),
    ],
)
def test_each_options_file_goes_to_the_nearest_name(names: list[str], expected: dict[str, str]) -> None:
    assert pair(names).options_of == expected
    assert pair(reversed(names)).options_of == expected


# What cannot be used.


@pytest.mark.parametrize("name", ["a.mp4.options.json", "A.OPTIONS.JSON"])
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Its options file is not JSON (it is empty)."),
        ("\n", "Its options file is not JSON (it is empty)."),
        ("{'frame_stride': 5}", "Its options file is not JSON ("),
        ('{"frame_strid": 5}', "did you mean frame_stride?"),
        ('{"frame_stride": "5"}', "Option frame_stride must be a whole number of 1 or more, not '5'."),
        ("[5]", "must hold an object"),
        (" " * 65_537 + "{}", "has more than 65536 bytes"),
    ],
)
def test_a_bad_options_file_is_judged_as_one_and_its_video_is_not_run(
    bench: Bench, name: str, text: str, part: str
) -> None:
    bench.drop(name, text)
    bench.drop("a.mp4")
    [(path, reason)] = bench.take(700).items()
    assert path == "a.mp4"
    assert part in str(reason)
    assert str(reason).endswith("Correct the options file, or remove it, and drop both again.")
    assert bench.intake.dropped_files() == [
        f"rejected/a.mp4{ending}" for ending in ("", ".options.json", ".reason.txt")
    ]


def test_an_empty_options_file_without_a_video_is_told_of_the_video(bench: Bench) -> None:
    bench.drop("a.mp4.options.json", "")
    [reason] = bench.take(700).values()
    assert reason == "It is an options file, and no video of that name came. Drop it again just before its video."


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "part", "moves"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "It is a symbolic link", True),
        (lambda path: path.symlink_to("/nowhere/at/all"), "It is a symbolic link", True),
        (os.mkfifo, "It is a pipe", True),
        (make_socket, "It is a socket", True),
        (Path.mkdir, "It is a folder", False),
    ],
)
def test_an_options_file_that_is_not_a_file_rejects_its_video_at_once(
    bench: Bench, make: Callable[[Path], None], part: str, moves: bool
) -> None:
    make(bench.folder / "a.mp4.options.json")
    bench.drop("a.mp4")
    [reason] = bench.take(5).values()
    assert str(reason).startswith(f"Its options file a.mp4.options.json cannot be used. {part}")
    place = bench.folder / ("rejected/a.mp4.options.json" if moves else "a.mp4.options.json")
    assert os.path.lexists(place)
    bench.steps(1)
    assert bench.why() == {}


def test_an_options_file_that_may_not_be_read_holds_its_video_no_longer_than_the_timeout(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stability.open_regular

    def denied(name: str, folder: int) -> int:
        if name == "a.mp4.options.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, folder)

    monkeypatch.setattr(stability, "open_regular", denied)
    bench.drop("a.mp4.options.json", '{"frame_stride": 5}')
    bench.drop("a.mp4")
    assert bench.take(595) == {}
    assert bench.why()["a.mp4"] == (
        "Its options file a.mp4.options.json cannot be used. It cannot be read: its permissions do not let Dropframe "
        "read it."
    )
    [reason] = bench.take(10).values()
    assert "its permissions do not let Dropframe read it" in str(reason)


# Crashes.


@pytest.mark.parametrize("name", ["a.options.json", "A.MP4.OPTIONS.JSON", os.fsdecode(b"bad\xff.options.json")])
def test_options_of_any_name_survive_a_share_that_fails_between_them_and_their_video(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    video = os.fsdecode(b"bad\xff.mp4") if name.startswith("bad") else "a.mp4"
    bench.drop(name, '{"frame_stride": 5}')
    bench.drop(video)
    found = bench.steps(5)
    move = claims.move_file

    def failing_after_the_options(source: str, *args: object, **kwargs: object) -> object:
        if source == name:
            return move(source, *args, **kwargs)  # type: ignore[arg-type]
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        for module in (claims, options_file):
            patch.setattr(module, "move_file", failing_after_the_options)
        assert bench.intake.take(*found).jobs == ()
    bench.intake.restart()
    monkeypatch.setattr(claims, "RETRY_SECONDS", 0.0)
    [job] = bench.intake.store.jobs() or bench.intake.take(*found).jobs
    assert job.options == Options(5)
    assert bench.intake.dropped_files() == []


def test_options_are_returned_under_their_own_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.drop("yolo/A.OPTIONS.JSON", '{"frame_stride": 5}')
    bench.drop("yolo/a.mp4")
    found = bench.steps(5)

    def failing(*args: object, **kwargs: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claims, "move_file", failing)
    assert [dropped.path for dropped, _ in bench.intake.take(*found).blocked] == ["yolo/a.mp4"]
    assert bench.intake.dropped_files() == ["yolo/A.OPTIONS.JSON", "yolo/a.mp4"]
