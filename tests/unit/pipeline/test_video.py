"""Opening, probing and decoding: what is read, what is refused, and what is said of damage."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from daemon.errors import BadVideo
from daemon.pipeline.records import Frame, Image
from daemon.pipeline.video import DecodeCount, Limits, Video
from tests.clips import draw_frame, make_clip

USUAL = Limits()


def decode(path: Path, limits: Limits = USUAL, **sampling: int) -> tuple[Video, list[Frame]]:
    video = Video(path, limits)
    return video, list(video.frames(**sampling))


def likeness(image: Image, drawn: Image) -> float:
    """Mean difference of a decoded picture from the drawn one (RGB), 0 to 255."""
    return float(np.abs(image[::2, ::2].astype(int) - drawn[::2, ::2, ::-1].astype(int)).mean())


def flipped(path: Path, start: float, count: int) -> Path:
    """Overwrite bytes of a clip from a fraction of its length on."""
    data = bytearray(path.read_bytes())
    begin = int(len(data) * start)
    for place in range(begin, min(begin + count, len(data))):
        data[place] ^= 0x5A
    path.write_bytes(data)
    return path


def patched(path: Path, box: bytes, offset: int, value: int, width: int = 4) -> Path:
    """Overwrite a number that stands some bytes after the name of a box."""
    data = bytearray(path.read_bytes())
    at = data.index(box) + 4 + offset
    data[at : at + width] = value.to_bytes(width, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("ten_bit", [False, True])
@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("libx265", "hevc")])
def test_every_frame_of_a_common_video_comes_in_the_order_it_is_shown(
    tmp_path: Path, codec: str, name: str, ten_bit: bool, b_frames: int
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=25, codec=codec, ten_bit=ten_bit, b_frames=b_frames)
    video, frames = decode(clip)
    assert (video.info.codec, video.info.width, video.info.height) == (name, 320, 240)
    assert (video.info.fps, video.info.duration_s, video.info.frame_count) == (25.0, 1.0, 25)
    assert [frame.index for frame in frames] == list(range(25))
    assert [frame.timestamp_s for frame in frames] == [round(i / 25, 6) for i in range(25)]
    for frame in frames:
        assert frame.image.shape == (240, 320, 3)
        others = [likeness(frame.image, draw_frame(i, (320, 240))) for i in range(25)]
        assert int(np.argmin(others)) == frame.index


@pytest.mark.parametrize("form", [{"faststart": True}, {"faststart": False}, {"fragmented": True}])
def test_the_index_may_come_first_last_or_in_pieces(tmp_path: Path, form: dict[str, bool]) -> None:
    video, frames = decode(make_clip(tmp_path / "a.mp4", frames=20, **form))
    assert len(frames) == 20
    assert (video.count.missing, video.count.failed, video.count.reached_end) == (0, 0, True)


def test_times_of_a_variable_frame_rate_are_those_of_the_container(tmp_path: Path) -> None:
    shown = (0.0, 0.04, 0.1, 0.5, 0.54, 1.25, 2.0, 2.02, 2.5, 4.0)
    _, frames = decode(make_clip(tmp_path / "a.mp4", pts_seconds=shown, b_frames=2))
    assert [frame.timestamp_s for frame in frames] == pytest.approx(shown, abs=1e-6)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_comes_upright(tmp_path: Path, rotation: int) -> None:
    video, frames = decode(make_clip(tmp_path / "a.mp4", frames=2, rotation=rotation, text="UP"))
    stored = draw_frame(0, (320, 240), "UP")
    upright = np.rot90(stored, rotation // 90)  # counter-clockwise, as a player turns it
    assert frames[0].image.shape == upright.shape
    assert (video.info.height, video.info.width) == upright.shape[:2]
    assert likeness(frames[0].image, upright) < 6
    assert likeness(frames[0].image, upright[::-1, ::-1]) > 12  # the measure can tell


def test_stride_and_limit_choose_frames(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20)
    assert [f.index for f in decode(clip, stride=6)[1]] == [0, 6, 12, 18]
    assert [f.index for f in decode(clip, stride=6, max_frames=3)[1]] == [0, 6, 12]
    assert [f.index for f in decode(clip, stride=6, max_frames=3, skip=1)[1]] == [6, 12]
    assert [f.index for f in decode(clip, stride=1000)[1]] == [0]
    assert decode(clip, max_frames=5, skip=5)[1] == []
    whole = decode(clip, stride=6)[1]
    for one, other in zip(whole[1:], decode(clip, stride=6, skip=1)[1], strict=True):
        assert one.timestamp_s == other.timestamp_s
        assert np.array_equal(one.image, other.image)


def test_frames_that_were_not_asked_for_are_not_missing(tmp_path: Path) -> None:
    video, _ = decode(make_clip(tmp_path / "a.mp4", frames=20), max_frames=5)
    assert (video.count.missing, video.count.reached_end) == (0, False)


def test_a_cut_video_gives_what_is_left_and_says_what_is_missing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, b_frames=2, faststart=True)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    video, frames = decode(clip)
    count = video.count
    assert count.expected == 60
    assert 20 < len(frames) == count.decoded < 60
    assert count.decoded + count.failed + count.missing == 60
    assert count.failed <= 1  # the one that was cut through
    assert likeness(frames[-1].image, draw_frame(frames[-1].index, (320, 240))) < 8


def test_a_cut_video_of_fragments_gives_what_is_left(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, fragmented=True)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    _, frames = decode(clip)
    assert 10 < len(frames) < 60


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("where", [0.5, 0.9, 0.97])
def test_damage_is_passed_over_counted_and_the_same_each_time(tmp_path: Path, codec: str, where: float) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, codec=codec, ten_bit=True, b_frames=2, gop=15, faststart=True)
    flipped(clip, where, 300)
    runs: set[tuple[str, str]] = set()
    for _ in range(3):
        video, frames = decode(clip)
        count = video.count
        assert 30 < len(frames) < 60
        assert count.packets == 60
        assert count.decoded + count.failed == 60  # none is lost without a word
        digest = hashlib.sha256(b"".join(frame.image.tobytes() for frame in frames)).hexdigest()
        runs.add((digest, repr(count)))
    assert len(runs) == 1


def test_damage_near_the_end_costs_what_is_damaged_and_no_frame_before_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=60, b_frames=2, faststart=True)
    flipped(clip, 1 - 300 / clip.stat().st_size, 290)  # the last coded frame
    video, frames = decode(clip)
    assert (len(frames), video.count.failed) == (59, 1)


def test_a_change_of_size_in_mid_video_is_scaled_to_the_size_at_the_start(tmp_path: Path) -> None:
    clip = two_sizes(tmp_path / "a.mp4")
    _, frames = decode(clip)
    assert len(frames) == 20
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert likeness(frames[15].image, draw_frame(15, (320, 240))) < 10


def two_sizes(path: Path) -> Path:
    """Write ten frames of 320x240 and ten of 160x120 into one track."""
    options = {"preset": "ultrafast", "crf": "18", "bf": "0", "x264-params": "repeat-headers=1"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        small = av.CodecContext.create("libx264", "w")
        small.width, small.height, small.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = small.time_base = Fraction(1, 25)
        small.framerate, small.options = 25, options
        for encoder, indices in ((stream, range(10)), (small, range(10, 20))):
            packets = []
            for index in indices:
                frame = av.VideoFrame.from_ndarray(draw_frame(index, (320, 240)), format="rgb24")
                if encoder is small:
                    frame = frame.reformat(160, 120)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.stream = stream
                container.mux(packet)
    return path


def test_what_an_edit_list_cuts_away_is_no_damage(tmp_path: Path) -> None:
    """Telephones cut a video by its edit list: the coded frames stay and are not shown."""
    clip = make_clip(tmp_path / "a.mp4", frames=60, b_frames=2, gop=30)
    patched(clip, b"elst", 8, 1200)  # show 1.2 s of 2.4
    video, frames = decode(clip)
    assert len(frames) == 30
    assert (video.count.failed, video.count.missing) == (0, 0)


def test_sound_beside_the_video_does_no_harm(tmp_path: Path) -> None:
    assert len(decode(make_clip(tmp_path / "a.mp4", frames=20, audio=True))[1]) == 20


def test_a_title_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w", format="mp4") as container:
        container.metadata["title"] = "Cafee"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    assert b"Cafee" in clip.read_bytes()
    clip.write_bytes(clip.read_bytes().replace(b"Cafee", b"Caf\xe9e"))
    assert len(decode(clip)[1]) == 3


@pytest.mark.parametrize(
    "name", ["50%off.mp4", "%03d.mp4", "*.mp4", "cam1.mp4", "12:30.mp4", "-i.mp4", "pipe:0", "ü\n☃"]
)
def test_the_name_of_a_file_has_no_meaning(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / name, frames=4)
    make_clip(tmp_path / "001.mp4", frames=9)  # what a pattern could stand for
    monkeypatch.chdir(tmp_path)
    assert len(decode(tmp_path / name)[1]) == 4
    assert len(decode(Path(name))[1]) == 4


# What is refused.


def refusal(path: Path, limits: Limits = USUAL) -> str:
    with pytest.raises(BadVideo) as caught:
        decode(path, limits)
    text = str(caught.value)
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    assert "no video track" in refusal(make_clip(tmp_path / "a.mp4", video=False, audio=True))
    assert "sound" in refusal(make_clip(tmp_path / "a.mp4", video=False, audio=True))


def bad_bytes() -> dict[str, bytes]:
    picture = draw_frame(0, (64, 64))
    return {
        "empty": b"",
        "only ftyp": (24).to_bytes(4, "big") + b"ftypisom\0\0\2\0isomiso2",
        "no tracks": (24).to_bytes(4, "big") + b"ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x08moov\0\0\0\x08mdat",
        "text": b"This is a letter, not a video.\n" * 20,
        "jpeg": cv2.imencode(".jpg", picture)[1].tobytes(),
        "png": cv2.imencode(".png", picture)[1].tobytes(),
        "noise": np.random.default_rng(1).bytes(20_000),
    }


@pytest.mark.parametrize("kind", sorted(bad_bytes()))
def test_what_is_no_video_is_refused_with_a_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bad_bytes()[kind])
    assert "video" in refusal(path)


@pytest.mark.parametrize(("container", "codec"), [("gif", "gif"), ("matroska", "libx264"), ("avi", "mpeg4")])
def test_another_format_under_the_name_of_an_mp4_is_refused(tmp_path: Path, container: str, codec: str) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb8" if codec == "gif" else "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame(64, 64, stream.pix_fmt)))
        output.mux(stream.encode(None))
    assert path.stat().st_size > 100
    assert "cannot be opened" in refusal(path)


def test_a_playlist_under_the_name_of_an_mp4_does_not_open_its_neighbour(tmp_path: Path) -> None:
    make_clip(tmp_path / "secret.mp4")
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    assert "cannot be opened" in refusal(path)
    path.write_text("#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    assert "cannot be opened" in refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "none.mp4")


def test_an_index_without_any_pictures_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=30, faststart=True)
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"mdat") + 4])
    assert refusal(clip) == "No frame of the video could be decoded."


LIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "frames of no size": (lambda p: patched(patched(p, b"avc1", 24, 0), b"avcC", 4, 0), "video"),
    "4 thousand million frames": (lambda p: patched(p, b"stts", 8, 2**32 - 1), "max_video_frames"),
    "12,800 frames a second": (lambda p: patched(p, b"stts", 12, 1), "max_fps"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_an_absurd_header_is_refused_and_the_setting_named(tmp_path: Path, lie: str) -> None:
    patch, said = LIES[lie]
    assert said in refusal(patch(make_clip(tmp_path / "a.mp4", frames=30)))


def test_each_limit_names_its_setting(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=50)
    assert "(setting max_frame_pixels)" in refusal(clip, Limits(frame_pixels=320 * 240 - 1))
    assert "(max_fps)" in refusal(clip, Limits(fps=24))
    assert "(max_video_seconds)" in refusal(clip, Limits(seconds=1.5))
    assert "(max_video_frames)" in refusal(clip, Limits(frames=49))
    exactly = Limits(frame_pixels=320 * 240, fps=25, seconds=2, frames=50)
    assert len(decode(clip, exactly)[1]) == 50


def test_a_header_that_hides_the_number_of_frames_does_not_get_past_the_limit(tmp_path: Path) -> None:
    clip = patched(make_clip(tmp_path / "a.mp4", frames=50), b"stts", 8, 5)  # claims 5, holds 50
    assert Video(clip).count.expected == 5
    assert "more than 20 frames" in refusal(clip, Limits(frames=20))


def test_a_clock_that_stands_nearly_still_divides_nothing_by_zero(tmp_path: Path) -> None:
    for value in (1, 2**31):
        clip = patched(make_clip(tmp_path / "a.mp4", frames=30), b"mdhd", 12, value)
        video = Video(clip)
        assert all(np.isfinite(frame.timestamp_s) for frame in video.frames())


def test_a_picture_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=1, size=(4096, 4096))
    program = (
        "import re, sys; from pathlib import Path; from daemon.errors import BadVideo\n"
        "from daemon.pipeline.video import Limits, Video\n"
        "most = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = most()\n"
        "try: Video(Path(sys.argv[1]), Limits(frame_pixels=int(sys.argv[2]))).close()\n"
        "except BadVideo: pass\n"
        "print(most() - before)\n"
    )
    taken = {
        limit: int(subprocess.check_output([sys.executable, "-c", program, clip, str(limit)]))
        for limit in (4_000_000, 36_000_000)
    }
    assert taken[4_000_000] < 15_000 + clip.stat().st_size // 1024  # KiB
    assert taken[36_000_000] > 20_000 + taken[4_000_000]  # what one frame of it takes


def test_a_count_says_nothing_is_missing_before_the_end_is_seen() -> None:
    assert DecodeCount(expected=None, packets=3, reached_end=True).missing == 0
    assert DecodeCount(expected=9, packets=3).missing == 0
    assert DecodeCount(expected=9, packets=3, reached_end=True).missing == 6
    assert DecodeCount(expected=3, packets=9, reached_end=True).missing == 0
