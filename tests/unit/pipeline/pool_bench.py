"""A pool whose pipeline processes are played by their slots' threads, with a stage that names every picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import PipelineDied
from daemon.pipeline import part_service
from daemon.pipeline import pool as pool_module
from daemon.pipeline import service as service_module
from daemon.pipeline.client import Ready, seconds_of
from daemon.pipeline.pipelines import Pipeline
from daemon.pipeline.pool import PipelinePool
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.serving import Serving
from daemon.settings import Settings
from tests.picture_stage import PictureStage

Act = Callable[[str, Mapping[str, Any]], None]


class Told:
    """Hands progress on, as the pipe to the parent does."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress

    def send(self, kind: str, **content: Any) -> None:
        self._on_progress(Progress(**content))


class InThread:
    """A pipeline process in the thread of its slot. ``before`` is called with each request."""

    before: Act = staticmethod(lambda kind, wanted: None)
    starts_for_work = True

    def __init__(
        self, settings: Settings, cores: Sequence[int], memory_limit: int | None, turn: threading.Lock
    ) -> None:
        self.settings, self.cores, self.memory_limit = settings, cores, memory_limit
        self._service = VideoFilePipelineService(settings)
        self.models: list[dict[str, Any]] = []
        self.ready: Ready | None = None
        self.is_up = False
        self.starts = 0

    def start(self, should_stop: Callable[[], bool]) -> Ready:
        self.starts += not self.is_up
        self.is_up, self.ready = True, Ready("cpu", self.models)
        return self.ready

    def _call(
        self,
        kind: str,
        wanted: Mapping[str, Any],
        should_stop: Callable[[], bool],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> dict[str, Any]:
        try:
            self.before(kind, wanted)
        except PipelineDied:
            self.is_up = False
            raise
        return Serving(self._service, Told(on_progress), should_stop)({"kind": kind, **wanted})

    def plan(self, request: RunRequest, path: Path, should_stop: Callable[[], bool], least_parts: int) -> bool:
        how = {"plan_path": str(path), "group_seconds": self.settings.group_seconds, "least_parts": least_parts}
        return bool(self._call("plan", {**request.to_record(), **how}, should_stop)["planned"])

    def run_part(
        self, request: PartRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> dict[str, float]:
        return seconds_of(self._call("part", request.to_record(), should_stop, on_progress))

    def run(
        self, request: RunRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> RunReport:
        return RunReport(**self._call("run", request.to_record(), should_stop, on_progress))

    def resident_bytes(self) -> int:
        return 5

    def close(self) -> None:
        self.is_up = False


class PoolBench:
    """A pool, and the document of one process to compare with."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, slots: int = 2, **settings: Any) -> None:
        pipeline = Pipeline("pictures", "Names pictures.", lambda loaded: [PictureStage()])
        for module in (service_module, part_service):
            monkeypatch.setattr(module, "get_pipeline", lambda name: pipeline)
        monkeypatch.setattr(pool_module, "PipelineProcess", InThread)
        monkeypatch.setattr(InThread, "before", staticmethod(self._note))
        self.settings = Settings.load(home=home, **{"segment_frames": 25, "containers": "all", **settings})
        self.asked: list[str] = []
        """What the processes were asked for, in order: plan, part 0, run …"""
        self.act: Act = lambda kind, wanted: None
        """What is done before it."""
        self._lock = threading.Lock()
        self.pool = PipelinePool(self.settings, slots)
        self.pool.start()

    def _note(self, kind: str, wanted: Mapping[str, Any]) -> None:
        with self._lock:
            self.asked.append(f"{kind} {wanted['number']}" if kind == "part" else kind)
        self.act(kind, wanted)

    @staticmethod
    def request(clip: Path, **options: Any) -> RunRequest:
        wanted = {"frame_stride": 1, "max_frames": None, **options}
        return RunRequest(
            file_path=clip,
            pipeline_id="pictures",
            output_path=clip.with_name("out.json"),
            source_name="match.mp4",
            **wanted,
        )

    def run(self, clip: Path, **options: Any) -> bytes:
        """Return the document of a run; nothing else is left of it."""
        request = self.request(clip, **options)
        self.report = self.pool.run(request)
        assert not request.parts.exists()
        return request.output_path.read_bytes()

    def alone(self, clip: Path, **options: Any) -> bytes:
        """Return the document of one process."""
        output = clip.with_name("alone.json")
        service = VideoFilePipelineService(self.settings)
        self.report_alone = service.run_on_file(
            clip, "pictures", **options, output_path=output, source_name="match.mp4"
        )
        return output.read_bytes()
