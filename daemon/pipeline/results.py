"""ResultsSerializer: the result document, written as it is made, and readable again in parts.

The document is JSON with sorted keys and one frame a line, so it grows from the top: models, options and
pipeline first, then the frames, then what is only known at the end. After each segment the bytes so far are
made durable and a checkpoint beside them says how far they go; a run that is interrupted goes on from there,
and the finished document is the same to the byte. The form is described in docs/results-format.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from daemon.errors import Interrupted
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write, fsync_folder
from daemon.jobs import Options
from daemon.pipeline.records import Analysis, ModelInfo, VideoInfo
from daemon.pipeline.seams import Seam

SCHEMA = "dropframe.results/1"
MOST_TEXTS = 1000
"""Different lines that the summary lists at most, so that it stays small however long the video is."""


def dumps(value: Any) -> str:
    """Return JSON as the documents hold it: sorted keys, no NaN, characters as they are."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def frame_record(analysis: Analysis) -> dict[str, Any]:
    """Return one entry of ``results``: boxes with one decimal, confidences with four."""
    result: dict[str, Any] = {
        "detections": [
            {
                "bbox": [round(edge, 1) for edge in d.box],
                "class": d.class_name,
                "class_id": d.class_id,
                "confidence": round(d.confidence, 4),
            }
            for d in analysis.detections
        ],
        "text": "\n".join(block.text for block in analysis.text_blocks),
        "text_blocks": [
            {
                "bbox": [round(edge, 1) for edge in block.box],
                "confidence": round(block.confidence, 4),
                "text": block.text,
            }
            for block in analysis.text_blocks
        ],
    }
    if analysis.text_unread:
        result["text_unread"] = [[round(edge, 1) for edge in box] for box in analysis.text_unread]
    return {"frame_index": analysis.frame.index, "timestamp_s": analysis.frame.timestamp_s, "result": result}


def head_of(models: Sequence[ModelInfo], options: Options, pipeline_id: str) -> bytes:
    """Return what a document begins with, up to its first frame."""
    return (
        f'{{\n"models": {dumps([asdict(m) for m in models])},\n"options": {dumps(options.sampling)},\n'
        f'"pipeline_id": {dumps(pipeline_id)},\n"results": ['
    ).encode()


def frame_line(analysis: Analysis, is_first: bool) -> bytes:
    """Return a frame's line, with what divides it from what stands before it."""
    return (("\n" if is_first else ",\n") + dumps(frame_record(analysis))).encode()


def tail_of(source: Mapping[str, Any], summary: Mapping[str, Any], video: Mapping[str, Any]) -> bytes:
    """Return what a document ends with, behind its last frame; the arguments are its JSON forms."""
    return (
        f'\n],\n"schema": {dumps(SCHEMA)},\n"source": {dumps(dict(source))},\n"summary": {dumps(dict(summary))},\n'
        f'"video": {dumps(dict(video))}\n}}\n'
    ).encode()


