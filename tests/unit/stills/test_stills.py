"""Stills: made in a child process, kept within a bound, gone with their video; what goes wrong costs a sentence."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from daemon.jobs import input_key, new_job_id, output_key
from daemon.pipeline.records import Image
from daemon.pipeline.video import Video
from daemon.settings import Settings
from daemon.stills import client, files
from daemon.stills.client import Stills, StillsProcess
from daemon.stills.files import NoStill, NotMadeYet, StillRequest
from daemon.stills.lookup import analysed_frame
from tests.clips import BEGINNING, make_clip
from tests.derived_documents import frame, write_document
from tests.odd_clips import set_matrix
from tests.system.running import alive


class Pictures:
    """A home with the pictures of videos."""

    def __init__(self, home: Path, **settings: int) -> None:
        self.settings = Settings(home=home, min_free_bytes=0, **settings)
        self.data, self.spool = self.settings.data_dir, self.settings.spool_dir
        self.spool.mkdir(parents=True, exist_ok=True)
        self.now = 0.0
        self.stills = Stills(self.settings, clock=lambda: self.now)

    def video(self, frames: int = 20) -> str:
        job_id = new_job_id()
        make_clip(self.data / input_key(job_id), frames=frames, size=(160, 120))
        return job_id

    def make(self, request: StillRequest) -> Image:
        files.ask_for(self.spool, request)
        self.stills.step()
        with files.open_still(self.data, request) as file:
            return picture(file.read())

    def problem(self, request: StillRequest) -> NoStill:
        files.ask_for(self.spool, request)
        self.stills.step()
        with pytest.raises(NoStill) as caught:
            files.open_still(self.data, request)
        return caught.value

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.data / "stills").rglob("*") if path.is_file())


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    made = Pictures(tmp_path)
    yield made
    made.stills.close()


def picture(data: bytes) -> Image:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def alike(one: Image, other: Image) -> bool:
    return one.shape == other.shape and float(np.abs(one.astype(int) - other.astype(int)).mean()) < 2


def test_a_picture_is_made_once_by_index_or_time_and_is_what_the_pipeline_saw(pictures: Pictures) -> None:
    job_id = pictures.video()
    set_matrix(pictures.data / input_key(job_id), 0, 1, -1, 0)  # it lies on its side
    frames = list(Video(pictures.data / input_key(job_id)).frames())
    assert frames[7].image.shape == (160, 120, 3)
    by_index, by_time = StillRequest(job_id, index=7), StillRequest(job_id, seconds=0.3)
    assert alike(pictures.make(by_index), frames[7].image)
    assert alike(pictures.make(by_time), frames[7].image)
    narrow = pictures.make(StillRequest(job_id, index=7, width=60))
    assert alike(narrow, cv2.resize(frames[7].image, (60, 80), interpolation=cv2.INTER_AREA))
    assert pictures.make(StillRequest(job_id)).shape == (160, 120, 3)
    before = by_index.path(pictures.data).stat().st_mtime_ns
    pictures.make(by_index)
    assert by_index.path(pictures.data).stat().st_mtime_ns == before
    assert os.listdir(pictures.spool) == []


def test_what_was_found_is_drawn_and_drawn_anew_when_the_result_changes(pictures: Pictures) -> None:
    job_id = pictures.video()
    document = pictures.data / output_key(job_id)
    ball = {"bbox": [20.0, 60.0, 60.0, 100.0], "class": "Größe 東京", "class_id": 0, "confidence": 0.9}
    line = {"bbox": [-5.0, 20.0, 900.0, 30.0], "confidence": 0.9, "text": "hostile \u202e\x00 text" * 500}
    write_document(document, (frame(n, n / 25, [line], [ball]) for n in range(0, 20, 5)))
    plain = pictures.make(StillRequest(job_id, index=7))
    request = StillRequest(job_id, index=7, boxes=True)
    drawn = pictures.make(request)
    assert drawn.shape == plain.shape
    edge = drawn[80, 20].astype(int) - [0x8A, 0xC3, 0x4C]
    assert np.abs(edge).max() < 40
    assert alike(drawn[105:, 70:], plain[105:, 70:])
    assert pictures.make(StillRequest(job_id, boxes=True, width=80)).shape == (60, 80, 3)
    write_document(document, (frame(n, n / 25, [], []) for n in range(20)))
    with pytest.raises(NotMadeYet):
        files.open_still(pictures.data, request)
    assert alike(pictures.make(request), plain)


def test_what_has_no_picture_has_a_sentence_that_is_kept(pictures: Pictures) -> None:
    job_id, torn = pictures.video(), new_job_id()
    (pictures.data / input_key(torn)).write_bytes(BEGINNING + bytes(2000))
    assert str(pictures.problem(StillRequest(job_id, index=20))) == "The video has 20 frames, from 0 to 19."
    assert str(pictures.problem(StillRequest(job_id, seconds=5.0))) == "The video ends at 0.800 s."
    problem = pictures.problem(StillRequest(torn))
    assert not problem.passing
    assert str(problem).endswith(".")
    kept = pictures.data / "stills" / torn / f"{StillRequest(torn).name}.problem"
    before = kept.stat().st_mtime_ns
    pictures.problem(StillRequest(torn))
    assert kept.stat().st_mtime_ns == before
    os.utime(kept, (time.time() - 4000,) * 2)  # settings may have changed
    pictures.problem(StillRequest(torn))
    assert kept.stat().st_mtime_ns > before


def test_the_limits_of_the_pipeline_hold(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, max_frame_pixels=1000)
    assert "max_frame_pixels" in str(pictures.problem(StillRequest(pictures.video())))
    pictures.stills.close()


def test_a_full_disk_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = Pictures(tmp_path)
    request = StillRequest(pictures.video())
    full = Stills(pictures.settings.model_copy(update={"min_free_bytes": 1 << 60}))
    files.ask_for(pictures.spool, request)
    full.step()
    with pytest.raises(NoStill, match="too full") as caught:
        files.open_still(pictures.data, request)
    assert caught.value.passing
    problem = pictures.data / "stills" / request.job_id / f"{request.name}.problem"
    os.utime(problem, (time.time() - 11,) * 2)
    assert pictures.make(request).shape == (120, 160, 3)
    pictures.stills.close()


def test_a_process_that_is_killed_in_the_middle_is_started_anew(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = pictures.video()
    pictures.make(StillRequest(job_id, index=1))
    child = pictures.stills._process._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL))
    killer.start()
    problem = pictures.problem(StillRequest(job_id, index=2))
    killer.join()
    assert problem.passing
    assert pictures.make(StillRequest(job_id, index=3)).shape == (120, 160, 3)
    second = pictures.stills._process._child
    assert second is not None
    os.kill(second.pid, signal.SIGKILL)  # while it has nothing to do
    second.wait()
    assert pictures.make(StillRequest(job_id, index=4)).shape == (120, 160, 3)
    monkeypatch.setattr(client, "MOST_SECONDS", 0.3)
    third = pictures.stills._process._child
    assert third is not None
    os.kill(third.pid, signal.SIGSTOP)
    assert "within 0 s" in str(pictures.problem(StillRequest(job_id, index=5)))
    assert not alive(third.pid)


def test_a_video_that_crashes_the_decoder_is_not_tried_again_and_again(pictures: Pictures) -> None:
    job_id = pictures.video()
    pictures.make(StillRequest(job_id, index=1))
    child = pictures.stills._process._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, lambda: (os.kill(child.pid, signal.SIGSEGV), os.kill(child.pid, signal.SIGCONT)))
    killer.start()
    problem = pictures.problem(StillRequest(job_id, index=2))
    killer.join()
    assert (problem.passing, "SIGSEGV" in str(problem)) == (False, True)


def test_an_idle_process_is_ended(pictures: Pictures) -> None:
    pictures.make(StillRequest(pictures.video()))
    child = pictures.stills._process._child
    assert child is not None
    pictures.now += client.IDLE_SECONDS / 2
    pictures.stills.step()
    assert alive(child.pid)
    pictures.now += client.IDLE_SECONDS
    pictures.stills.step()
    assert not alive(child.pid)


def test_the_oldest_pictures_go_when_there_are_too_many(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, keep_stills_bytes=20 * 4096)
    job_id = pictures.video()
    for index in range(12):
        pictures.make(StillRequest(job_id, index=index, width=16))
        pictures.problem(StillRequest(job_id, index=100 + index))
    kept = pictures.kept()
    assert 12 <= len(kept) <= 20
    assert f"{StillRequest(job_id, index=11, width=16).name}.jpg" in kept
    assert f"{StillRequest(job_id, index=0, width=16).name}.jpg" not in kept
    pictures.stills.close()


def test_pictures_go_with_their_video(pictures: Pictures) -> None:
    stays, goes = pictures.video(), pictures.video()
    for job_id in (stays, goes):
        pictures.make(StillRequest(job_id))
    (pictures.data / input_key(goes)).unlink()
    files.ask_for(pictures.spool, StillRequest(goes, index=3))
    pictures.now += 100
    pictures.stills.step()
    assert [path.name for path in (pictures.data / "stills").iterdir()] == [stays]


def test_nothing_is_left_of_a_picture_whose_video_is_deleted_while_it_is_made(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = pictures.video()
    make = StillsProcess.make

    def deleted(process: StillsProcess, video: Path, *rest: object) -> None:
        make(process, video, *rest)  # type: ignore[arg-type]
        video.unlink()

    monkeypatch.setattr(StillsProcess, "make", deleted)
    files.ask_for(pictures.spool, StillRequest(job_id))
    pictures.stills.step()
    assert not (pictures.data / "stills" / job_id).exists()


@pytest.mark.parametrize(
    "name",
    ["x", "../../etc/passwd", f"{new_job_id()}_1_q_w0_0", f"{new_job_id()}_0_n_w0_0", f"{'-' * 36}_1_n_w0_0", "\udcff"],
)
def test_a_request_that_says_nothing_is_removed(pictures: Pictures, name: str) -> None:
    (pictures.spool / f"{name.replace('/', '')}{files.REQUEST}").touch()
    pictures.stills.step()
    assert os.listdir(pictures.spool) == []
    assert pictures.kept() == []


def test_a_request_is_its_name() -> None:
    job_id = new_job_id()
    requests = [
        StillRequest(job_id),
        StillRequest(job_id, index=2**53, boxes=True),
        StillRequest(job_id, seconds=3.25, width=160),
        StillRequest(job_id, seconds=1e8),
    ]
    assert [StillRequest.from_name(request.name) for request in requests] == requests


def test_too_many_requests_are_refused(pictures: Pictures) -> None:
    job_id = new_job_id()
    for index in range(files.MOST_REQUESTS):
        files.ask_for(pictures.spool, StillRequest(job_id, index=index))
    with pytest.raises(NoStill, match="are waiting") as caught:
        files.ask_for(pictures.spool, StillRequest(job_id))
    assert caught.value.passing


def test_the_analysed_frame_before_an_index_or_a_time_is_found(tmp_path: Path) -> None:
    block = {"bbox": [0, 0, 1, 1], "confidence": 0.9, "text": '\n{"frame_index": 9' * 20}
    for count in (1, 2, 3, 50):
        frames = [frame(3 * n, 0.12 * n, [block] * (n % 3), []) for n in range(count)]
        document = write_document(tmp_path / "r.json", frames)
        for wanted in range(3 * count + 2):
            best = frames[min(wanted // 3, count - 1)]
            assert analysed_frame(document, index=wanted) == json.loads(json.dumps(best))
            assert analysed_frame(document, seconds=wanted * 0.04 + 0.001) == json.loads(json.dumps(best))
    assert analysed_frame(tmp_path / "none.json", index=1) is None
    for damaged in (b"", b"{}", document.read_bytes()[:300], b'"results": [\n{"frame_index": x\n'):
        (tmp_path / "damaged.json").write_bytes(damaged)
        assert analysed_frame(tmp_path / "damaged.json", seconds=1.0) is None
    write_document(document, [])
    assert analysed_frame(document, index=0) is None


def test_requests_that_come_at_once_are_served_one_by_one_by_the_thread(pictures: Pictures) -> None:
    job_id = pictures.video()
    requests = [StillRequest(job_id, index=index) for index in range(10)]
    pictures.stills.start()
    for request in requests:
        files.ask_for(pictures.spool, request)
    deadline = time.monotonic() + 30
    while not all(request.path(pictures.data).exists() for request in requests):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pictures.stills.stop()
    assert pictures.stills._process._child is None
