"""Tracks: which detections are of the same object."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lap
import numpy as np
import pytest

from daemon.derive.bytetrack import ByteTracker
from daemon.derive.document import AnalysedFrame, FoundObject, Moment
from daemon.derive.tracks import TrackBook

ROOT = Path(__file__).parents[3]
Walk = Callable[[int], tuple[float, float]]
Scene = list[tuple[AnalysedFrame, list[int | None]]]
"""Frames, and for each detection the number of the object that was drawn there, None for a false one."""

WALKS: list[tuple[str, int, int, Walk]] = [
    ("person", 0, 299, lambda n: (40 + 3 * n, 300)),
    ("person", 0, 299, lambda n: (1100 - 3 * n, 330)),
    ("car", 20, 250, lambda n: (100 + 4 * (n - 20), 520)),
    ("car", 60, 299, lambda n: (1150 - 4 * (n - 60), 620)),
    ("dog", 100, 280, lambda n: (300 + 2 * (n - 100), 480 + 40 * np.sin(n / 15))),
    ("bus", 0, 180, lambda n: (600 + n, 90)),
    ("person", 150, 299, lambda n: (900, 200 + n - 150)),
]
SIZES = {"person": (60, 160), "car": (180, 90), "dog": (80, 60), "bus": (300, 140)}


def scene(seed: int = 3, missed: float = 0.03, false: float = 0.02) -> Scene:
    """Objects that cross, stop being detected for a moment and are taken for another class, as detectors do."""
    chance = random.Random(seed)
    frames: Scene = []
    for position in range(300):
        found: list[tuple[FoundObject, int | None]] = []
        for number, (name, first, last, walk) in enumerate(WALKS):
            hidden = number == 5 and 90 <= position < 110  # it goes behind something for 0.8 s
            if not first <= position <= last or hidden or chance.random() < missed:
                continue
            x, y = walk(position)
            width, height = SIZES[name]
            edges = [x, y, x + width, y + height]
            box = tuple(round(edge + chance.uniform(-2, 2), 1) for edge in edges)
            told = "truck" if name == "car" and chance.random() < 0.2 else name
            found.append((FoundObject(box, told, round(chance.uniform(0.5, 0.95), 4)), number))  # type: ignore[arg-type]
        if chance.random() < false:
            x, y = chance.uniform(0, 1200), chance.uniform(0, 600)
            found.append((FoundObject((x, y, x + 50, y + 50), "bird", 0.3), None))
        found.sort(key=lambda each: -each[0].confidence)
        moment = Moment(position, position * 2, position * 0.04)
        frames.append((AnalysedFrame(moment, [f for f, _ in found], []), [n for _, n in found]))
    return frames


def book_of(frames: list[AnalysedFrame]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with tempfile.TemporaryFile() as scratch:
        book = TrackBook(scratch, ByteTracker().update)
        for each in frames:
            book.add(each)
        return list(book.tracks()), list(book.frames())


def still(seconds: list[float], box: tuple[float, ...] = (10, 10, 60, 60), **more: Any) -> list[AnalysedFrame]:
    """One object that stands still and is seen at these times of a second, at 25 frames/s."""
    seen = {round(time_s * 25) for time_s in seconds}
    found = [FoundObject(box, more.get("name", "cat"), 0.9)]  # type: ignore[arg-type]
    return [AnalysedFrame(Moment(n, n, n / 25), found if n in seen else [], []) for n in range(max(seen) + 1)]


def test_objects_that_cross_keep_their_numbers() -> None:
    drawn = scene()
    _, numbered = book_of([each for each, _ in drawn])
    ids = {row["frame_index"]: row["track_ids"] for row in numbered}
    pairs: Counter[tuple[int, int]] = Counter()
    there = sum(last - first + 1 for _, first, last, _ in WALKS)
    false = switches = boxes = 0
    last: dict[int, int] = {}
    for each, truth in drawn:
        for track, number in zip(ids.get(each.moment.frame_index, [None] * len(truth)), truth, strict=True):
            if track is None:
                continue
            boxes += 1
            if number is None:
                false += 1
                continue
            pairs[number, track] += 1
            switches += last.get(number, track) != track
            last[number] = track
    missing = there - (boxes - false)
    assert 1 - (missing + false + switches) / there >= 0.9  # MOTA
    table = np.zeros((len(WALKS), 1 + max(track for _, track in pairs)))
    for (number, track), count in pairs.items():
        table[number, track] = count
    _, chosen, _ = lap.lapjv(-table, extend_cost=True)
    right = sum(table[number, track] for number, track in enumerate(chosen))
    assert 2 * right / (there + boxes) >= 0.9  # IDF1
    assert switches == 0


def test_the_tracks_of_a_scene_are_those_that_they_have_always_been() -> None:
    """A golden test: where something else comes out, VERSION has to grow."""
    tracks, numbered = book_of([each for each, _ in scene()])
    assert [(t["track_id"], t["class"], t["first_frame"], t["last_frame"], t["boxes"]) for t in tracks] == GOLDEN
    assert numbered == book_of([each for each, _ in scene()])[1]
    assert sum(n is not None for row in numbered for n in row["track_ids"]) == sum(t["boxes"] for t in tracks)


GOLDEN: list[tuple[int, str, int, int, int]] = [
    (1, "bus", 0, 360, 159),
    (2, "person", 0, 598, 292),
    (3, "person", 2, 598, 289),
    (4, "car", 40, 500, 226),
    (5, "car", 120, 598, 232),
    (6, "dog", 200, 560, 176),
    (7, "person", 300, 598, 144),
]


def test_an_object_that_was_detected_once_is_not_a_track() -> None:
    assert book_of(still([0.4])) == ([], [])
    assert book_of(still([0.0])) == ([], [])


def test_the_first_box_belongs_to_the_track_though_a_second_is_needed_to_know_it() -> None:
    [track], numbered = book_of(still([0.4, 0.44, 0.48]))
    assert (track["first_frame"], track["last_frame"], track["boxes"]) == (10, 12, 3)
    assert [row["frame_index"] for row in numbered] == [10, 11, 12]


def test_an_object_may_be_away_for_a_second() -> None:
    seen = [n / 25 for n in range(10)]
    assert len(book_of(still([*seen, *(1.4 + s for s in seen)]))[0]) == 1
    assert len(book_of(still([*seen, *(1.8 + s for s in seen)]))[0]) == 2


def test_how_long_that_is_goes_by_the_times_of_the_frames() -> None:
    frames = [AnalysedFrame(Moment(n, n * 25, float(n)), f.objects, f.texts) for n, f in enumerate(still([0, 0.04]))]
    gone = [AnalysedFrame(Moment(n, n * 25, float(n)), [], []) for n in range(2, 5)]
    back = [AnalysedFrame(Moment(n, n * 25, float(n)), frames[0].objects, []) for n in (5, 6)]
    assert len(book_of([*frames, *gone, *back])[0]) == 2


def test_the_class_is_that_of_most_boxes() -> None:
    frames = still([n / 25 for n in range(10)])
    odd = [
        AnalysedFrame(f.moment, [FoundObject(o.box, "dog", o.confidence) for o in f.objects], []) for f in frames[:4]
    ]
    [track], _ = book_of([*odd, *frames[4:]])
    assert (track["class"], track["boxes"]) == ("cat", 10)


def test_a_track_ends_when_the_frame_after_its_last_box_is_shown() -> None:
    [track], _ = book_of([*still([0.0, 0.04, 0.08]), AnalysedFrame(Moment(3, 3, 5.0), [], [])])
    assert (track["start_s"], track["end_s"]) == (0.0, 5.0)


def test_boxes_without_a_size_are_of_no_track() -> None:
    assert book_of(still([0.0, 0.04, 0.08], box=(10, 10, 10, 60))) == ([], [])
    assert book_of(still([0.0, 0.04, 0.08], box=(50, 10, 10, 60))) == ([], [])


def test_deriving_loads_no_model() -> None:
    code = "import daemon.derive.process, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "daemon.derive.bytetrack" in done.stdout.split()
    assert set(done.stdout.split()) & {"torch", "ultralytics", "cv2", "av"} == set()


@pytest.mark.slow
@pytest.mark.parametrize(("missed", "false"), [(0.03, 0.02), (0.3, 0.4)])
def test_tracks_are_those_of_ultralytics(missed: float, false: float) -> None:
    from ultralytics.trackers.byte_tracker import BYTETracker
    from ultralytics.utils import IterableSimpleNamespace

    usual = {"track_high_thresh": 0.25, "track_low_thresh": 0.1, "new_track_thresh": 0.25, "track_buffer": 30}
    for seed in range(5):
        ours = ByteTracker()
        theirs = BYTETracker(IterableSimpleNamespace(**usual, match_thresh=0.8, fuse_score=True))
        same: dict[int, int] = {}
        for each, _ in scene(seed, missed, false):
            theirs.update(Columns(np.array([[*f.box, f.confidence] for f in each.objects]).reshape(-1, 5)))
            there = {int(t.idx): t.track_id for t in theirs.tracked_stracks if t.frame_id == theirs.frame_id}
            for place, number in enumerate(ours.update(each.objects, each.moment.time_s)):
                assert (number is None) is (place not in there)
                assert number is None or same.setdefault(number, there[place]) == there[place]


class Columns:
    """Detections as Ultralytics' tracker asks for them."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        size = rows[:, 2:4] - rows[:, :2]
        self.xywh, self.conf, self.cls = np.hstack([rows[:, :2] + size / 2, size]), rows[:, 4], np.zeros(len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, mask: Any) -> Any:
        return Columns(self._rows[mask])


