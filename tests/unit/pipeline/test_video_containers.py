"""Each container beside MP4: the same frames, times and facts, and nothing else than what it is opened for."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from daemon.containers import CONTAINERS, container_of
from daemon.errors import BadVideo, TransientError
from daemon.pipeline import video as video_module
from daemon.pipeline.records import Frame
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits, codecs_in, decoders_for
from tests.clips import draw_frame, make_clip
from tests.container_clips import KINDS, OTHERS, in_container
from tests.odd_clips import PATCHES, hdr, packets_of, patches

ANY = Limits(containers="all")
COUNTED = {"avi", "divx", "mp4"}
"""Kinds that list their frames."""


def read(path: Path, limits: Limits = ANY) -> tuple[Video, list[Frame], list[str]]:
    video = Video(path, limits)
    frames = list(video.frames())
    return video, frames, list(video.count.warnings())


def rewrapped(clip: Path, path: Path, **options: str) -> Path:
    """Write a clip's pictures as they are into another container."""
    packets, stream, source = packets_of(clip)
    with av.open(str(path), "w", options=options) as output:
        target = output.add_stream_from_template(stream)
        for packet in packets:
            packet.stream = target
            output.mux(packet)
    source.close()
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sound", [False, True])
def test_frames_and_times_are_those_that_were_put_in(tmp_path: Path, kind: str, sound: bool) -> None:
    video, frames, warnings = read(in_container(tmp_path / "a.mp4", kind, sound=sound))
    times = np.array([frame.timestamp_s for frame in frames])
    assert len(frames) == 25
    assert np.allclose(np.diff(times), 0.04, atol=0.0011)  # some count in milliseconds
    assert 0 <= times[0] < (0.1 if sound else 0.001)  # a player begins with the sound if that begins first
    assert warnings == []
    assert video.info.fps == 25
    assert video.info.frame_count == (25 if kind in COUNTED else None)
    assert video.info.duration_s is not None
    assert 0.9 < video.info.duration_s < 1.2


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_that_were_put_in(tmp_path: Path, kind: str) -> None:
    _, frames, _ = read(in_container(tmp_path / "a.mp4", kind, count=3, size=(320, 240)))
    for frame in frames:
        drawn = draw_frame(frame.index, (320, 240))[..., ::-1]
        assert np.abs(frame.image.astype(int) - drawn).mean() < 6, (kind, frame.index)


@pytest.mark.parametrize("kind", ["ts", "mkv", "flv", "mpeg2.ts", "mpg", "avi"])
def test_frames_that_are_coded_out_of_order_come_in_order(tmp_path: Path, kind: str) -> None:
    _, frames, warnings = read(in_container(tmp_path / "a.mp4", kind, b_frames=2, sound=True))
    times = [frame.timestamp_s for frame in frames]
    assert times == sorted(set(times))
    assert len(frames) == 25
    assert warnings == []


@pytest.mark.parametrize("kind", OTHERS)
def test_another_container_is_opened_only_under_the_setting_all(tmp_path: Path, kind: str) -> None:
    clip = in_container(tmp_path / "a.mp4", kind, count=3)
    with pytest.raises(BadVideo, match='the setting containers = "all"'):
        Video(clip, Limits())


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind not in ("ts", "m2ts", "mpeg2.ts", "mpg")])
def test_a_cut_clip_gives_what_is_there_and_says_so(tmp_path: Path, kind: str) -> None:
    clip = in_container(tmp_path / "a.mp4", kind, count=50, sound=True)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    video, frames, warnings = read(clip)
    assert 10 < len(frames) < 40
    assert warnings[0].startswith("The video is cut short: ")
    assert video.count.missing > 10 or kind not in COUNTED


@pytest.mark.parametrize("kind", ["ts", "m2ts", "mpeg2.ts", "mpg"])
def test_a_stream_without_an_end_is_never_said_to_be_cut(tmp_path: Path, kind: str) -> None:
    clip = in_container(tmp_path / "a.mp4", kind, count=50, sound=True)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    _, frames, warnings = read(clip)
    assert 10 < len(frames) < 50
    assert not any("cut short" in sentence for sentence in warnings)