@dataclass
class Summary:
    """What the document's ``summary`` counts, kept up frame by frame."""

    frame_count: int = 0
    """Frames analysed."""
    classes: Counter[str] = field(default_factory=Counter)
    """Detections by class."""
    texts: dict[str, None] = field(default_factory=dict)
    """Different lines of text, in order of appearance; the first MOST_TEXTS."""
    frames_unread: int = 0
    """Frames with text that the engine gave up."""
    frames_unseen: int = 0
    """Frames for which the detector of objects gave numbers that are not finite."""
    frames_letters_unread: int = 0
    """Frames with a line in letters that no engine has."""

    def add(self, analysis: Analysis) -> None:
        """Count one frame."""
        self.frame_count += 1
        self.classes.update(d.class_name for d in analysis.detections)
        self.frames_unread += bool(analysis.text_unread)
        self.frames_unseen += analysis.objects_unseen
        self.frames_letters_unread += analysis.letters_unread
        for block in analysis.text_blocks:
            if len(self.texts) < MOST_TEXTS:
                self.texts.setdefault(block.text)

    def merge(self, later: Summary) -> None:
        """Count what the summary of the frames right behind has counted."""
        self.frame_count += later.frame_count
        self.classes.update(later.classes)
        self.frames_unread += later.frames_unread
        self.frames_unseen += later.frames_unseen
        self.frames_letters_unread += later.frames_letters_unread
        for text in later.texts:
            if len(self.texts) < MOST_TEXTS:
                self.texts.setdefault(text)

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form; of frames that were not seen or not read as a whole only where there are any."""
        record = {
            "classes": dict(self.classes),
            "detection_count": self.classes.total(),
            "frame_count": self.frame_count,
            "frames_unread": self.frames_unread,
            "texts": list(self.texts),
        }
        rare = {"frames_unseen": self.frames_unseen, "frames_letters_unread": self.frames_letters_unread}
        return {**record, **{name: count for name, count in rare.items() if count}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Take up counting where a checkpoint left it."""
        classes, texts = Counter(record["classes"]), dict.fromkeys(record["texts"])
        rare = (record.get(name, 0) for name in ("frames_unseen", "frames_letters_unread"))
        return cls(record["frame_count"], classes, texts, record["frames_unread"], *rare)


MOST_TRIES = 2
"""Runs that begin with a range and die before anything comes of it, until all are decoded from the video's start."""