@pytest.mark.parametrize(
    ("box", "confidence"),
    [
        ((0, 0, 1e300, 1e300), 0.9),
        ((-1e9, 0, 1e9, 1), 0.9),
        ((0, 0, 1e-300, 5), 0.9),
        ((0, 0, 5, 1e-300), 0.9),
        ((0, 0, 9, 9), -1e300),
    ],
)
def test_hostile_boxes_are_of_no_track(box: tuple[float, ...], confidence: float) -> None:
    tracker = ByteTracker()
    for n in range(5):
        found = [FoundObject(box, "cat", confidence), FoundObject((5.0, 5.0, 50.0, 50.0), "cat", 1e300)]  # type: ignore[arg-type]
        assert tracker.update(found, n / 25) == [None, 1]


def test_many_objects_at_once_are_followed() -> None:
    tracker = ByteTracker()
    places = [(40.0 * (n % 40), 40.0 * (n // 40)) for n in range(300)]
    found = [FoundObject((x, y, x + 30, y + 30), "cat", 0.9) for x, y in places]
    for n in range(4):
        assert tracker.update(found, n / 25) == list(range(1, 301))


@pytest.mark.parametrize("count", [0, 1, 50])
def test_frames_without_objects_cost_nothing(count: int) -> None:
    empty = [AnalysedFrame(Moment(n, n, n / 25), [], []) for n in range(count)]
    assert book_of(empty) == ([], [])
