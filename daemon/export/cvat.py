"""CVAT XML 1.1, for video and for images (https://docs.cvat.ai/docs/manual/advanced/xml_format/).

Frames are those of the video, also where only every n-th was analysed.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from daemon.derive.document import Box
from daemon.export.source import ClassIds, ExportSource, frame_name
from daemon.export.tables import lines_of
from daemon.export.track_boxes import NEVER, boxes_by_track
from daemon.export.wording import plain

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'


def video(source: ExportSource) -> Iterator[bytes]:
    """Yield tracks. Every box is a keyframe; where an object goes, the next analysed frame has a box outside."""
    with boxes_by_track(source) as boxes:
        yield from lines_of(_video(source, boxes.frames, boxes.of))


def _video(source: ExportSource, frames: int, boxes_of) -> Iterator[str]:  # type: ignore[no-untyped-def]
    labels = {track["class"]: None for track in source.tracks()}
    yield _HEAD + _meta(source, frames, list(labels))
    for track in source.tracks():
        opened = False
        for box in boxes_of(track["track_id"]):
            if not opened:
                opened = True
                yield f'<track id="{track["track_id"] - 1}" label={quoteattr(plain(track["class"]))} source="auto">\n'
            yield _track_box(box.frame_index, box.box, 0)
            if box.last and box.next_frame != NEVER:
                yield _track_box(box.next_frame, box.box, 1)
        if opened:
            yield "</track>\n"
    yield "</annotations>\n"


def _track_box(frame: int, box: Box, outside: int) -> str:
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {_edges(box)}></box>\n'


def images(source: ExportSource) -> Iterator[bytes]:
    """Yield an image for each analysed frame."""
    ids, frames = ClassIds(0), 0
    for frame in source.all_frames():  # the labels come first in the file
        ids.see(frame)
        frames = frame.moment.frame_index + 1
    yield (_HEAD + _meta(source, frames, ids.names)).encode()
    yield from lines_of(_images(source))
    yield b"</annotations>\n"


def _images(source: ExportSource) -> Iterator[str]:
    width, height = source.size
    for frame in source.frames():
        index = frame.moment.frame_index
        boxes = "".join(
            f'<box label={quoteattr(plain(found.class_name))} source="auto" occluded="0" {_edges(found.box)} '
            'z_order="0"></box>\n'
            for found in frame.objects
        )
        yield (
            f'<image id="{index}" name="{frame_name(index)}.jpg" width="{width}" height="{height}">\n{boxes}</image>\n'
        )


def _edges(box: Box) -> str:
    return f'xtl="{box[0]}" ytl="{box[1]}" xbr="{box[2]}" ybr="{box[3]}"'


def _meta(source: ExportSource, frames: int, labels: list[str]) -> str:
    width, height = source.size
    step = (
        f"<frame_filter>step={source.stride}</frame_filter>" if source.stride > 1 else "<frame_filter></frame_filter>"
    )
    names = "".join(
        f"<label><name>{_escaped(name)}</name><color></color><type>rectangle</type><attributes></attributes></label>\n"
        for name in labels
    )
    name = _escaped(source.name)
    return (
        f"<meta>\n<task>\n<name>{name}</name>\n<size>{frames}</size>\n<mode>interpolation</mode>\n<overlap>0</overlap>\n"
        f"<start_frame>0</start_frame>\n<stop_frame>{max(0, frames - 1)}</stop_frame>\n{step}\n"
        f"<labels>\n{names}</labels>\n<segments></segments>\n"
        f"<original_size><width>{width}</width><height>{height}</height></original_size>\n"
        f"<source>{name}</source>\n</task>\n</meta>\n"
    )


def _escaped(text: str) -> str:
    return quoteattr(plain(text))[1:-1]
