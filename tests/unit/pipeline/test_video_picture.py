"""The picture is the one that a player shows: upright, of square pixels, of one size, of common colours."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from daemon.pipeline.records import Frame, Image
from daemon.pipeline.video import Video
from daemon.pipeline.video_hdr import HLG, PQ, ToneMap
from daemon.pipeline.video_picture import (
    Orientation,
    Renderer,
    RepeatingRenderer,
    believed_aspect,
    square_pixels,
)
from tests.clips import draw_frame, make_clip
from tests.odd_clips import PATCHES, encode, hdr, interlaced, moving, patches, set_matrix

Turn = Callable[[Image], Image]

MATRICES: dict[str, tuple[tuple[int, int, int, int], Turn, int, bool]] = {
    "as it is": ((1, 0, 0, 1), lambda p: p, 0, False),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1], 0, True),
    "upside down and mirrored": ((1, 0, 0, -1), lambda p: p[::-1], 180, True),
    "upside down": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1], 180, False),
    "turned right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1), 90, False),
    "turned left": ((0, -1, 1, 0), lambda p: np.rot90(p), 270, False),
    "mirrored and turned left": ((0, 1, 1, 0), lambda p: np.rot90(p[:, ::-1]), 270, True),
    "mirrored and turned right": ((0, -1, -1, 0), lambda p: np.rot90(p[:, ::-1], -1), 90, True),
}
"""The matrix (a, b, c, d), what it does to a picture, and what the document says of it."""


def decode(path: Path) -> tuple[Video, list[Frame]]:
    video = Video(path)
    return video, list(video.frames())


def difference(image: Image, rgb: Image) -> float:
    return float(np.abs(image.astype(int) - rgb[..., ::-1]).mean())


def rendered(path: Path, filters: str, size: tuple[int, int]) -> Image:
    """Return the frames that the command ffmpeg makes, BGR."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", filters, "-fps_mode", "passthrough"]
    raw = subprocess.check_output([*command, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"])
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the command ffmpeg is not installed")


@pytest.mark.parametrize("name", MATRICES)
def test_every_display_matrix_is_applied_mirrored_ones_too(tmp_path: Path, name: str) -> None:
    matrix, turn, rotation, mirrored = MATRICES[name]
    clip = set_matrix(make_clip(tmp_path / "a.mp4", frames=2, text="UP", size=(320, 180)), *matrix)
    video, frames = decode(clip)
    upright = turn(draw_frame(0, (320, 180), "UP"))
    assert frames[0].image.shape == upright.shape
    assert (video.info.width, video.info.height) == upright.shape[1::-1]
    assert difference(frames[0].image, upright) < 6
    assert (video.info.rotation, video.info.mirrored) == (rotation, mirrored)


@needs_ffmpeg
@pytest.mark.parametrize("name", MATRICES)
def test_a_turned_picture_is_the_one_that_ffmpeg_shows(tmp_path: Path, name: str) -> None:
    clip = set_matrix(make_clip(tmp_path / "a.mp4", frames=3, text="UP", size=(320, 180)), *MATRICES[name][0])
    video, frames = decode(clip)
    shown = rendered(clip, "null", (video.info.width, video.info.height))
    assert len(shown) == len(frames)
    assert max(np.abs(shown[f.index].astype(int) - f.image).mean() for f in frames) < 1


def test_a_matrix_that_is_askew_goes_to_the_nearest_quarter() -> None:
    assert Orientation.from_matrix([60_000, 9000, 0, -9000, 60_000, 0]) == Orientation()
    assert Orientation.from_matrix([9000, 60_000, 0, -60_000, 9000, 0]).rotation == 90


@pytest.mark.parametrize(
    ("aspect", "matrix", "size"),
    [
        (Fraction(64, 45), (1, 0, 0, 1), (512, 288)),
        (Fraction(64, 45), (0, 1, -1, 0), (288, 512)),
        (Fraction(8, 9), (1, 0, 0, 1), (360, 324)),
        (Fraction(1, 1), (1, 0, 0, 1), (360, 288)),
    ],
)
def test_pixels_are_made_square_before_the_picture_is_turned(
    tmp_path: Path, aspect: Fraction, matrix: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    clip = set_matrix(encode(tmp_path / "a.mp4", moving(3, (360, 288)), aspect=aspect), *matrix)
    video, frames = decode(clip)
    assert (video.info.width, video.info.height) == size
    assert {frame.image.shape for frame in frames} == {(size[1], size[0], 3)}
    assert video.info.sample_aspect_ratio == f"{aspect.numerator}:{aspect.denominator}"


def test_a_circle_that_was_stored_narrow_is_round(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:288, :360]
    circle = ((columns - 180) * 64 / 45) ** 2 + (rows - 144) ** 2 < 100**2
    stored = np.where(circle[..., None], np.uint8(230), np.uint8(20)).repeat(3, axis=2)
    _, frames = decode(encode(tmp_path / "a.mp4", [stored], aspect=Fraction(64, 45)))
    bright = frames[0].image[..., 1] > 128
    assert abs(int(bright.any(axis=0).sum()) - int(bright.any(axis=1).sum())) <= 2


@needs_ffmpeg
def test_square_pixels_are_those_of_ffmpeg(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", moving(3, (360, 288)), aspect=Fraction(64, 45))
    shown = rendered(clip, "scale=512:288,setsar=1", (512, 288))
    assert max(np.abs(shown[f.index].astype(int) - f.image).mean() for f in decode(clip)[1]) < 1


def test_an_aspect_that_is_rounding_or_nonsense_changes_nothing() -> None:
    for told in (None, Fraction(0), Fraction(5121, 5120), Fraction(1, 60_000), Fraction(60_000)):
        assert believed_aspect(told) == 1
    assert believed_aspect(Fraction(64, 45)) == Fraction(64, 45)
    assert square_pixels((640, 360), Fraction(1), 1) == (640, 360)


def test_pixels_made_square_pass_no_limit() -> None:
    assert square_pixels((100, 100), Fraction(2), 20_000) == (200, 100)
    assert square_pixels((100, 100), Fraction(2), 19_999) == (100, 50)
    assert square_pixels((100, 100), Fraction(1, 2), 19_999) == (50, 100)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_high_dynamic_range_comes_in_the_colours_that_were_drawn(tmp_path: Path, transfer: str) -> None:
    video, frames = decode(hdr(tmp_path / "a.mp4", transfer))
    assert len(frames) == 3
    assert video.info.hdr == transfer
    wide = frames[0].image.shape[1] / len(PATCHES)
    for index, colour in enumerate(PATCHES):
        found = frames[0].image[48, round((index + 0.5) * wide), ::-1]
        assert np.abs(found.astype(int) - colour).max() <= 10, (colour, found)


def test_light_above_white_is_white_and_black_stays_black() -> None:
    for transfer in (PQ, HLG):
        tone_map = ToneMap(transfer, 9)
        assert tone_map(np.full((3, 70, 3), 65_535, np.uint16)).tolist() == [[[255] * 3] * 70] * 3
        assert tone_map(np.zeros((130, 3, 3), np.uint16)).max() == 0
        grey = tone_map(np.arange(0, 65_536, 256, dtype=np.uint16).repeat(3).reshape(1, -1, 3))
        assert np.ptp(grey.astype(int), axis=2).max() <= 1  # grey stays grey
        assert (np.diff(grey[0, :, 0].astype(int)) >= 0).all()


@needs_ffmpeg
@pytest.mark.parametrize(("transfer", "tag"), [("pq", "smpte2084"), ("hlg", "arib-std-b67")])
def test_tones_are_those_of_zscale(tmp_path: Path, transfer: str, tag: str) -> None:
    known = subprocess.run(["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True).stdout
    if " zscale " not in known:
        pytest.skip("ffmpeg has no filter zscale")
    clip = hdr(tmp_path / "a.mp4", transfer)
    filters = (
        f"zscale=tin={tag}:pin=bt2020:min=bt2020nc:rin=tv:t=linear:npl=203,format=gbrpf32le,tonemap=clip,"
        "zscale=p=bt709:t=bt709:m=bt709:r=tv,format=yuv444p,scale=in_color_matrix=bt709"
    )
    shown = rendered(clip, filters, (448, 96))
    assert max(np.abs(shown[f.index].astype(int) - f.image).mean() for f in decode(clip)[1]) < 5


@pytest.mark.parametrize("size", [(320, 240), (1280, 718)])
def test_colours_of_an_ordinary_clip_are_as_they_were(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=4, size=size)
    with av.open(str(clip)) as container:
        plain = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    for frame in decode(clip)[1]:
        assert np.array_equal(frame.image, plain[frame.index])


@needs_ffmpeg
@pytest.mark.parametrize(("matrix", "full", "pix_fmt"), [(1, 2, "yuv420p"), (1, 1, "yuv444p"), (5, 2, "yuvj420p")])
def test_ranges_and_matrices_are_those_that_the_film_names(
    tmp_path: Path, matrix: int, full: int, pix_fmt: str
) -> None:
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.height, stream.width = patches().shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.color_range, stream.codec_context.colorspace = full, matrix
        frame = av.VideoFrame.from_ndarray(patches(), format="rgb24")
        output.mux(stream.encode(frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=full)))
        output.mux(stream.encode(None))
    (frame_,) = decode(clip)[1]
    assert np.abs(rendered(clip, "null", (448, 96))[0].astype(int) - frame_.image).mean() < 1
    for index, colour in enumerate(PATCHES):
        found = frame_.image[48, round((index + 0.5) * 64), ::-1]
        assert np.abs(found.astype(int) - colour).max() <= 6, (colour, found)


def combing(image: Image) -> float:
    """Return how much neighbouring lines differ more than lines of one field do."""
    luma = image[..., 1].astype(int)
    return float(np.abs(luma[1:] - luma[:-1]).mean() - np.abs(luma[2:] - luma[:-2]).mean() / 2)


def test_fields_are_taken_apart_and_count_and_times_stay(tmp_path: Path) -> None:
    clip = interlaced(tmp_path / "a.mp4")
    with av.open(str(clip)) as container:
        woven = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    video, frames = decode(clip)
    assert video.info.interlaced
    assert [frame.timestamp_s for frame in frames] == [round(index / 25, 6) for index in range(12)]
    assert (video.count.decoded, video.count.failed, video.count.missing) == (12, 0, 0)
    assert min(map(combing, woven)) > 3
    assert max(combing(frame.image) for frame in frames) < 1
    for frame in frames:  # the picture is of the first field's time
        edge = int(np.argmax(frame.image[95, :, 1] > 140))
        assert abs(edge - (20 + 16 * frame.index)) <= 2


@needs_ffmpeg
def test_fields_are_taken_apart_as_ffmpeg_does_it(tmp_path: Path) -> None:
    clip = interlaced(tmp_path / "a.mp4")
    shown = rendered(clip, "yadif=0", (320, 192))
    assert max(np.abs(shown[f.index].astype(int) - f.image).mean() for f in decode(clip)[1]) < 1


@pytest.mark.parametrize("count", [1, 2])
def test_interlaced_clips_of_a_frame_or_two_lose_none(tmp_path: Path, count: int) -> None:
    assert len(decode(interlaced(tmp_path / "a.mp4", count))[1]) == count


def test_skipped_frames_of_an_interlaced_clip_do_not_change_the_others(tmp_path: Path) -> None:
    clip = interlaced(tmp_path / "a.mp4")
    whole = decode(clip)[1]
    for frame, other in zip(whole[7:], Video(clip).frames(skip=7), strict=True):
        assert np.array_equal(frame.image, other.image)


def test_a_picture_that_changes_its_shape_is_fitted_in_whole_and_told(tmp_path: Path) -> None:
    clip = two_shapes(tmp_path / "a.mp4")
    video, frames = decode(clip)
    assert {frame.image.shape for frame in frames} == {(320, 240, 3)}
    assert difference(frames[3].image, draw_frame(3, (240, 320))) < 8
    late = frames[15].image
    assert difference(late[70:250], draw_frame(15, (240, 180))) < 12  # 320x240 fitted into 240 pixels of width
    assert late[:68].max() == late[-68:].max() == 0
    (warning,) = video.count.warnings()
    assert "size changes at frame 10, to 320x240" in warning


def two_shapes(path: Path) -> Path:
    """Write ten frames of 240x320 and ten of 320x240 into one track."""
    parts = []
    for number, (size, first) in enumerate((((240, 320), 0), ((320, 240), 10))):
        part = path.with_name(f"part{number}.mp4")
        pictures = [draw_frame(index, size) for index in range(first, first + 10)]
        options = {"preset": "ultrafast", "crf": "18", "bf": "0", "x264-params": "repeat-headers=1"}
        parts.append(encode(part, pictures, options=options))
    with av.open(str(parts[0])) as one, av.open(str(parts[1])) as two, av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream_from_template(one.streams.video[0])
        for number, source in enumerate((one, two)):
            for packet in source.demux(video=0):
                if packet.dts is None:
                    continue
                shift = round(number * 10 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                output.mux(packet)
    return path


def test_patches_are_what_the_tests_take_them_for() -> None:
    assert json.dumps(patches()[0, 10].tolist()) == json.dumps(list(PATCHES[0]))


# Colours of which nothing is told.


def _seen_in_709(colour: tuple[int, int, int]) -> list[float]:
    """What a colour that was coded in BT.601 looks like when it is taken for BT.709."""
    red, green, blue = (value / 255 for value in colour)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - y) / 1.772, (red - y) / 1.402
    seen = (y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb)
    return [255 * min(1.0, max(0.0, value)) for value in seen]


@pytest.mark.parametrize(
    ("size", "aspect", "is_709"),
    [
        ((1280, 720), None, True),
        ((1280, 718), None, False),
        ((576, 1024), None, True),
        ((720, 576), Fraction(64, 45), False),
        ((1280, 640), Fraction(8, 9), True),
    ],
)
def test_untold_colours_are_those_of_hd_from_720_lines_on_as_players_have_it(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction | None, is_709: bool
) -> None:
    clip = encode(tmp_path / "a.mp4", [patches(size)] * 2, aspect=aspect)
    image = next(iter(Video(clip).frames())).image
    for index, colour in enumerate(PATCHES):
        found = image[image.shape[0] // 2, int((index + 0.5) * image.shape[1] / len(PATCHES)), ::-1]
        expected = _seen_in_709(colour) if is_709 else colour
        assert np.abs(found - np.array(expected)).max() < 6, (colour, found, expected)


def drawn(level: int, matrix: int = 1) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="bgr24").reformat(format="yuv420p")
    frame.planes[0].update(bytes([level]) + bytes(frame.planes[0])[1:])
    frame.colorspace = matrix
    return frame


def test_a_frame_that_equals_the_one_before_is_not_converted_again() -> None:
    def renderer() -> Renderer:
        return Renderer((64, 48), Fraction(1), Orientation(), 1 << 20)

    frames = [drawn(level, matrix) for level, matrix in ((90, 1), (90, 1), (91, 1), (91, 5), (90, 5), (90, 5))]
    repeating, plain = RepeatingRenderer(renderer()), renderer()
    images = [repeating.render(frame) for frame in frames]
    for image, frame in zip(images, frames, strict=True):
        assert np.array_equal(image, plain.render(frame))
    same = [before is now for before, now in itertools.pairwise(images)]
    assert same == [True, False, False, False, True]
