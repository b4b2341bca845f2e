"""Faults of the pipeline and the decoder: group D of the fault list in docs/reliability.md."""

from __future__ import annotations

import json
import os
import stat
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from daemon.errors import TransientError
from daemon.jobs import JobStatus
from daemon.pipeline import engines
from daemon.pipeline.engines import TesseractReader
from daemon.pipeline.video import Video
from tests.clips import draw_frame, make_clip
from tests.system.running import running, wait_for

pytestmark = pytest.mark.slow


def program(folder: Path, name: str, text: str) -> Path:
    """Write a shell script that stands in the way of a program."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.needs("tesseract")
def test_each_process_that_reads_text_has_one_thread(tmp_path: Path) -> None:
    """Tesseract by default starts a thread a core for each crop, and is then slower by far."""
    said = tmp_path / "said"
    real = next(p for p in os.environ["PATH"].split(":") if (Path(p) / "tesseract").exists())
    program(tmp_path / "bin", "tesseract", f'echo "$OMP_THREAD_LIMIT" >> {said}\nexec {real}/tesseract "$@"')
    clip = make_clip(tmp_path / "clip.mp4", frames=2, text="GOAL 42")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    home = tmp_path / "home"
    home.mkdir()
    with running(home, DROPFRAME_TEXT_ENGINE="tesseract", DROPFRAME_DEFAULT_PIPELINE="ocr_only", PATH=path) as daemon:
        daemon.drop(clip)
        assert daemon.wait_job("clip.mp4").status is JobStatus.COMPLETED
        assert b"GOAL 42" in daemon.results()["clip.mp4.json"]
    assert set(said.read_text().split()) == {"1"}


HANGS_ON = "LEAGUE TABLE AFTER TWELVE"
"""A line that is much wider than others."""


def hanging_on_wide_pictures(folder: Path) -> str:
    """Put a program in the way of Tesseract that never returns from a picture of more than 500 pixels' width.

    Returns:
        The PATH with which it is found.
    """
    real = next(p for p in os.environ["PATH"].split(":") if (Path(p) / "tesseract").exists())
    width = 'od -An -j16 -N4 -tu4 --endian=big "$picture"'  # as a PNG says it
    program(
        folder,
        "tesseract",
        '[ "$1" = --version ] || while read -r picture || [ "$picture" ]; do\n'
        f'[ $({width}) -gt 500 ] && exec sleep 600\ndone < "$1"\n'
        f'exec {real}/tesseract "$@"',
    )
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.needs("tesseract")
def test_text_reading_that_never_returns_is_given_up_and_the_job_goes_on(tmp_path: Path) -> None:
    """The frames are marked; other text of the same batch, before and behind, is read."""
    settings = {
        "DROPFRAME_TEXT_ENGINE": "tesseract",
        "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
        "DROPFRAME_STALL_SECONDS": "16",
        "PATH": hanging_on_wide_pictures(tmp_path / "bin"),
    }
    texts = ("GOAL 42", "GOAL 42", HANGS_ON, HANGS_ON, "TIME 90")
    clip = make_clip(tmp_path / "clip.mp4", frames=6, text=texts)
    home = tmp_path / "home"
    home.mkdir()
    with running(home, **settings) as daemon:
        daemon.drop(clip)
        job = daemon.wait_job("clip.mp4", seconds=120)
        assert (job.status, job.attempts) == (JobStatus.COMPLETED, 1)
        document = json.loads(daemon.results()["clip.mp4.json"])
    frames = [frame["result"] for frame in document["results"]]
    assert [frame["text"] for frame in frames] == ["GOAL 42", "GOAL 42", "", "", "TIME 90", "TIME 90"]
    assert [len(frame.get("text_unread", ())) for frame in frames] == [0, 0, 1, 1, 0, 0]
    assert document["summary"]["frames_unread"] == 2
    (warning,) = document["summary"]["warnings"]
    assert "could not be read in 2 of the frames" in warning


def test_a_text_engine_that_never_returns_from_anything_fails_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is not the video's fault, so nothing is given up: the job is tried again, and then failed."""
    hangs = program(
        tmp_path / "bin", "tesseract", '[ "$1" = --version ] && { echo tesseract 5.3.0; exit; }\nexec sleep 600'
    )
    monkeypatch.setattr(engines.pytesseract.pytesseract, "tesseract_cmd", str(hangs))
    monkeypatch.setattr(engines, "LEAST_SECONDS", 0.5)
    with pytest.raises(TransientError, match="not even from an empty picture"):
        list(TesseractReader(stall_seconds=3)([np.zeros((30, 100, 3), np.uint8)] * 4))


def test_of_several_video_tracks_the_first_is_used(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        tracks = []
        for size in ((64, 48), (128, 96)):
            track = container.add_stream("libx264", rate=25)
            track.width, track.height = size
            tracks.append(track)
        for index in range(5):
            for track in tracks[: 2 if index < 3 else 1]:
                picture = draw_frame(index, (track.width, track.height))
                container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for track in tracks:
            container.mux(track.encode(None))
    video = Video(path)
    frames = list(video.frames())
    assert (len(frames), frames[0].image.shape) == (5, (48, 64, 3))
    assert video.count.missing == 0


def test_a_long_sound_before_the_pictures_does_no_harm(tmp_path: Path) -> None:
    """Some readers give up when thousands of packets of another track come first."""
    path, rate = tmp_path / "late.mp4", 8000
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=rate, layout="mono")
        pictures = container.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.time_base = 64, 48, Fraction(1, 25)
        for number in range(6000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, number * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        for index in range(5):
            shown = av.VideoFrame.from_ndarray(draw_frame(index, (64, 48)), format="rgb24")
            shown.pts, shown.time_base = index, Fraction(1, 25)
            container.mux(pictures.encode(shown))
        container.mux(pictures.encode(None))
    assert len(list(Video(path).frames())) == 5


def test_without_a_gpu_auto_is_the_cpu_and_the_result_says_so(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2, text="GOAL 42")
    with running(tmp_path, DROPFRAME_DEVICE="auto", CUDA_VISIBLE_DEVICES="") as daemon:
        daemon.drop(clip, "a.mp4")
        assert daemon.wait_job("a.mp4").device == "cpu"
        models = json.loads(daemon.results()["a.mp4.json"])["models"]
        assert {model["device"] for model in models} == {"cpu"}


# D18: an edit while it is decoded.


def test_a_video_that_is_edited_while_it_is_decoded_has_a_result_of_its_last_content_only(tmp_path: Path) -> None:
    first = make_clip(tmp_path / "first.mp4", frames=300, size=(320, 240), text="FIRST")
    last = make_clip(tmp_path / "last.mp4", frames=20, size=(320, 240), text="LAST")
    with running(tmp_path) as daemon:
        daemon.drop(first, "clip.mp4")
        running_job = daemon.wait_job(
            "clip.mp4", JobStatus.RUNNING, when=lambda job: 0 < job.frames_processed < (job.frames_total or 0)
        )
        with (daemon.data / running_job.input_path).open("r+b", buffering=0) as stored:
            stored.write(last.read_bytes())
            stored.truncate()
        wait_for(lambda: len(daemon.jobs()) == 2 and all(job.ended for job in daemon.jobs()), 120)
        old, new = sorted(daemon.jobs(), key=lambda job: job.sequence)
        assert (old.job_id, old.status) == (running_job.job_id, JobStatus.FAILED)
        assert "written to" in (old.error_message or "")
        assert new.status is JobStatus.COMPLETED
        assert json.loads(daemon.results()["clip.mp4.json"])["summary"]["frame_count"] == 20