class ResultsSerializer:
    """Writes one result document to ``path``, by way of ``<path>.part``.

    Args:
        path: Where the finished document appears, whole, at ``finish``.
        models: Everything that has a part in the result.
        options: How the video is sampled.
        pipeline_id: Which pipeline.
        fingerprint: Whatever else the frames depend on (the video's identity, settings); a partial document
            made under another fingerprint is not gone on with.
    """

    def __init__(
        self, path: Path, models: list[ModelInfo], options: Options, pipeline_id: str, fingerprint: str
    ) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._checkpoint = path.with_name(path.name + ".checkpoint")
        head = head_of(models, options, pipeline_id)
        self._fingerprint = hashlib.sha256(head + fingerprint.encode()).hexdigest()
        self.summary = Summary()
        self.seam: Seam | None = None
        """The last frame of the document, after opening, if it can be gone on with right there."""
        self._is_sequential = False
        """Whether the video has to be decoded from its start, whatever else is possible."""
        self._origin: Mapping[str, Any] | None = None
        """The part of the document that a run from the start has made, if ranges were appended to it."""
        self._tries = 0
        """Runs that began with a range, and died before they came to the end of a segment."""
        self._noted: dict[str, Any] | None = None
        """The checkpoint of a run that has begun with a range and has not come so far yet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("r+b" if self._part.exists() else "w+b")
        if not self._go_on():
            # It speaks of other bytes than those that come now, and would be believed once they are as many.
            self._checkpoint.unlink(missing_ok=True)
            self._file.truncate(0)
            self._file.write(head)

    def _go_on(self) -> bool:
        try:
            checkpoint = json.loads(self._checkpoint.read_text())
            size = os.fstat(self._file.fileno()).st_size
            if checkpoint["fingerprint"] != self._fingerprint or checkpoint["bytes"] > size:
                return False
            self._tries = int(checkpoint.get("tries", 0))
            if self._tries >= MOST_TRIES:  # perhaps seeking is what ends the process
                checkpoint = {**checkpoint["origin"], "sequential": True}
            summary = Summary.from_record(checkpoint["summary"])
            self.seam = Seam.from_record(checkpoint.get("seam"))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        self.summary, self._origin = summary, checkpoint.get("origin")
        self._is_sequential = checkpoint.get("sequential", False)
        self._file.truncate(checkpoint["bytes"])
        self._file.seek(0, os.SEEK_END)
        return True

    @property
    def frames_written(self) -> int:
        """Frames in the document so far; after opening, those that a checkpoint saved."""
        return self.summary.frame_count

    def write(self, analysis: Analysis) -> None:
        """Add a frame."""
        self._file.write(frame_line(analysis, is_first=self.summary.frame_count == 0))
        self.summary.add(analysis)

    def checkpoint(self, seam: Seam | None = None) -> None:
        """Make the frames so far durable. Call it at the end of a segment.

        Args:
            seam: The last frame, if the next run may try to begin right behind it.
        """
        self._file.flush()
        os.fdatasync(self._file.fileno())
        failpoint("results.saved")
        self._noted = None
        more: dict[str, Any] = {"origin": self._origin} if self._origin else {}
        if self._is_sequential:
            more["sequential"] = True
        elif seam is not None:
            more["seam"] = vars(seam)
        self._save(self._state() | more)

    def _state(self) -> dict[str, Any]:
        return {"bytes": self._file.tell(), "summary": self.summary.to_record()}

    def _save(self, state: Mapping[str, Any]) -> None:
        with atomic_write(self._checkpoint) as file:
            file.write(dumps({**state, "fingerprint": self._fingerprint}).encode())

    @property
    def has_ranges(self) -> bool:
        """Whether there are frames in the document that are not of a run from the video's start."""
        return self._origin is not None

    def note_ranges(self) -> None:
        """Note that what comes now is not of a run from the video's start. Call it before anything is looked for."""
        assert self.seam is not None
        self._origin = self._origin or self._state()
        self._noted = self._state() | {"origin": self._origin, "seam": vars(self.seam)}
        self._save(self._noted | {"tries": self._tries + 1})

    @contextmanager
    def in_one_piece_after(self, failure: type[Exception]) -> Iterator[None]:
        """Go back to what a run from the video's start has made if an error in the block says that ranges fail.

        What is written from then on, in this run and in later ones, has to be of a run from the start. A run that is
        stopped was no try that failed.
        """
        try:
            yield
        except Interrupted:
            if self._noted is not None:
                self._save(self._noted | {"tries": self._tries})
            raise
        except failure:
            self._save({**(self._origin or self._state()), "sequential": True})
            raise

    def finish(self, source: Mapping[str, Any], summary: Mapping[str, Any], video: VideoInfo) -> dict[str, Any]:
        """Write what is only known at the end and put the document in its place.

        Args:
            source: ``name``, ``sha256`` and ``size_bytes`` of the video.
            summary: What the summary says beyond what is counted here.
            video: What the container says.

        Returns:
            The whole ``summary``.
        """
        whole = {**self.summary.to_record(), **summary}
        self._file.write(tail_of(source, whole, video.to_record()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
        fsync_folder(self._path.parent)
        failpoint("results.finished")
        self._checkpoint.unlink(missing_ok=True)
        return whole

    def close(self) -> None:
        """Leave the document as it is; what was checkpointed can be gone on with."""
        if not self._file.closed:
            self._file.close()


TAIL_BYTES = 8_000_000
"""More than what stands behind the frames can be: a thousand lines of text and some numbers."""


def analysed_total(expected: int | None, options: Options) -> int | None:
    """Return how many frames will be analysed if the container is right, or None if it does not say."""
    if expected is None:
        return options.max_frames
    total = -(-expected // options.frame_stride)
    return total if options.max_frames is None else min(total, options.max_frames)


def recorded_facts(path: Path) -> dict[str, Any]:
    """Return what a job record takes from a finished document: frames, checksum, size, device and summary.

    Of a GPU it knows that it was one, and not its number. Only the ends of the document are read.
    """
    with path.open("rb") as file:
        head = b"".join(file.readline(TAIL_BYTES) for _ in range(3))  # the brace, models and options
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        tail = file.read()
    document = json.loads(head + tail[tail.rindex(b'\n"source": ') :])
    summary = {name: value for name, value in document["summary"].items() if name != "texts"}
    return {
        "frames_processed": summary["frame_count"],
        "frames_total": analysed_total(summary["frames_expected"], Options(**document["options"])),
        "sha256": document["source"]["sha256"],
        "size_bytes": document["source"]["size_bytes"],
        "device": next((model["device"] for model in document["models"] if model["device"] != "cpu"), "cpu"),
        "summary": summary,
    }
