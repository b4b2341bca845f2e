"""Label Studio: a task with the tracks as predictions (https://labelstud.io/tags/videorectangle, /guide/predictions).

The labelling interface it is for is in docs/use-the-results.md. Frames begin with 1, boxes are percentages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from daemon import __version__
from daemon.export.source import ExportSource, number
from daemon.export.tables import lines_of
from daemon.export.track_boxes import TrackBox, TrackBoxes, boxes_by_track
from daemon.export.wording import plain


def tasks(source: ExportSource) -> Iterator[bytes]:
    """Yield a list with one task."""
    with boxes_by_track(source) as boxes:
        yield from lines_of(_task(source, boxes))


def _task(source: ExportSource, boxes: TrackBoxes) -> Iterator[str]:
    model = json.dumps(f"Dropframe {__version__}")
    data = json.dumps({"video": plain(source.name)})
    yield f'[{{"data": {data}, "predictions": [{{"model_version": {model}, "result": ['
    between = "\n"
    for track in source.tracks():
        opened = False
        for box in boxes.of(track["track_id"]):
            if not opened:
                opened = True
                yield (
                    f'{between}{{"id": "track_{track["track_id"]}", "type": "videorectangle", "from_name": "box", '
                    f'"to_name": "video", "score": {track["confidence"]}, "value": {{"labels": '
                    f"{json.dumps([plain(track['class'])])}, "
                    f'"framesCount": {boxes.frames}, "duration": {number(boxes.frames / source.fps)}, "sequence": [\n'
                )
                between = ",\n"
                yield _entry(box, source.size)
            else:
                yield ",\n" + _entry(box, source.size)
        if opened:
            yield "]}}"
    yield "\n]}]}]\n"


def _entry(box: TrackBox, size: tuple[int, int]) -> str:
    x1, y1, x2, y2 = box.box
    across, down = 100 / size[0], 100 / size[1]
    return (
        f'{{"frame": {box.frame_index + 1}, "time": {box.time_s}, "enabled": {"false" if box.last else "true"}, '
        f'"rotation": 0, "x": {number(x1 * across)}, "y": {number(y1 * down)}, "width": {number((x2 - x1) * across)}, '
        f'"height": {number((y2 - y1) * down)}}}'
    )
