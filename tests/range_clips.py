"""Clips of every structure in which a frame is hard to find, each with its name, for ranges of frames."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import av

from tests.clips import make_clip
from tests.container_clips import KINDS, in_container
from tests.odd_clips import boxes, encode, interlaced, moving, not_coded, packets_of, remuxed, set_edits

LONG = 110
SIZE = (96, 64)
Maker = Callable[[Path], Path]


def coded(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, **more: Any) -> Path:
    """Write a clip in a codec; see ``encode``."""
    return encode(path, moving(more.pop("count", LONG), SIZE), codecs=[codec], options=options, **more)


def x264(parameters: str, **more: str) -> dict[str, str]:
    return {"preset": "ultrafast", "crf": "20", "x264-params": f"threads=1:{parameters}", **more}


def table(path: Path, name: bytes) -> tuple[bytearray, int]:
    """Return the bytes of a clip and where the content of a box begins."""
    data = bytearray(path.read_bytes())
    return data, data.index(name) + 4


def without_sync_table(path: Path) -> Path:
    """Take the list of key frames away, which says that all are."""
    data, at = table(path, b"stss")
    data[at - 4 : at] = b"free"
    path.write_bytes(data)
    return path


def with_sync_table(path: Path, wrong: Sequence[int]) -> Path:
    """Say of other frames that they are key frames; as many as there were."""
    data, at = table(path, b"stss")
    count = int.from_bytes(data[at + 4 : at + 8], "big")
    for number in range(count):
        value = wrong[min(number, len(wrong) - 1)]
        data[at + 8 + 4 * number : at + 12 + 4 * number] = value.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def with_times(path: Path, change: Callable[[int], int], name: bytes = b"ctts") -> Path:
    """Change what the table of composition times says, entry by entry."""
    data, at = table(path, name)
    for number in range(int.from_bytes(data[at + 4 : at + 8], "big")):
        place = at + 12 + 8 * number
        data[place : place + 4] = change(int.from_bytes(data[place : place + 4], "big")).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def damaged(path: Path, places: Iterable[float], length: int = 60) -> Path:
    """Overwrite some bytes at some places of the coded frames, each a share of them."""
    data, start = table(path, b"mdat")
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    noise = random.Random(3)
    for place in places:
        at = start + int(size * place)
        data[at : at + length] = noise.randbytes(min(length, len(data) - at))
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first part of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def chained(path: Path, *clips: Path, movflags: str = "") -> Path:
    """Write the coded frames of clips one behind the other, as the first clip's header has it."""
    parts = [packets_of(clip) for clip in clips]
    packets, shift = [], 0
    for found, _, _ in parts:
        end = shift
        for packet in found:
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            end = max(end, packet.pts + packet.duration)
            packets.append(packet)
        shift = end
    remuxed(path, packets, parts[0][1], movflags)
    for _, _, container in parts:
        container.close()
    return path


