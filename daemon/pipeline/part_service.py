"""PartService: plans how a video is cut into parts, and analyses one of them. ``parts.join`` makes the document."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from daemon.errors import Interrupted
from daemon.jobs import Options
from daemon.pipeline.account import frame_account
from daemon.pipeline.clocks import PROGRESS_SECONDS, STOPPED, Hashing, every
from daemon.pipeline.fingerprint import fingerprint
from daemon.pipeline.frame_index import FrameIndex
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import file_sha256
from daemon.pipeline.parts import SeamRecorder, part_file
from daemon.pipeline.pipelines import Pipeline, check_fit, get_pipeline
from daemon.pipeline.plans import GROUP_SECONDS, USUAL_FPS, PartPlan, cut
from daemon.pipeline.records import Frame, Progress, Stage, VideoInfo
from daemon.pipeline.results import analysed_total, head_of
from daemon.pipeline.seams import NotExact
from daemon.pipeline.stages import StageChain, clocks_of, converters
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_ranges import RangedVideo
from daemon.settings import Settings

log = logging.getLogger(__name__)


class PartService:
    """Plans and runs parts of videos, with the models of one process.

    Args:
        settings: Segment length, and what frames depend on.
        loaded: The models.
        limits: What is refused.
    """

    def __init__(self, settings: Settings, loaded: LoadedModels, limits: Limits) -> None:
        self._settings = settings
        self._loaded = loaded
        self._limits = limits

    def plan(
        self,
        file_path: Path,
        pipeline_id: str,
        options: Options,
        *,
        source_name: str | None = None,
        group_seconds: float = GROUP_SECONDS,
        least_parts: int = 1,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[], None] = lambda: None,
    ) -> PartPlan | None:
        """Cut a video into parts. Its coded frames are read, and none but the first is decoded.

        Args:
            file_path: The video.
            pipeline_id: Which pipeline.
            options: How the video is sampled.
            source_name: The video's name in the document; its file name if not given.
            group_seconds: Length of a part in seconds of video, about.
            least_parts: Parts get shorter, down to a segment, until there are so many.
            should_stop: Asked again and again.
            on_step: Called when something was done of it.

        Returns:
            The plan; None if the video is to be run in one piece.

        Raises:
            BadVideo, BadOptions, ModelError, Interrupted: as ``VideoFilePipelineService.run_on_file``.
        """
        pipeline = get_pipeline(pipeline_id)
        stages = pipeline.stages(self._loaded)
        check_fit(stages)
        hashed = Hashing(should_stop, on_step)
        with closing(RangedVideo(file_path, self._limits)) as video:
            try:
                index = video.make_index(hashed.step)
            except NotExact as why:
                log.info("%s: it is not cut into parts, as %s", file_path.name, why)
                return None
            parts = self._cut(video, index, options, group_seconds, least_parts)
            if len(parts) < 2:
                return None
            source = {
                "name": source_name or file_path.name,
                "sha256": file_sha256(file_path, hashed.step),
                "size_bytes": file_path.stat().st_size,
            }
            return self._plan(video, index, parts, source, file_path, pipeline, stages, options)

    def _cut(
        self, video: RangedVideo, index: FrameIndex, options: Options, group_seconds: float, least_parts: int
    ) -> list[tuple[int, int]]:
        rate = (video.info.fps or USUAL_FPS) / options.frame_stride
        analysed = analysed_total(len(index), options) or 0
        group_frames = group_seconds * rate
        if least_parts > 1:
            group_frames = min(group_frames, analysed / least_parts)
        return cut(index, analysed, options.frame_stride, self._settings.segment_frames, group_frames)

    def _plan(
        self,
        video: RangedVideo,
        index: FrameIndex,
        parts: Sequence[tuple[int, int]],
        source: dict[str, object],
        file_path: Path,
        pipeline: Pipeline,
        stages: Sequence[Stage],
        options: Options,
    ) -> PartPlan:
        video.count_as_run(index, options.frame_stride, options.max_frames)
        return PartPlan(
            index=index,
            parts=tuple(parts),
            fingerprint=fingerprint(self._settings, file_path, video.info, stages, str(source["sha256"])),
            head=_head_of(stages, video.info, options, pipeline.pipeline_id),
            pipeline_id=pipeline.pipeline_id,
            frame_stride=options.frame_stride,
            max_frames=options.max_frames,
            source=source,
            video=video.info.to_record(),
            account=frame_account(video.count, ()),
            warnings=tuple(pipeline.warnings(self._loaded)),
            frames_total=analysed_total(video.count.expected, options),
            device=self._loaded.device,
        )

    def still_holds(self, plan: PartPlan, file_path: Path) -> bool:
        """Tell whether a plan is of what is loaded here, and of a video like this, whose content is not read.

        Raises:
            BadVideo, ModelError: as ``VideoFilePipelineService.run_on_file``.
        """
        stages = get_pipeline(plan.pipeline_id).stages(self._loaded)
        with closing(RangedVideo(file_path, self._limits)) as video:
            return self._is_of(plan, file_path, video, stages)

    def _is_of(self, plan: PartPlan, file_path: Path, video: RangedVideo, stages: Sequence[Stage]) -> bool:
        options = Options(plan.frame_stride, plan.max_frames)
        head = _head_of(stages, video.info, options, plan.pipeline_id)  # it names the weights and the precision
        ours = fingerprint(self._settings, file_path, video.info, stages, plan.source["sha256"])
        return (ours, head) == (plan.fingerprint, plan.head)

    def run_part(
        self,
        plan: PartPlan,
        number: int,
        file_path: Path,
        output_path: Path,
        *,
        spans: Sequence[tuple[int, int]] | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Analyse a part of a video and write it to a file.

        Args:
            plan: Of the video, made by a process that has loaded the same models.
            number: Of the part.
            file_path: The video.
            output_path: Where the part appears, whole.
            spans: Bytes of the video that are there (``PartRequest.spans``).
            on_progress: Called about twice a second; the frames are those of the part.
            should_stop: Asked at each batch.

        Returns:
            Seconds that each stage was busy.

        Raises:
            NotExact: the video is not as the plan says, or what analyses it is; run it in one piece.
            BadVideo, ModelError, Interrupted: as ``VideoFilePipelineService.run_on_file``.
        """
        stages = get_pipeline(plan.pipeline_id).stages(self._loaded)
        clocks, seams = clocks_of(stages), SeamRecorder(plan.frames_of(number))
        search = Hashing(should_stop)
        with ExitStack() as stack:
            video = stack.enter_context(closing(RangedVideo(file_path, self._limits)))
            video.spans = spans
            if not self._is_of(plan, file_path, video, stages):
                raise NotExact("the video, or what analyses it, is not that of the plan")
            part = stack.enter_context(part_file(output_path))

            def report() -> None:
                steps = video.count.read + search.steps + sum(clock.steps for clock in clocks.values())
                steps += sum(getattr(stage, "steps", 0) for stage in stages)
                on_progress(Progress(part.summary.frame_count, plan.frames_of(number), steps))

            stack.enter_context(every(PROGRESS_SECONDS, report))
            frames = seams.passed(_frames_of(plan, number, video, search.step))
            chain = StageChain(stages, clocks, self._settings, plan.frame_stride)
            for batch in stack.enter_context(chain.analysed(frames, video.info)):
                if should_stop():
                    raise Interrupted(STOPPED)
                with clocks["write"].running():
                    part.write(batch)
            part.finish(plan, number, seams)
        return {name: round(clock.seconds, 3) for name, clock in clocks.items()}


def _head_of(stages: Sequence[Stage], info: VideoInfo, options: Options, pipeline_id: str) -> str:
    models = [model for stage in stages for model in stage.models(info)]
    return head_of(models, options, pipeline_id).decode()


def _frames_of(plan: PartPlan, number: int, video: RangedVideo, step: Callable[[], None]) -> Iterator[Frame]:
    """Return the frames of a part and the one behind; of the last part up to the end of the file, if that is wanted."""
    first, stop = plan.parts[number]
    video.go_to(plan.index, first * plan.frame_stride, step)
    most = plan.max_frames if plan.is_last(number) else stop + 1
    return video.frames(plan.frame_stride, most, skip=first, threads=converters(plan.device))
