"""COCO: instances, and results for ``loadRes`` (https://cocodataset.org/#format-data, #format-results).

Ids begin with 1, as a category 0 is the background to many programs; an image's is its frame_index and 1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

from daemon.derive.document import Box
from daemon.export.source import ClassIds, ExportSource, frame_name
from daemon.export.tables import blocks, lines_of
from daemon.export.wording import plain


def instances(source: ExportSource) -> Iterator[bytes]:
    """Yield a dataset with an image for each analysed frame."""
    ids = ClassIds(1)
    with tempfile.TemporaryFile(dir=source.scratch) as images:
        yield f'{{"info": {json.dumps({"description": plain(source.name)})}, "annotations": ['.encode()
        yield from lines_of(_annotations(source, ids, images.write))
        yield b'\n], "images": ['
        images.seek(0)
        yield from blocks(images)
    categories = [{"id": n, "name": plain(name), "supercategory": ""} for n, name in enumerate(ids.names, 1)]
    yield f'\n], "categories": {json.dumps(categories)}, "licenses": []}}\n'.encode()


def results(source: ExportSource) -> Iterator[bytes]:
    """Yield the detections as a list; the numbers are those of ``instances``."""
    ids = ClassIds(1)

    def entries() -> Iterator[str]:
        between = "\n"
        for frame in source.all_frames():
            ids.see(frame)
            if not source.in_time(frame.moment.time_s):
                continue
            for found in source.filtered(frame).objects:
                box, _ = _box(found.box)
                category, image = ids.of(found.class_name), frame.moment.frame_index + 1
                yield (
                    f'{between}{{"image_id": {image}, "category_id": {category}, '
                    f'"bbox": {box}, "score": {found.confidence}}}'
                )
                between = ",\n"

    yield b"["
    yield from lines_of(entries())
    yield b"\n]\n"


def _annotations(source: ExportSource, ids: ClassIds, write_image) -> Iterator[str]:  # type: ignore[no-untyped-def]
    width, height = source.size
    count, between = 0, "\n"
    for frame in source.all_frames():
        ids.see(frame)
        if not source.in_time(frame.moment.time_s):
            continue
        index = frame.moment.frame_index
        write_image(
            f'{between}{{"id": {index + 1}, "file_name": "{frame_name(index)}.jpg", '
            f'"width": {width}, "height": {height}}}'.encode()
        )
        between = ",\n"
        for found in source.filtered(frame).objects:
            box, area = _box(found.box)
            count += 1
            yield (
                f'{"," if count > 1 else ""}\n{{"id": {count}, "image_id": {index + 1}, '
                f'"category_id": {ids.of(found.class_name)}, "bbox": {box}, "area": {area}, '
                f'"iscrowd": 0, "segmentation": [], "score": {found.confidence}}}'
            )


def _box(box: Box) -> tuple[str, float]:
    x1, y1, x2, y2 = box
    width, height = round(x2 - x1, 3), round(y2 - y1, 3)
    return f"[{x1}, {y1}, {width}, {height}]", round(width * height, 3)
