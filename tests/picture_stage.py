"""A stage that loads no model and says of every picture which it is, so that no document hides a wrong one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import Interrupted
from daemon.jobs import Options
from daemon.pipeline import part_service
from daemon.pipeline import service as service_module
from daemon.pipeline.parts import join
from daemon.pipeline.pipelines import Pipeline
from daemon.pipeline.plans import PartPlan
from daemon.pipeline.records import Analysis, Detection, ModelInfo, RunReport, TextBlock, VideoInfo
from daemon.pipeline.seams import NotExact
from daemon.pipeline.service import VideoFilePipelineService
from daemon.pipeline.video_ranges import RangedVideo
from daemon.settings import Settings

MODEL = ModelInfo("pictures", "objects", "none", "cpu", "fp32", None, None)


class PictureStage:
    """Names each picture by its CRC, and its place in the segment, which must not hang on where a run began."""

    name, needs, gives = "pictures", frozenset[str](), frozenset({"detections", "text_blocks"})

    def __init__(self) -> None:
        self.seen = self._in_segment = 0

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        return [MODEL]

    def new_segment(self) -> None:
        self._in_segment = 0

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        return [self._named(each) for each in batch]

    def _named(self, each: Analysis) -> Analysis:
        self.seen += 1
        self._in_segment += 1
        crc = zlib.crc32(each.frame.image.data)
        found = Detection((0, 0, 1, 1), f"class {crc % 7}", crc % 7, 0.5)
        block = TextBlock((0, 0, 1, 1), f"{crc:08x} {self._in_segment}", 1.0)
        return replace(each, detections=(found,) * (crc % 3), text_blocks=(block,))


class Bench:
    """Runs videos through that stage, and can be stopped anywhere."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.stage = PictureStage()
        self.videos: list[RangedVideo] = []
        """Every one that was opened, in order."""
        pipeline = Pipeline("pictures", "Names pictures.", lambda loaded: [self.stage])
        for module in (service_module, part_service):
            monkeypatch.setattr(module, "get_pipeline", lambda name: pipeline)
            monkeypatch.setattr(module, "RangedVideo", self._open)
        self.settings = Settings.load(home=home, **{"segment_frames": 25, "containers": "all", **settings})
        self.service = VideoFilePipelineService(self.settings)

    def _open(self, *arguments: Any) -> RangedVideo:
        self.videos.append(RangedVideo(*arguments))
        return self.videos[-1]

    def run(self, clip: Path, stop_after: int | None = None, **options: Any) -> RunReport | None:
        """Run a video; None if it was stopped, once so many of its pictures were saved."""
        self.stage.seen = 0
        checkpoint = clip.with_name(f"{clip.name}.json.checkpoint")

        def should_stop() -> bool:
            if stop_after is None or not checkpoint.exists():
                return False
            frames: int = json.loads(checkpoint.read_text())["summary"]["frame_count"]
            return frames >= stop_after

        try:
            return self.service.run_on_file(clip, "pictures", should_stop=should_stop, **options)
        except Interrupted:
            return None

    def stop_in_turn(self, clip: Path, turn: int) -> None:
        """Run a video and stop as soon as it has been opened so many times."""
        self.videos.clear()
        with pytest.raises(Interrupted):
            self.service.run_on_file(clip, "pictures", should_stop=lambda: len(self.videos) >= turn)

    def document(self, clip: Path, **options: Any) -> bytes:
        """Return the document of one run; nothing is left of it."""
        output = clip.with_name("whole.json")
        self.run(clip, output_path=output, source_name=clip.name, **options)
        content = output.read_bytes()
        output.unlink()
        return content

    def plan(self, clip: Path, group_seconds: float = 0.01, **options: Any) -> PartPlan | None:
        """Return the plan of a video, handed over as a file; by default a segment makes a part."""
        asked = Options(**options)
        plan = self.service.parts.plan(clip, "pictures", asked, group_seconds=group_seconds, source_name=clip.name)
        if plan is None:
            return None
        plan.save(clip.with_name("plan"))
        return PartPlan.load(clip.with_name("plan"))

    def parts_of(self, clip: Path, plan: PartPlan) -> list[Path]:
        """Run the parts of a plan, the last one first."""
        paths = [clip.with_name(f"part-{number}") for number in range(len(plan))]
        for number in reversed(range(len(plan))):
            self.service.parts.run_part(plan, number, clip, paths[number])
        return paths

    def joined(self, clip: Path, **options: Any) -> bytes | None:
        """Return the document of a video that was run in parts; None if it has to be run in one piece."""
        plan = self.plan(clip, **options)
        if plan is None:
            return None
        try:
            join(plan, self.parts_of(clip, plan), clip.with_name("joined.json"))
        except NotExact:
            return None
        return clip.with_name("joined.json").read_bytes()


@contextmanager
def counted(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Keep the arguments of every call of a function while the block runs."""
    calls: list[Any] = []
    function: Callable[..., Any] = getattr(owner, name)

    def call(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, call)
        yield calls