@pytest.mark.parametrize("kind", ["mkv", "avi", "mpg", "ts", "flv", "wmv"])
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, kind: str) -> None:
    clip = in_container(tmp_path / "a.mp4", kind, count=3, size=(720, 576), aspect=Fraction(64, 45))
    video, frames, _ = read(clip)
    assert (video.info.width, video.info.height) == (1024, 576)
    assert video.info.sample_aspect_ratio == "64:45"
    assert frames[0].image.shape == (576, 1024, 3)


def test_a_matroska_that_says_it_is_turned_is_turned(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=3, size=(160, 96), rotation=90)
    upright = read(clip)[1]
    video, frames, _ = read(rewrapped(clip, tmp_path / "a.mkv"))
    assert (video.info.width, video.info.height, video.info.rotation) == (96, 160, 270)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, upright, strict=True))


@pytest.mark.parametrize("kind", ["m2ts", "mpeg2.ts", "mpg", "mkv"])
def test_the_fields_of_an_interlaced_recording_are_taken_apart(tmp_path: Path, kind: str) -> None:
    def bar(number: int) -> Any:
        picture = np.full((192, 320, 3), 60, np.uint8)
        picture[40:150, 20 + 8 * number : 60 + 8 * number] = 220
        return picture

    pictures = []
    for number in range(10):
        woven = bar(2 * number)
        woven[1::2] = bar(2 * number + 1)[1::2]
        pictures.append(woven)
    clip = in_container(tmp_path / "a.mp4", kind, pictures=pictures, options={"flags": "+ilme+ildct", "b": "4M"})
    video, frames, warnings = read(clip)
    assert video.info.interlaced
    assert len(frames) == 10
    assert warnings == []
    for frame in frames[1:-1]:
        comb = np.abs(np.diff(frame.image[60:130, :, 1].astype(int), axis=0)).mean()
        assert comb < 3, frame.index  # woven fields differ from line to line, by 20 on average


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_hdr_in_matroska_is_brought_to_common_colours(tmp_path: Path, transfer: str) -> None:
    clip = rewrapped(hdr(tmp_path / "a.mp4", transfer), tmp_path / "a.mkv")
    video, frames, _ = read(clip)
    assert video.info.hdr == transfer
    for index, colour in enumerate(PATCHES):
        found = frames[0].image[48, 32 + 64 * index, ::-1].astype(int)
        assert np.abs(found - colour).max() <= 14, (colour, found)


def test_a_matroska_whose_rate_is_a_tick_of_its_clock_gets_the_measured_one(tmp_path: Path) -> None:
    clip = rewrapped(make_clip(tmp_path / "a.mp4"), tmp_path / "a.mkv")
    with av.open(str(clip)) as opened:
        assert opened.streams.video[0].average_rate == 12_800
    video, frames, _ = read(clip)
    assert video.info.fps == 25
    assert len(frames) == 10


def with_dropped_frame(clip: Path, after: int) -> Path:
    """Put a chunk without bytes into an AVI, as recorders do for a picture that is the same as before."""
    data = clip.read_bytes()
    movie, index = data.index(b"movi"), data.index(b"idx1")
    entries = [data[at : at + 16] for at in range(index + 8, index + 8 + len(data[index + 8 :]) // 16 * 16, 16)]
    place = movie + int.from_bytes(entries[after][8:12], "little")
    empty = struct.pack("<4sIII", b"00dc", 0, place - movie, 0)
    moved = [entry[:8] + struct.pack("<I", int.from_bytes(entry[8:12], "little") + 8) + entry[12:] for entry in entries]
    table = b"".join([*entries[:after], empty, *moved[after:]])
    grown = bytearray(
        data[:place] + b"00dc" + bytes(4) + data[place:index] + b"idx1" + len(table).to_bytes(4, "little")
    )
    grown += table
    for at, more in ((4, 24), (movie - 4, 8), (grown.index(b"avih") + 24, 1), (grown.index(b"strh") + 40, 1)):
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "little") + more).to_bytes(4, "little")
    clip.write_bytes(grown)
    return clip


def test_a_dropped_frame_of_an_avi_is_a_pause_and_no_damage(tmp_path: Path) -> None:
    video, frames, warnings = read(with_dropped_frame(in_container(tmp_path / "a.avi", "avi"), after=10))
    assert len(frames) == video.info.frame_count == 25
    assert warnings == []
    assert [round(frame.timestamp_s * 25) for frame in frames] == [*range(10), *range(11, 26)]


