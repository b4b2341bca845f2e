"""The annotated video: what was found drawn on every frame, times and sound as they were, and what goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from daemon.derive.files import document_of
from daemon.errors import BadVideo
from daemon.export.client import export_now
from daemon.export.files import FOLDER, ExportPlace, NotExported
from daemon.export.process import export
from daemon.export_formats import ExportRequest
from daemon.failpoints import FAULT_VARIABLE
from daemon.jobs import JobStatus, input_key
from daemon.pipeline import drawing, video_redraw
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_redraw import NotRedrawn
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.container_clips import in_container
from tests.derived_documents import frame
from tests.exported import HOSTILE, detection, exported, files_of_at_most, finished_job, frames, line
from tests.picture_stage import counted
from tests.range_clips import damaged

BOX = (40.0, 60.0, 140.0, 160.0)
GREEN = (0x8A, 0xC3, 0x4C)
"""Of the first class, BGR."""
ANY_CONTAINER = Limits(containers="all")


def video_of(home: Path, job_id: str) -> Path:
    return home / "data" / input_key(job_id)


def one_box(count: int, stride: int = 1, **others: Any) -> Iterator[dict[str, Any]]:
    return (frame(n, n / 25, [], [detection("cat", BOX, 0.9)]) for n in range(0, count, stride))


def job_of(home: Path, records: Iterator[dict[str, Any]], **clip: Any) -> str:
    job_id = finished_job(home, records=records)
    make_clip(video_of(home, job_id), **{"size": (320, 240), **clip})
    return job_id


def annotate(home: Path, job_id: str, limits: Limits = ANY_CONTAINER, **filters: Any) -> Path:
    return export(home / "data", job_id, ExportRequest.of({"format": "annotated", **filters}), "match.mp4", limits)


def pictures(path: Path) -> list[tuple[float, Any]]:
    with av.open(str(path)) as container:
        return [(shown.time, shown.to_ndarray(format="bgr24")) for shown in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        [stream] = [stream for stream in container.streams if stream.type == kind]
        return [(round(float(p.pts * p.time_base), 4), bytes(p)) for p in container.demux(stream) if p.size]


def has_box(picture: Any, box: tuple[float, ...] = BOX) -> bool:
    """Tell whether the left edge of a box is drawn, in the colour of the first class."""
    x, y = round(box[0]), round((box[1] + box[3]) / 2)
    return bool(np.abs(picture[y, max(0, x - 1) : x + 2].astype(int) - GREEN).sum(axis=1).min() < 90)


def check_alike(some: list[tuple[float, Any]], others: list[tuple[float, Any]]) -> None:
    """Compare pictures, with their times and with boxes; an encoder may give some bytes otherwise."""
    assert [time for time, _ in some] == [time for time, _ in others]
    assert [has_box(picture) for _, picture in some] == [has_box(picture) for _, picture in others]
    assert all(np.abs(one.astype(int) - other).mean() < 1 for (_, one), (_, other) in zip(some, others, strict=True))


def test_boxes_are_on_the_frames_that_they_were_found_on(tmp_path: Path) -> None:
    job_id = job_of(tmp_path, (f for f in one_box(10) if f["frame_index"] not in (3, 4)), frames=10)
    shown = pictures(annotate(tmp_path, job_id))
    assert [has_box(picture) for _, picture in shown] == [n not in (3, 4) for n in range(10)]
    plain = pictures(video_of(tmp_path, job_id))[7][1]
    assert np.abs(shown[7][1].astype(int) - plain)[200:, 200:].mean() < 3  # the rest is as it was


def test_with_a_stride_a_box_stays_until_the_next_analysed_frame_and_no_longer(tmp_path: Path) -> None:
    job_id = job_of(tmp_path, one_box(6, stride=3), frames=12)
    document = document_of(tmp_path / "data", job_id)
    document.write_text(document.read_text().replace('"frame_stride": 1', '"frame_stride": 3'))
    assert [has_box(picture) for _, picture in pictures(annotate(tmp_path, job_id))] == [n < 6 for n in range(12)]


def test_only_what_is_asked_for_is_drawn_and_a_stretch_begins_at_zero(tmp_path: Path) -> None:
    job_id = job_of(tmp_path, one_box(50), frames=50, audio=True)
    assert not any(has_box(picture) for _, picture in pictures(annotate(tmp_path, job_id, classes=["dog"])))
    assert not any(has_box(picture) for _, picture in pictures(annotate(tmp_path, job_id, min_confidence=0.95)))
    part = annotate(tmp_path, job_id, from_s=0.4, to_s=1.2)
    times = [time for time, _ in pictures(part)]
    assert times == pytest.approx([n / 25 for n in range(20)])
    sounds = [time for time, _ in packets(part, "audio")]
    assert 0 <= sounds[0] < 0.03
    assert 0.7 < sounds[-1] < 0.85
    with pytest.raises(NotRedrawn, match="shows nothing in that stretch"):
        annotate(tmp_path, job_id, from_s=9.0)


def test_a_stretch_far_in_is_found_by_an_index_and_is_the_one_that_decoding_all_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = (f for f in one_box(150) if f["frame_index"] % 7 < 3)
    job_id = job_of(tmp_path, boxes, frames=150, b_frames=2, audio=True, size=(160, 120))
    whole = pictures(annotate(tmp_path, job_id, from_s=4.01, to_s=5.0))
    monkeypatch.setattr(video_redraw, "WORTH_SECONDS", 4.0)
    with counted(video_redraw._Source, "_check", monkeypatch) as decoded:
        check_alike(pictures(annotate(tmp_path, job_id, from_s=4.01, to_s=5.0)), whole)
    assert 0 < len(decoded) < 60  # pictures, of 150


def test_a_stretch_that_turns_out_not_to_be_as_its_index_says_is_decoded_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = (f for f in one_box(150) if f["frame_index"] % 7 < 3)
    job_id = job_of(tmp_path, boxes, frames=150, size=(160, 120))
    damaged(video_of(tmp_path, job_id), (0.9,), 400)
    whole = pictures(annotate(tmp_path, job_id, from_s=4.01))
    monkeypatch.setattr(video_redraw, "WORTH_SECONDS", 4.0)
    with counted(video_redraw._Target, "add", monkeypatch) as drawn:
        check_alike(pictures(annotate(tmp_path, job_id, from_s=4.01)), whole)
    assert len(drawn) > 50  # some were drawn twice


def test_a_variable_frame_rate_and_the_sound_are_kept(tmp_path: Path) -> None:
    times = (0.0, 0.04, 0.2, 0.21, 0.5, 1.0, 1.04, 1.08, 1.6, 1.62)
    job_id = job_of(tmp_path, one_box(10), frames=10, pts_seconds=times, audio=True, faststart=True)
    path = annotate(tmp_path, job_id)
    assert [time for time, _ in pictures(path)] == pytest.approx(times)
    assert packets(path, "audio") == packets(video_of(tmp_path, job_id), "audio")
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # a player can begin at once


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_upright(tmp_path: Path, rotation: int) -> None:
    job_id = job_of(tmp_path, one_box(3), frames=3, rotation=rotation)
    with av.open(str(annotate(tmp_path, job_id))) as container:
        stream = container.streams.video[0]
        first = next(container.decode(stream))
        assert "DISPLAYMATRIX" not in first.side_data
        assert (first.width, first.height) == ((320, 240) if rotation == 180 else (240, 320))
    assert has_box(pictures(annotate(tmp_path, job_id))[0][1])


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "ts"])
def test_other_containers_are_written_as_mp4(tmp_path: Path, kind: str) -> None:
    job_id = finished_job(tmp_path, records=one_box(12))
    made = in_container(tmp_path / f"a.{kind}", kind)
    video_of(tmp_path, job_id).parent.mkdir(parents=True, exist_ok=True)
    made.rename(video_of(tmp_path, job_id))
    shown = pictures(annotate(tmp_path, job_id))
    assert shown[0][0] == 0
    assert len(shown) >= 10
    assert all(after[0] > before[0] for before, after in pairwise(shown))
    with pytest.raises(BadVideo):
        annotate(tmp_path, job_id, Limits(containers="mp4"))


def test_odd_sizes_become_even(tmp_path: Path) -> None:
    job_id = finished_job(tmp_path, records=one_box(3))
    path = video_of(tmp_path, job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 321, 241, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((241, 321, 3), 90, np.uint8), "bgr24")))
        container.mux(stream.encode(None))
    picture = pictures(annotate(tmp_path, job_id))[0][1]
    assert picture.shape == (242, 322, 3)
    assert abs(int(picture[-1, -1].mean()) - 90) < 8


def test_hostile_texts_and_classes_are_drawn(tmp_path: Path) -> None:
    records = list(frames(cat=HOSTILE[0] + HOSTILE[3], texts=HOSTILE))
    records[0]["result"]["detections"].append(detection("x" * 5000, (-1e9, -5.0, 1e12, 1e300), 0.5))
    records[0]["result"]["text_blocks"].append(line("\u4e2d\u6587 \U0001f600 \u0639\u0631\u0628\u064a", 3))
    job_id = finished_job(tmp_path, records=iter(records))
    assert len(pictures(exported(tmp_path, job_id, "annotated"))) == 60


def test_without_a_font_boxes_have_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoFont:
        def __init__(self, name: str) -> None:
            raise cv2.error("no such font")

    drawing._font.cache_clear()
    monkeypatch.setattr(drawing.cv2, "FontFace", NoFont)
    try:
        job_id = job_of(tmp_path, one_box(4), frames=4)
        assert all(has_box(picture) for _, picture in pictures(annotate(tmp_path, job_id)))
    finally:
        drawing._font.cache_clear()
    assert caplog.text.count("OpenCV has no font") == 1


def test_a_video_that_is_gone_or_damaged_is_said_and_the_job_stays(tmp_path: Path) -> None:
    job_id = job_of(tmp_path, one_box(4), frames=4)
    settings = Settings.load(home=tmp_path)
    place = ExportPlace.of(tmp_path / "data", job_id, ExportRequest.of({"format": "annotated"}))
    video = video_of(tmp_path, job_id)
    whole = video.read_bytes()
    video.write_bytes(whole[:200] + bytes(len(whole) - 200))
    with pytest.raises(NotExported) as damaged:
        export_now(settings, place, "match.mp4")
    assert damaged.value.final
    video.unlink()
    with pytest.raises(NotExported, match="The video has been deleted") as gone:
        export_now(settings, place, "match.mp4")
    assert gone.value.final
    video.write_bytes(whole)
    export_now(settings, place, "match.mp4")
    assert len(pictures(place.path)) == 4
    assert status_of(tmp_path, job_id) == JobStatus.COMPLETED


def test_a_child_that_is_killed_leaves_nothing_and_the_next_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job_of(tmp_path, one_box(4), frames=4)
    settings = Settings.load(home=tmp_path)
    place = ExportPlace.of(tmp_path / "data", job_id, ExportRequest.of({"format": "annotated"}))
    for fault in ("export.drawn", "export.written"):
        monkeypatch.setenv(FAULT_VARIABLE, fault)
        with pytest.raises(NotExported, match="SIGKILL") as killed:
            export_now(settings, place, "match.mp4")
        assert not killed.value.final
        assert not place.path.exists()
        left = [path for path in (tmp_path / "data" / FOLDER).rglob("*") if path.is_file()]
        assert all(path.name.endswith(".tmp") for path in left)  # what the daemon sweeps
    monkeypatch.delenv(FAULT_VARIABLE)
    export_now(settings, place, "match.mp4")
    assert len(pictures(place.path)) == 4


@pytest.mark.parametrize("part", [0.3, 0.98])
def test_a_disk_that_fills_meanwhile_is_said_and_the_next_try_works(tmp_path: Path, part: float) -> None:
    job_id = job_of(tmp_path, one_box(40), frames=40, audio=True)
    settings = Settings.load(home=tmp_path)
    place = ExportPlace.of(tmp_path / "data", job_id, ExportRequest.of({"format": "annotated"}))
    size, whole = annotate(tmp_path, job_id).stat().st_size, len(pictures(place.path))
    place.path.unlink()
    with files_of_at_most(int(size * part)), pytest.raises(NotExported, match="File too large") as full:
        export_now(settings, place, "match.mp4")
    assert not full.value.final
    assert not place.path.exists()
    export_now(settings, place, "match.mp4")
    assert len(pictures(place.path)) == whole
    assert status_of(tmp_path, job_id) == JobStatus.COMPLETED


def test_what_min_free_bytes_says_stays_free_while_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = job_of(tmp_path, one_box(4), frames=4)
    free = iter([10**12, 10**12])
    monkeypatch.setattr("daemon.fs.space.free_bytes", lambda path: next(free, 0))
    monkeypatch.setattr("daemon.ipc.background.LOOK_SECONDS", 0.01)
    place = ExportPlace.of(tmp_path / "data", job_id, ExportRequest.of({"format": "annotated"}))
    with pytest.raises(NotExported, match="min_free_bytes") as short:
        export_now(Settings.load(home=tmp_path, min_free_bytes=10**9), place, "match.mp4")
    assert not short.value.final
    assert not place.path.exists()


def status_of(home: Path, job_id: str) -> JobStatus:
    with JobStore.open(home / "data") as store:
        return store.get(job_id).status


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        job_id = job_of(tmp_path / str(count), one_box(count), frames=count, audio=True, size=(160, 120))
        code = "import resource, sys; from pathlib import Path; from tests.unit.export.test_annotated import annotate;"
        code += f"annotate(Path(sys.argv[1]), {job_id!r});"
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / str(count)], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1])

    # KiB; with sound, buffers are full after some hundred frames. The pictures alone would be 28 KiB each.
    assert peak(2500) - peak(1000) < 10_000
