"""Frames from any of them on are exactly those of a run from the start, or are refused; never other ones."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from daemon.errors import BadVideo, Interrupted
from daemon.pipeline.frame_index import LEAST_APART, STEP_PACKETS, FrameIndex, IndexBuilder
from daemon.pipeline.records import Frame
from daemon.pipeline.seams import NotExact
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_ranges import RangedVideo
from tests.clips import make_clip
from tests.container_clips import in_container
from tests.odd_clips import packets_of, remuxed
from tests.range_clips import SIZE, STRUCTURES
from tests.system.hostile.mutations import mutations

ALL = Limits(containers="all", frames=5000)
RANGE = 25
REFUSED = frozenset(
    {
        "two edits",
        "broken composition times",
        "no reordering said",
        "two frames at one time",
        "begun in a group",
        "damaged",
        "damaged all over",
        "cut short",
        "cut fragments",
        "another size",
        "fields",
        "mpeg-4 not coded",
        "divx",
        "spark.flv",
        "wmv",
    }
)
"""Clips in which an index cannot say where each frame is."""
Known = tuple[int, float, int]
MKV_CUES, MKV_VOID = b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6c"
"""The name of the table of places in Matroska, and one that nothing has."""


def known(frame: Frame) -> Known:
    return frame.index, frame.timestamp_s, zlib.crc32(frame.image.data)


def in_one_piece(path: Path) -> tuple[list[Known], dict[str, Any]]:
    video = Video(path, ALL)
    frames = [known(frame) for frame in video.frames()]
    return frames, account(video)


def account(video: Video) -> dict[str, Any]:
    """Return what a document says of all frames, but for how many were read to get there."""
    return {**vars(video.count), "read": None, "info": video.info}


def in_ranges(path: Path) -> tuple[list[Known], dict[str, Any]]:
    """Return the same from ranges, each found anew; every range ends with the first frame of the next."""
    with closing(RangedVideo(path, ALL)) as video:
        index = video.make_index()
    found: list[Known] = []
    for start in range(0, len(index), RANGE):
        with closing(RangedVideo(path, ALL)) as video:
            video.go_to(index, start)
            stop = RANGE + 1 if start + RANGE < len(index) else None
            frames = [known(frame) for frame in islice(video.frames(), stop)]
        assert found[start:] in ([], frames[:1])  # the seam
        found[start:] = frames
    return found, account(video)


def exact(path: Path) -> bool | None:
    """Tell whether ranges are possible; None if the video is not. Fails where they give other frames."""
    try:
        whole = in_one_piece(path)
    except BadVideo:
        whole = None
    try:
        ranges = in_ranges(path)
    except (NotExact, BadVideo):
        return None if whole is None else False
    assert ranges == whole
    return True


@pytest.mark.parametrize("clip", STRUCTURES)
def test_ranges_give_the_frames_of_one_piece_or_are_refused(tmp_path: Path, clip: str) -> None:
    assert exact(STRUCTURES[clip](tmp_path / "a.mp4")) is (clip not in REFUSED)


MUTATED = ("b-frames", "fragments", "mpeg-4", "hevc of open groups", "ts", "mkv with b-frames", "avi", "vp9.webm")


def check_mutations(folder: Path, seed: int, count: int) -> Counter[bool | None]:
    """Compare damaged clips of several groups of pictures; return how many there were of each outcome."""
    clips = [STRUCTURES[name](folder / f"{number}.mp4").read_bytes() for number, name in enumerate(MUTATED)]
    path, seen = folder / "mutated.mp4", Counter[bool | None]()
    for name, data in islice(mutations(clips, seed), count):
        path.write_bytes(data)
        try:
            seen[exact(path)] += 1
        except AssertionError as error:
            raise AssertionError(f"{name} gives other frames in ranges") from error
    return seen


def test_damaged_files_give_the_same_in_ranges_or_are_refused(tmp_path: Path) -> None:
    seen = check_mutations(tmp_path, 7, 80)
    assert min(seen[True], seen[False], seen[None]) > 0, seen


@pytest.mark.slow
def test_many_damaged_files_give_the_same_in_ranges_or_are_refused(tmp_path: Path) -> None:
    check_mutations(tmp_path, 8, 150)


def test_stride_and_most_count_from_the_start_of_the_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=60, size=SIZE)
    whole = [known(frame) for frame in Video(path).frames(4, 9)]
    with closing(RangedVideo(path)) as video:
        video.go_to(video.make_index(), 20)
        assert [known(frame) for frame in video.frames(4, 9)] == whole[5:]
        assert video.count.decoded == 33
        assert not video.count.reached_end


def test_a_picture_that_is_not_where_the_index_has_it_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=60, size=SIZE)
    with closing(RangedVideo(path)) as video:
        index = video.make_index()
        times = index.times.copy()
        times[40] += 1
        video.go_to(replace(index, times=times), 30)
        frames = video.frames()
        assert [next(frames).index for _ in range(10)] == list(range(30, 40))
        with pytest.raises(NotExact, match="frame 40 is not where the index has it"):
            next(frames)


@pytest.mark.parametrize("change", [(0, 1), (0, -1)])
def test_fewer_or_more_pictures_than_the_index_has_are_refused(tmp_path: Path, change: tuple[int, int]) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=60, size=SIZE)
    with closing(RangedVideo(path)) as video:
        index = video.make_index()
        more = np.append(index.times, index.times[-1] + 512) if change[1] > 0 else index.times[:-1]
        video.go_to(replace(index, times=more), 30)
        with pytest.raises(NotExact):
            list(video.frames())


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_an_entry_that_is_not_found_again_is_refused(tmp_path: Path, place: int) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=60, size=SIZE)
    with closing(RangedVideo(path)) as video:
        index = video.make_index()
        entries = index.entries.copy()
        entries[:, place] += 1
        video.go_to(replace(index, entries=entries), 30)
        with pytest.raises(NotExact):
            list(video.frames())


def test_an_entry_that_seeking_misses_is_found_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=60, size=SIZE, gop=12)
    whole = [known(frame) for frame in Video(path).frames()]
    for lands in (0, 59 * 512):
        with closing(RangedVideo(path)) as video:
            sought = video._sought
            monkeypatch.setattr(video, "_sought", lambda _, *how, sought=sought, lands=lands: sought(lands, *how))
            video.go_to(video.make_index(), 30)
            assert [known(frame) for frame in video.frames()] == whole[30:]


def ended_after(steps: int) -> Callable[[], None]:
    """Return a step that ends what it is called by."""
    left = iter(range(steps))

    def step() -> None:
        if next(left, None) is None:
            raise Interrupted("ended")

    return step


def test_making_an_index_steps_through_the_file_and_can_be_ended(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=230, size=SIZE)
    steps: list[None] = []
    with closing(RangedVideo(path)) as video:
        assert len(video.make_index(lambda: steps.append(None))) == 230
        assert len(steps) >= 230 // STEP_PACKETS
        with pytest.raises(Interrupted):
            video.make_index(ended_after(2))


@pytest.mark.parametrize("kind", ["mkv", "flv"])
def test_a_file_without_a_table_of_places_is_searched_in_leaps_and_that_can_be_ended(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_container(tmp_path / "a.bin", kind, count=150, size=(64, 48))
    data = path.read_bytes()
    assert (MKV_CUES in data) is (kind == "mkv")
    path.write_bytes(data.replace(MKV_CUES, MKV_VOID))
    whole, _ = in_one_piece(path)
    monkeypatch.setattr("daemon.pipeline.frame_index.LEAP_BYTES", path.stat().st_size // 10)
    with closing(RangedVideo(path, ALL)) as video:
        index = video.make_index()
        steps: list[None] = []
        video.go_to(index, 140, lambda: steps.append(None))
        assert [known(frame) for frame in video.frames()] == whole[140:]
        assert len(steps) >= 8
    with closing(RangedVideo(path, ALL)) as video:
        video.go_to(index, 140, ended_after(6))
        with pytest.raises(Interrupted):
            next(video.frames())


def test_reading_up_to_an_entry_that_seeking_misses_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=400, size=SIZE, gop=12)
    with closing(RangedVideo(path)) as video:
        monkeypatch.setattr(video, "_sought", lambda *how: iter(()))
        video.go_to(video.make_index(), 390, ended_after(5))
        with pytest.raises(Interrupted):
            next(video.frames())


class Coded(SimpleNamespace):
    def __bytes__(self) -> bytes:
        return b""


def packet(pts: int | None, dts: int | None, **more: Any) -> Any:
    usual = {"pos": 0, "size": 1, "is_keyframe": False, "is_discard": False, "is_corrupt": False}
    return Coded(pts=pts, dts=dts, **{**usual, **more})


def index_of(*packets: Any) -> FrameIndex:
    builder = IndexBuilder(lambda data: True, most=10)
    for each in packets:
        builder.add(each)
    return builder.finish(0)


@pytest.mark.parametrize(
    ("packets", "why"),
    [
        ([packet(0, 0), packet(None, 1)], "a coded frame has no time"),
        ([packet(0, 0), packet(0, 1)], "frames have no time of their own"),
        ([packet(0, 0), packet(1, 0)], "decoding times do not grow"),
        ([packet(0, 0), packet(1, 1, is_corrupt=True)], "a coded frame is damaged or empty"),
        ([packet(0, 0), packet(1, 1, size=0)], "a coded frame is damaged or empty"),
        ([packet(n, n) for n in range(11)], "there are too many frames"),
        ([], "frames have no time of their own"),
        ([packet(0, 0, is_discard=True)], "frames have no time of their own"),
    ],
)
def test_no_index_is_made_of_what_is_not_sure(packets: list[Any], why: str) -> None:
    with pytest.raises(NotExact, match=f"^{why}$"):
        index_of(*packets)


def test_what_is_not_shown_is_not_counted_and_may_share_a_time() -> None:
    index = index_of(packet(5, 0, is_discard=True), packet(7, 1), packet(5, 2), packet(6, 3))
    assert index.times.tolist() == [5, 6, 7]
    assert len(index) == 3


def test_an_index_of_eight_hours_is_small() -> None:
    builder = IndexBuilder(lambda data: True)
    frames = 8 * 3600 * 60
    each = packet(0, 0)
    for number in range(frames // 10):
        each.pts = each.dts = number
        builder.add(each)
    index = builder.finish(0)
    assert (index.times.nbytes + index.entries.nbytes) * 10 < 20_000_000


def test_an_index_of_key_frames_alone_takes_little_memory_while_it_is_made() -> None:
    builder, frames = IndexBuilder(lambda data: True), 100_000
    each = packet(0, 0, is_keyframe=True)
    tracemalloc.start()
    for number in range(frames):
        each.pts = each.dts = number
        builder.add(each)
    index = builder.finish(0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index.entries) == -(-frames // LEAST_APART)
    assert most < 32 * frames


def looped(path: Path, clip: Path, times: int) -> Path:
    """Write a clip that repeats another's coded frames."""
    packets, stream, container = packets_of(clip)
    ends = max(each.pts + (each.duration or 0) for each in packets)

    def repeated() -> Any:
        for number in range(times):
            for each in packets:
                again = av.Packet(bytes(each))
                again.pts, again.dts = each.pts + number * ends, each.dts + number * ends
                again.time_base, again.duration, again.is_keyframe = each.time_base, each.duration, each.is_keyframe
                yield again

    remuxed(path, repeated(), stream)
    container.close()
    return path


@pytest.mark.slow
def test_the_end_of_two_hours_is_there_within_two_seconds(tmp_path: Path) -> None:
    """Seconds of the processor, which do not hang on what else it does."""
    clip = make_clip(tmp_path / "clip.mp4", frames=250, size=(64, 48), b_frames=2)
    path = looped(tmp_path / "long.mp4", clip, 720)
    begun = time.process_time()
    with closing(RangedVideo(path)) as video:
        index = video.make_index()
        assert len(index) == 180_000
        video.go_to(index, 162_000)
        frame = next(video.frames())
    spent = time.process_time() - begun
    assert (frame.index, frame.timestamp_s) == (162_000, 6480.0)
    assert spent < 2, spent
