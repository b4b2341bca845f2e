"""Archives of labels: YOLO (https://docs.ultralytics.com/datasets/detect/) and MOT Challenge (arXiv:1603.00831)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

from daemon.derive.document import Box
from daemon.export.source import ClassIds, ExportSource, frame_name, number
from daemon.export.wording import plain
from daemon.export.zip_file import ZipStream


def yolo(source: ExportSource) -> Iterator[bytes]:
    """Yield labels with a file for each analysed frame: class, middle and size as parts of the picture.

    A frame without objects has an empty file, or it would be left out of a training set.
    """
    size, ids, conf = source.size, ClassIds(0), source.request.conf
    with tempfile.TemporaryFile(dir=source.scratch) as directory:
        archive = ZipStream(directory)
        for frame in source.all_frames():
            ids.see(frame)
            if not source.in_time(frame.moment.time_s):
                continue
            lines = [
                f"{ids.of(found.class_name)} {_middle_and_size(found.box, size)}"
                + (f" {found.confidence}\n" if conf else "\n")
                for found in source.filtered(frame).objects
            ]
            yield archive.file(f"labels/train/{frame_name(frame.moment.frame_index)}.txt", "".join(lines).encode())
        yield archive.file("data.yaml", _data_yaml(ids))
        yield from archive.end()


def _middle_and_size(box: Box, size: tuple[int, int]) -> str:
    x1, y1, x2, y2 = box
    width, height = size
    x1, x2 = (min(max(edge / width, 0.0), 1.0) for edge in (x1, x2))
    y1, y2 = (min(max(edge / height, 0.0), 1.0) for edge in (y1, y2))
    return f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"


def _data_yaml(ids: ClassIds) -> bytes:
    names = "".join(f"  {n}: {json.dumps(plain(name), ensure_ascii=False)}\n" for n, name in enumerate(ids.names))
    listed = f"\n{names}" if names else " {}\n"
    return f"path: .\ntrain: images/train\nval: images/train\nnames:{listed}".encode()


def mot(source: ExportSource) -> Iterator[bytes]:
    """Yield ground truth of MOT Challenge: frame, track, box, 1, class, visibility. Frames and classes begin with 1."""
    width, height = source.size
    ids, length = ClassIds(1), 0
    with tempfile.TemporaryFile(dir=source.scratch) as directory, tempfile.TemporaryFile(dir=source.scratch) as truth:
        for frame, objects in source.tracked_frames():
            length = frame.moment.frame_index + 1
            for tracked in objects:
                x1, y1, x2, y2 = tracked.found.box
                truth.write(
                    f"{length},{tracked.track_id},{x1},{y1},{number(x2 - x1)},{number(y2 - y1)},1,"
                    f"{ids.of(tracked.class_name)},1.0\n".encode()
                )
        archive = ZipStream(directory)
        yield from archive.long_file("gt/gt.txt", truth)
        yield archive.file("gt/labels.txt", "".join(f"{plain(name)}\n" for name in ids.names).encode())
        about = {"name": plain(source.name), "imDir": "img1", "frameRate": max(1, round(source.fps))}
        about |= {"seqLength": length, "imWidth": width, "imHeight": height, "imExt": ".jpg"}
        lines = "".join(f"{name}={value}\n" for name, value in about.items())
        yield archive.file("seqinfo.ini", f"[Sequence]\n{lines}".encode())
        yield from archive.end()