# What is opened.


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.demuxer)
def test_ffmpeg_knows_the_demuxer_and_every_decoder_by_the_names_that_we_use(container: Any) -> None:
    assert container.whitelist in av.formats_available
    assert container.demuxer in container.whitelist.split(",")
    names = decoders_for(container).split(",")
    assert {av.Codec(name, "r").name for name in names} == set(names)
    assert {av.Codec(name, "r").canonical_name for name in names} == set(codecs_in(container))


def test_an_older_codec_is_decoded_only_in_the_containers_that_hold_it(tmp_path: Path) -> None:
    flash = in_container(tmp_path / "a.flv", "spark.flv", count=3)
    with pytest.raises(BadVideo, match="is flv1, which Dropframe does not decode in an AVI file, only in a Flash"):
        Video(rewrapped(flash, tmp_path / "a.avi"), ANY)
    windows = in_container(tmp_path / "a.wmv", "wmv", count=3)
    said = "The video's codec is wmv2, which Dropframe does not decode in an AVI file, only in a Windows Media file; it"
    with pytest.raises(BadVideo, match=said):
        Video(rewrapped(windows, tmp_path / "b.avi"), ANY)


def test_dv_of_a_camera_is_read_in_quicktime_too(tmp_path: Path) -> None:
    clip = tmp_path / "a.mov"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for value in (60, 120, 180):
            image = np.full((576, 720, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")))
        container.mux(stream.encode())
    video = Video(clip, Limits())
    frames = list(video.frames())
    assert [round(float(frame.image.mean()) / 60) for frame in frames] == [1, 2, 3]
    clip.write_bytes(clip.read_bytes()[:300_000])
    with pytest.raises(BadVideo):
        list(Video(clip, Limits()).frames())


@pytest.mark.parametrize("codec", ["rawvideo", "cinepak", "huffyuv", "svq1"])
def test_a_codec_that_is_on_no_list_is_refused_before_it_is_decoded(tmp_path: Path, codec: str) -> None:
    clip = in_container(tmp_path / "a.avi", "avi", count=3)
    data = clip.read_bytes()
    tags = {"rawvideo": bytes(4), "cinepak": b"cvid", "huffyuv": b"HFYU", "svq1": b"SVQ1"}
    clip.write_bytes(data.replace(b"FMP4", tags[codec]))
    with pytest.raises(BadVideo, match=f"The video's codec is {codec}"):
        Video(clip, ANY)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_only_begins_like_a_container_is_refused_with_a_sentence(tmp_path: Path, kind: str) -> None:
    path = in_container(tmp_path / "a.mp4", kind, count=3)
    head = path.read_bytes()[:600]
    for rest in (b"", bytes(5000), np.random.default_rng(3).bytes(5000), b"#EXTM3U\nfile:///etc/passwd\n" * 100):
        path.write_bytes(head[:12] + rest if kind not in ("ts", "m2ts", "mpeg2.ts") else head + rest)
        with pytest.raises(BadVideo) as refused:
            list(Video(path, ANY).frames())
        assert str(refused.value).endswith(".")


def test_no_container_is_opened_as_another_than_its_first_bytes_tell(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"ffconcat version 1.0\nfile 'b.mp4'\n")
    assert container_of(path.read_bytes()) is None
    make_clip(tmp_path / "b.mp4")
    with pytest.raises(BadVideo, match="a playlist"):
        Video(path, ANY)


def test_patches_keep_their_colours_in_every_container(tmp_path: Path) -> None:
    for kind in ("mkv", "webm", "avi", "ts", "mpg", "flv", "wmv"):
        clip = in_container(tmp_path / f"a.{kind}", kind, pictures=[patches()] * 3, options={"b": "4M"})
        image = read(clip)[1][-1].image
        for index, colour in enumerate(PATCHES):
            found = image[48, 32 + 64 * index, ::-1].astype(int)
            assert np.abs(found - colour).max() <= 12, (kind, colour, found)


# What is not whole, and what is.


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("trailer", [b"\1\2\3", b"camera trailer " * 20, bytes(5000), b"\x9f\x01\xfe\x42" * 250])
def test_what_follows_a_whole_clip_is_not_told_as_damage(tmp_path: Path, kind: str, trailer: bytes) -> None:
    clip = in_container(tmp_path / "a.mp4", kind, sound=True)
    clip.write_bytes(clip.read_bytes() + trailer)
    _, frames, warnings = read(clip)
    assert (len(frames), warnings) == (25, [])


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "flv", "wmv", "ts"])
def test_a_cut_is_the_fault_of_the_video_wherever_it_is(tmp_path: Path, kind: str) -> None:
    """FFmpeg says "input/output error" where some kinds of video break off; the disk is not to blame, and no retry
    helps."""
    whole = in_container(tmp_path / "whole", kind, sound=True).read_bytes()
    clip = tmp_path / "a.mp4"
    for length in range(600, len(whole), 331):
        clip.write_bytes(whole[:length])
        try:
            frames = read(clip)[1]
        except BadVideo:
            continue
        assert len(frames) <= 25