def resized(path: Path) -> Path:
    """Write a clip whose pictures change their size in the middle; the headers are in the coded frames."""
    options = {"preset": "ultrafast", "crf": "20", "x264-params": "repeat-headers=1:keyint=12"}
    parts = [path.with_name(f"{path.stem}.{width}.mp4") for width in (96, 128)]
    for part, width in zip(parts, (96, 128), strict=True):
        encode(part, moving(LONG // 2, (width, 64)), options=options)
    return chained(path, *parts)


def without_first(path: Path, source: Path, count: int) -> Path:
    """Write a clip as it is when a recording is begun in the middle of a group of pictures."""
    packets, stream, container = packets_of(source)
    remuxed(path, packets[count:], stream)
    container.close()
    return path


def with_doubled_time(path: Path, source: Path, at: int) -> Path:
    """Write a clip in which two frames are shown at one time."""
    packets, stream, container = packets_of(source)
    packets[at].pts = packets[at + 1].pts
    remuxed(path, packets, stream)
    container.close()
    return path


def empty_edit(path: Path) -> Path:
    """Write a clip that begins with a second of nothing."""
    return set_edits(make_clip(path, frames=LONG, size=SIZE, b_frames=2), (1000, -1), (4400, 1024))


def big_boxes(path: Path) -> Path:
    """Write a clip with a large free box behind its file type."""
    clip = make_clip(path, frames=LONG, size=SIZE, fragmented=True)
    data = clip.read_bytes()
    first = int.from_bytes(data[:4], "big")
    clip.write_bytes(data[:first] + boxes((b"free", bytes(100_000))) + data[first:])
    return clip


def mp4(**how: Any) -> Maker:
    return lambda path: make_clip(path, **{"frames": LONG, "size": SIZE, **how})


def contained(kind: str, **how: Any) -> Maker:
    return lambda path: in_container(path, kind, **{"count": LONG, "size": SIZE, **how})


STRUCTURES: dict[str, Maker] = {
    "usual": mp4(),
    "b-frames": mp4(b_frames=3, gop=30),
    "key frames alone": mp4(gop=1),
    "one key frame": mp4(gop=1000, b_frames=2),
    "index first": mp4(faststart=True, audio=True),
    "fragments": mp4(fragmented=True, b_frames=2),
    "fragments behind a gap": big_boxes,
    "variable rate": mp4(pts_seconds=tuple(n / 60 if n < 60 else 1 + (n - 60) / 9 for n in range(LONG))),
    "turned": mp4(rotation=90),
    "edited at both ends": lambda path: set_edits(mp4(b_frames=2)(path), (3000, 9216)),
    "empty edit": empty_edit,
    "two edits": lambda path: set_edits(mp4()(path), (1500, 25_600), (1500, 5120)),
    "open groups": lambda path: coded(path, options=x264("open-gop=1:keyint=25:bframes=3:b-adapt=0", bf="3")),
    "intra refresh": lambda path: coded(path, options=x264("intra-refresh=1:keyint=25")),
    "many slices": lambda path: coded(path, options=x264("slices=3:keyint=20")),
    "no sync table": lambda path: without_sync_table(mp4(b_frames=2)(path)),
    "wrong sync table": lambda path: with_sync_table(mp4(b_frames=2)(path), (1, 8, 19, 31, 44, 58, 66, 77, 90)),
    "sync table of one": lambda path: with_sync_table(mp4()(path), (1,)),
    "broken composition times": lambda path: with_times(mp4(b_frames=3)(path), lambda ticks: ticks % 1000),
    "no reordering said": lambda path: with_times(mp4(b_frames=3)(path), lambda ticks: 0),
    "two frames at one time": lambda path: with_doubled_time(path, mp4()(path.with_suffix(".source.mp4")), 60),
    "begun in a group": lambda path: without_first(path, mp4(b_frames=2)(path.with_suffix(".source.mp4")), 5),
    "damaged": lambda path: damaged(mp4(b_frames=2)(path), (0.3, 0.62)),
    "damaged all over": lambda path: damaged(mp4()(path), [n / 20 for n in range(1, 20)], 20),
    "cut short": lambda path: cut(mp4(faststart=True)(path), 0.7),
    "cut fragments": lambda path: cut(mp4(fragmented=True)(path), 0.6),
    "another size": resized,
    "fields": lambda path: interlaced(path, LONG, gop=12),
    "hevc": lambda path: coded(
        path, "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=2:open-gop=0"}
    ),
    "hevc of open groups": lambda path: coded(
        path, "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=3:open-gop=1"}
    ),
    "vp9": lambda path: coded(path, "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "20"}),
    "vp9 with hidden frames": lambda path: coded(
        path.with_suffix(".mp4"),
        "libvpx-vp9",
        {"cpu-used": "5", "g": "30", "auto-alt-ref": "1", "lag-in-frames": "12", "b": "200k"},
    ),
    "av1": lambda path: coded(path, "libsvtav1", {"preset": "12", "g": "24", "svtav1-params": "lp=1"}),
    "mpeg-4": lambda path: coded(path, "mpeg4", {"g": "12"}),
    "mpeg-4 with b-frames": lambda path: coded(path, "mpeg4", {"g": "12", "bf": "2"}),
    "mpeg-4 not coded": lambda path: not_coded(path, (30, 31, 70), LONG),
    "motion jpeg": lambda path: coded(path, "mjpeg"),
    "prores": lambda path: coded(path.with_suffix(".mov"), "prores_ks", count=60, pix_fmt="yuv422p10le"),
    **{kind: contained(kind, sound=True) for kind in KINDS if kind != "mp4"},
    **{f"{kind} with b-frames": contained(kind, b_frames=2) for kind in ("mkv", "ts", "flv", "mpeg2.ts", "mpg", "avi")},
}
"""What makes each clip, by its name."""


def times_of(path: Path) -> list[int | None]:
    """Return the times of the coded frames of a clip, in ticks."""
    with av.open(str(path)) as container:
        return [packet.pts for packet in container.demux(container.streams.video[0]) if packet.size]
