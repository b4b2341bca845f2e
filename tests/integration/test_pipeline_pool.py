"""Several pipeline processes share one video, and the document is that of one of them alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import Interrupted
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.pool import PipelinePool
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings
from tests.clips import make_clip
from tests.range_clips import STRUCTURES
from tests.system.running import wait_for

pytestmark = pytest.mark.slow
FRAMES = 120


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings.load(home=home, segment_frames=20, group_seconds=0.4, executor="pool", workers=2)


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[PipelinePool]:
    pool = PipelinePool(settings, settings.workers)
    pool.start()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def alone(settings: Settings) -> Iterator[PipelineProcess]:
    process = PipelineProcess(settings)
    yield process
    process.close()


@pytest.fixture(scope="module")
def shared_threads() -> frozenset[str]:
    return frozenset({"pipeline-answers", "slot-0", "slot-1"})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return make_clip(path, frames=FRAMES, text=tuple(f"LINE {n // 9}" for n in range(FRAMES)))


@pytest.fixture(scope="module")
def expected(alone: PipelineProcess, clip: Path) -> bytes:
    return made_by(alone, clip)


def asked(clip: Path, name: str = "out.json") -> RunRequest:
    return RunRequest(clip, "ocr_only", 1, None, clip.with_name(name), "match.mp4")


def made_by(process: PipelineProcess, clip: Path) -> bytes:
    process.run(asked(clip, "alone.json"))
    return clip.with_name("alone.json").read_bytes()


def result(clip: Path) -> bytes:
    assert not clip.with_name("out.json.parts").exists()
    return clip.with_name("out.json").read_bytes()


def test_two_slots_make_the_document_of_one_process(pool: PipelinePool, clip: Path, expected: bytes) -> None:
    told: list[Progress] = []
    report = pool.run(asked(clip), told.append)
    assert report.frames_processed == report.frames_total == FRAMES
    assert [p.frames_processed for p in told] == sorted(p.frames_processed for p in told)
    assert result(clip) == expected


def test_what_cannot_be_cut_runs_in_one_piece(pool: PipelinePool, alone: PipelineProcess, tmp_path: Path) -> None:
    damaged = STRUCTURES["damaged"](tmp_path / "a.mp4")
    pool.run(asked(damaged))
    assert result(damaged) == made_by(alone, damaged)


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_killed_costs_one_part(pool: PipelinePool, clip: Path, expected: bytes, number: int) -> None:
    process = wait_for(lambda: pool._slots[number].is_up and pool._slots[number].process, 60)
    assert process._child is not None
    pid = process._child._process.pid
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed and progress.frames_processed:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    pool.run(asked(clip), kill)
    assert killed
    assert result(clip) == expected


def test_a_run_that_is_stopped_keeps_its_parts(pool: PipelinePool, clip: Path, expected: bytes) -> None:
    folder = clip.with_name("out.json.parts")
    with pytest.raises(Interrupted):
        pool.run(asked(clip), should_stop=lambda: (folder / "000001").exists())
    kept = {path.name for path in folder.iterdir()}
    assert "000001" in kept
    told: list[Progress] = []
    pool.run(asked(clip), told.append)
    assert min(progress.frames_processed for progress in told) >= 20
    assert result(clip) == expected