def test_a_failure_that_does_not_happen_again_is_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = Video(in_container(tmp_path / "a.mp4", "mkv"), ANY)
    real, calls = next, iter(range(1000))

    def fails_once(packets: Any, default: Any = None) -> Any:
        if not isinstance(packets, chain) and real(calls) == 5:
            raise av.FFmpegError(errno.EIO, "input/output error")
        return real(packets, default)

    monkeypatch.setattr(video_module, "next", fails_once, raising=False)
    with pytest.raises(TransientError, match="could not be read"):
        list(video.frames())


def test_a_track_that_begins_late_ends_nothing(tmp_path: Path) -> None:
    """A transport stream may announce a track in the middle; the film goes on to its end."""
    silent = in_container(tmp_path / "a.ts", "ts", count=25).read_bytes()
    loud = in_container(tmp_path / "b.ts", "ts", count=25, sound=True).read_bytes()
    clip = tmp_path / "c.mp4"
    clip.write_bytes(silent + loud)
    _, frames, _ = read(clip)
    assert len(frames) == 50


def scrambled_ts(clip: bytearray) -> None:
    for at in range(0, len(clip), 188):
        if (clip[at + 1] & 0x1F) << 8 | clip[at + 2] == 0x100:  # the pictures
            clip[at + 3] |= 0x80
            clip[at + 20 : at + 188] = bytes(byte ^ 0x5A for byte in clip[at + 20 : at + 188])


def scrambled_ps(clip: bytearray) -> None:
    at = -1
    while (at := clip.find(b"\0\0\1\xe0", at + 1)) >= 0:
        clip[at + 6] |= 0x10
        clip[at + 40 : at + 400] = bytes(byte ^ 0x5A for byte in clip[at + 40 : at + 400])


def encrypted_matroska(clip: bytearray) -> None:
    at = clip.index(bytes.fromhex("73c588"))  # the UID makes room for the encodings
    clip[at : at + 11] = bytes.fromhex("6d804007 624084 50338101")


def protected_asf(clip: bytearray) -> None:
    codecs, protection = "4052d1861d31d011a3a400a0c90348f6", "fbb3112223bdd211b4b700a0c955fc6e"
    at = clip.index(bytes.fromhex(codecs))
    end = at + int.from_bytes(clip[at + 16 : at + 24], "little")
    clip[at:end] = bytes.fromhex(protection) + clip[at + 16 : at + 24] + bytes(end - at - 24)


@pytest.mark.parametrize(
    ("kind", "encrypt"),
    [("ts", scrambled_ts), ("mpg", scrambled_ps), ("mkv", encrypted_matroska), ("wmv", protected_asf)],
)
def test_an_encrypted_recording_says_so(tmp_path: Path, kind: str, encrypt: Callable[[bytearray], None]) -> None:
    clip = in_container(tmp_path / f"a.{kind}", kind, sound=True)
    if kind == "mpg":  # MPEG-1, in which nothing can be scrambled
        clip = rewrapped(clip, tmp_path / "a.vob")
    assert len(read(clip)[1]) == 25
    data = bytearray(clip.read_bytes())
    encrypt(data)
    clip.write_bytes(data)
    with pytest.raises(BadVideo, match="The video is encrypted"):
        Video(clip, ANY)
