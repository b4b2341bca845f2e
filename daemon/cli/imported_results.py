"""A finished job's result as another service kept it, turned into a result document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from daemon.cli.dump import Refused
from daemon.jobs import Job
from daemon.pipeline.results import MOST_TEXTS, SCHEMA, dumps


def result_document(job: Job, frames: list[Any]) -> tuple[bytes, dict[str, Any]]:
    """Return frames of another service as a result document, and its summary; what is not known is null or left out.

    Raises:
        Refused: they cannot be read as frames.
    """
    left_out: set[str] = set()
    records = list(_records(frames, left_out))
    summary = _summary([record for record, _ in records], left_out)
    options = {"frame_stride": job.options.frame_stride, "max_frames": job.options.max_frames}
    source = {"name": job.source_name, "sha256": None, "size_bytes": None}
    video = dict.fromkeys(("codec", "duration_s", "fps", "frame_count", "height", "width"))
    text = (
        f'{{\n"models": [],\n"options": {dumps(options)},\n"pipeline_id": {dumps(job.pipeline_id)},\n"results": [\n'
        + ",\n".join(line for _, line in records)
        + f'\n],\n"schema": {dumps(SCHEMA)},\n"source": {dumps(source)},\n"summary": {dumps(summary)},\n'
        f'"video": {dumps(video)}\n}}\n'
    )
    return text.encode("utf-8", "backslashreplace"), summary


def _records(frames: list[Any], left_out: set[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each frame as an entry of ``results``, and as its line; note the keys that have no place in it."""
    last = -1
    for number, frame in enumerate(frames, 1):
        try:
            record = _frame_record(frame, left_out)
            line = dumps(record)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise Refused(f"Frame {number} of its result cannot be read: {error}.") from error
        if record["frame_index"] <= last:
            raise Refused(f"Frame {number} of its result has no greater frame_index than the one before.")
        last = record["frame_index"]
        yield record, line


def _summary(records: list[dict[str, Any]], left_out: set[str]) -> dict[str, Any]:
    classes = Counter(found["class"] for record in records for found in record["result"]["detections"])
    texts = dict.fromkeys(text for record in records for text in record["result"]["text"].splitlines())
    warnings = ["This result was imported from another service; what that did not record is missing."]
    if left_out:
        warnings.append(f"Not taken over from its frames: {', '.join(sorted(left_out))}.")
    return {
        "classes": dict(classes),
        "detection_count": classes.total(),
        "frame_count": len(records),
        "frames_decoded": len(records),
        "frames_expected": None,
        "frames_failed": 0,
        "frames_missing": 0,
        "frames_unread": 0,
        "texts": list(texts)[:MOST_TEXTS],
        "warnings": warnings,
    }


def _frame_record(frame: Any, left_out: set[str]) -> dict[str, Any]:
    """Return one entry of ``results``; note the keys that have no place in it."""
    result = frame["result"]
    index = frame["frame_index"]
    if type(index) is not int or index < 0:
        raise ValueError("frame_index is not a whole number of 0 or more")
    left_out |= (set(frame) - {"frame_index", "timestamp_s", "result"}) | (
        set(result) - {"detections", "text", "text_blocks"}
    )
    text = result.get("text") or ""
    if not isinstance(text, str):
        raise ValueError("text is not a string")
    time = frame.get("timestamp_s")
    return {
        "frame_index": index,
        **({} if time is None else {"timestamp_s": float(time)}),
        "result": {
            "detections": [_detection(found) for found in result.get("detections") or []],
            "text": text,
            "text_blocks": [_text_block(found) for found in result.get("text_blocks") or []],
        },
    }


def _detection(found: Any) -> dict[str, Any]:
    names = ("class", "class_name", "label", "name")
    name = next((found[key] for key in names if isinstance(found.get(key), str)), None)
    if name is None:
        raise ValueError("a detection names no class")
    class_id = found.get("class_id")
    return {
        "bbox": _box(found),
        "class": name,
        **({} if class_id is None else {"class_id": int(class_id)}),
        "confidence": _share(found.get("confidence", found.get("score"))),
    }


def _text_block(found: Any) -> dict[str, Any]:
    return {"bbox": _box(found), "confidence": _share(found["confidence"]), "text": str(found["text"])}


def _box(found: Any) -> list[float]:
    box = [round(float(edge), 1) for edge in found.get("bbox", found.get("box"))]
    if len(box) != 4:
        raise ValueError("a box has not four numbers")
    return box


def _share(value: Any) -> float:
    share = round(float(value), 4)
    if not 0 <= share <= 1:
        raise ValueError("a confidence is not between 0 and 1")
    return share


def find_frames(value: Any) -> list[Any]:
    """Find the list of frames in what a service kept as its result."""
    while isinstance(value, dict):
        value = value.get("results", value.get("frames"))
    if not isinstance(value, list):
        raise Refused("Its result holds no list of frames, as results or frames.")
    return value
