from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import StorageError
from sidecar.document import ResultDocument


def frame(index: int, size: int = 1) -> dict[str, Any]:
    return {
        "frame_index": index,
        "result": {"detections": [], "text": 'a "quoted"\n' * size},
        "timestamp_s": index / 25,
    }


def write_document(path: Path, frames: list[dict[str, Any]], texts: Sequence[str] = ("],", "\n")) -> dict[str, Any]:
    """Write as the pipeline does: sorted keys, one frame a line. The texts could be taken for the frames' end."""
    lines = ",\n".join(json.dumps(f, sort_keys=True) for f in frames)
    head = '{\n"models": [],\n"options": {"max_frames": null},\n"pipeline_id": "yolo_ocr",\n"results": ['
    tail = f'\n],\n"schema": "dropframe.results/1",\n"summary": {json.dumps({"texts": texts})}\n}}\n'
    path.write_text(head + ("\n" + lines if frames else "") + tail)
    whole: dict[str, Any] = json.loads(path.read_text())
    assert whole["results"] == frames
    return whole


def read_part(path: Path, from_frame: int, limit: int | None) -> tuple[dict[str, Any], int | None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        excerpt = ResultDocument(descriptor).excerpt(from_frame, limit)
        texts = [os.pread(descriptor, s.end - s.start, s.start) for s in (excerpt.head, excerpt.frames, excerpt.tail)]
    finally:
        os.close(descriptor)
    return json.loads(b"{" + b"\n".join(texts)), excerpt.next_frame


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 400])
@pytest.mark.parametrize("stride", [1, 7])
def test_every_part_of_a_document_is_what_slicing_the_whole_gives(tmp_path: Path, count: int, stride: int) -> None:
    path = tmp_path / "r.json"
    chance = random.Random(count)
    frames = [frame(i * stride, chance.choice([0, 1, 50, 3000])) for i in range(count)]
    whole = write_document(path, frames)
    for from_frame in {0, 1, 5, count * stride // 2, (count - 1) * stride, count * stride, 10**9} - {-1, -7}:
        for limit in (None, 1, 2, 10, 10_000):
            part, following = read_part(path, from_frame, limit)
            after = [f for f in frames if f["frame_index"] >= from_frame]
            wanted = after if limit is None else after[:limit]
            assert part == {**whole, "results": wanted}
            rest = after[len(wanted) :]
            assert following == (rest[0]["frame_index"] if rest else None)


def test_a_frame_longer_than_a_block_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    frames = [frame(0), frame(1, 60_000), frame(2, 60_000), frame(3)]
    write_document(path, frames)
    assert path.stat().st_size > 1 << 20
    assert [read_part(path, i, 1)[0]["results"] for i in range(4)] == [[f] for f in frames]


def test_a_file_that_is_no_result_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for content in (b"", b"[1, 2]", b'{"a": 1}', b"\0" * 5000):
        path.write_bytes(content)
        with pytest.raises(StorageError):
            read_part(path, 0, None)
