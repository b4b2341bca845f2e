"""What writes each format: generators of bytes, in memory that does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from daemon.export import annotated, archives, coco, cvat, label_studio, parquet, subtitles, tables
from daemon.export.source import ExportSource

Writer = Callable[[ExportSource], Iterator[bytes]]

WRITERS: Mapping[str, Writer] = {
    "jsonl": tables.jsonl,
    "csv": tables.csv_detections,
    "csv-texts": tables.csv_texts,
    "csv-tracks": tables.csv_tracks,
    "parquet": parquet.detections,
    "coco": coco.instances,
    "coco-results": coco.results,
    "cvat": cvat.video,
    "cvat-images": cvat.images,
    "yolo": archives.yolo,
    "mot": archives.mot,
    "labelstudio": label_studio.tasks,
    "srt": subtitles.srt,
    "vtt": subtitles.vtt,
    "ass": subtitles.ass,
    "annotated": annotated.annotated,
}
"""By the names of ``export_formats.FORMATS``."""
