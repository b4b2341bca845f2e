"""Which track is analysed, which codecs are decoded, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from daemon.errors import BadVideo
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import CODECS, Limits
from tests.clips import draw_frame, make_clip
from tests.odd_clips import enable, encode, moving

FILM, SMALL = (320, 240), (160, 96)


def film_and(path: Path, *others: int, enabled: tuple[bool, ...]) -> Path:
    """Write tracks of so many small pictures each, and the film last."""
    tracks = [*(moving(count, SMALL) for count in others), moving(20, FILM)]
    return enable(encode(path, *tracks, codecs=["mjpeg"] * len(others) + ["libx264"]), *enabled)


@pytest.mark.parametrize(
    ("others", "enabled"),
    [((1,), (False, True)), ((1,), (True, True)), ((5,), (False, True)), ((5,), (True, True)), ((1, 4), (True,) * 3)],
)
def test_the_film_is_analysed_and_no_preview_before_it(
    tmp_path: Path, others: tuple[int, ...], enabled: tuple[bool, ...]
) -> None:
    video = Video(film_and(tmp_path / "a.mp4", *others, enabled=enabled))
    assert (video.info.width, video.info.height, video.info.codec) == (*FILM, "h264")
    assert len(list(video.frames())) == 20
    (warning,) = video.count.warnings()
    assert warning.startswith("The file has other picture tracks, which were left out (160x96")


def test_a_track_that_is_switched_off_is_not_shown_though_it_is_larger(tmp_path: Path) -> None:
    clip = enable(encode(tmp_path / "a.mp4", moving(9, FILM), moving(20, SMALL)), False, True)
    video = Video(clip)
    assert (video.info.width, video.info.height) == SMALL
    assert len(list(video.frames())) == 20


@pytest.mark.parametrize("ending", ["mov", "fragments.mp4", "mkv", "avi"])
@pytest.mark.parametrize("still_first", [True, False])
def test_a_still_is_not_taken_for_the_film_however_large(tmp_path: Path, ending: str, still_first: bool) -> None:
    clip, order = tmp_path / f"a.{ending}", (0, 1) if still_first else (1, 0)
    tracks = [(moving(1, (640, 480)), "mjpeg"), (moving(20, FILM), "mpeg4")]
    how = {"movflags": "frag_keyframe+empty_moov"} if "fragments" in ending else {}
    encode(clip, *(tracks[at][0] for at in order), codecs=[tracks[at][1] for at in order], container=how)
    video = Video(clip, Limits(containers="all"))
    assert (video.info.width, video.info.height, video.info.codec) == (*FILM, "mpeg4")
    assert len(list(video.frames())) == 20
    assert list(video.count.warnings()) == ["The file has other picture tracks, which were left out (640x480)."]


def test_limits_hold_for_the_film_and_not_for_a_preview(tmp_path: Path) -> None:
    clip = film_and(tmp_path / "a.mp4", 1, enabled=(False, True))
    data = bytearray(clip.read_bytes())
    at = data.index(b"stts") + 16
    data[at : at + 4] = (1).to_bytes(4, "big")  # the preview lasts a tick
    clip.write_bytes(data)
    assert Video(clip).info.fps == 25


def test_a_cover_is_not_a_track_and_not_worth_a_word(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    with av.open(str(clip), "w", format="mp4") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        film = output.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = *FILM, "yuv420p"
        output.mux(cover.encode(av.VideoFrame(640, 480, "yuvj420p")))
        output.mux(cover.encode(None))
        for index in range(5):
            output.mux(film.encode(av.VideoFrame.from_ndarray(draw_frame(index, FILM), format="rgb24")))
        output.mux(film.encode(None))
    video = Video(clip)
    assert (video.info.width, video.info.height) == FILM
    assert len(list(video.frames())) == 5
    assert list(video.count.warnings()) == []


@pytest.mark.parametrize("movflags", ["", "+frag_keyframe+empty_moov"])
def test_an_encrypted_film_says_so(tmp_path: Path, movflags: str) -> None:
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    scheme |= {"movflags": movflags} if movflags else {}
    with pytest.raises(BadVideo, match=r"^The video is encrypted \(DRM\); "):
        Video(encode(tmp_path / "a.mp4", moving(10), container=scheme))
    shop = make_clip(tmp_path / "b.m4v")
    shop.write_bytes(shop.read_bytes().replace(b"avc1", b"drmi").replace(b"isomdrmi", b"isomavc1"))
    with pytest.raises(BadVideo, match=r"^The video is encrypted \(DRM\); "):
        Video(shop)


DECODED = [
    ("qtrle", "rgb24", "qtrle"),
    ("png", "rgb24", "png"),
    ("prores_ks", "yuv422p10le", "prores"),
    ("prores_ks", "yuva444p10le", "prores"),
    ("dnxhd", "yuv422p", "dnxhd"),
    ("cfhd", "yuv422p10le", "cfhd"),
    ("mjpeg", "yuvj420p", "mjpeg"),
    ("mpeg2video", "yuv420p", "mpeg2video"),
    ("h263", "yuv420p", "h263"),
    ("libsvtav1", "yuv420p", "av1"),
    ("libvpx-vp9", "yuv420p", "vp9"),
]


@pytest.mark.parametrize(("encoder", "pix_fmt", "name"), DECODED)
def test_each_codec_of_the_list_is_decoded_under_its_common_name(
    tmp_path: Path, encoder: str, pix_fmt: str, name: str
) -> None:
    size = (352, 288)
    options = {"profile": "dnxhr_hq"} if encoder == "dnxhd" else {}
    suffix = "mp4" if encoder.startswith("lib") else "mov"
    clip = encode(tmp_path / f"a.{suffix}", moving(4, size), codecs=[encoder], pix_fmt=pix_fmt, options=options)
    video = Video(clip)
    assert (video.info.codec, video.info.height) == (name, 288)  # the encoder of H.263 makes pixels wide
    assert len(list(video.frames())) == 4
    assert name in CODECS


@pytest.mark.parametrize(("encoder", "pix_fmt", "name"), [("svq1", "yuv410p", "svq1"), ("cinepak", "rgb24", "cinepak")])
def test_a_codec_that_is_not_of_the_list_is_refused_before_a_frame_is_decoded(
    tmp_path: Path, encoder: str, pix_fmt: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = encode(tmp_path / "a.mov", moving(2, SMALL), codecs=[encoder], pix_fmt=pix_fmt)
    with av.open(str(clip)) as container:
        assert next(container.decode(video=0)).width == SMALL[0]  # FFmpeg could
    monkeypatch.setattr(Video, "_first_frame", lambda self: pytest.fail("a frame was asked for"))
    with pytest.raises(BadVideo, match=f"codec is {name}, which Dropframe does not decode; it decodes H.264, HEVC"):
        Video(clip)


def test_a_codec_that_nobody_knows_is_named_as_the_container_does(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mov")
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz").replace(b"isomzzzz", b"isomavc1"))
    with pytest.raises(BadVideo, match="codec is zzzz"):
        Video(clip)


def test_decoding_has_one_thread(tmp_path: Path) -> None:
    video = Video(make_clip(tmp_path / "a.mp4"))
    assert video._stream.codec_context.thread_count == 1
