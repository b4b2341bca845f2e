"""VideoFilePipelineService.run_on_file: a video goes in, a result document comes out. The stages, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from daemon.errors import Interrupted
from daemon.jobs import Options
from daemon.pipeline.account import frame_account, summary_warnings
from daemon.pipeline.clocks import PROGRESS_SECONDS, STOPPED, Hashing, every, never_down
from daemon.pipeline.code_version import code_version
from daemon.pipeline.fingerprint import fingerprint
from daemon.pipeline.frame_index import FrameIndex
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import file_sha256
from daemon.pipeline.part_service import PartService
from daemon.pipeline.pipelines import Pipeline, check_fit, get_pipeline
from daemon.pipeline.records import Frame, Progress, RunReport, Stage
from daemon.pipeline.results import ResultsSerializer, analysed_total
from daemon.pipeline.seams import NotExact, Seam, after_seam
from daemon.pipeline.stages import StageChain, clocks_of, converters
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_ranges import RangedVideo
from daemon.settings import Settings

log = logging.getLogger(__name__)


class VideoFilePipelineService:
    """Runs pipelines on files, with models that stay warm from one to the next.

    Args:
        settings: Limits, segment length, and what the models need.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        code_version(())  # of the code that runs, should another be installed meanwhile
        self.loaded = LoadedModels(settings)
        self._limits = Limits.of(settings)
        self.parts = PartService(settings, self.loaded, self._limits)

    def run_on_file(
        self,
        file_path: Path,
        pipeline_id: str,
        frame_stride: int = 1,
        max_frames: int | None = None,
        *,
        output_path: Path | None = None,
        source_name: str | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """Analyse a video and write its result document.

        A run that was interrupted goes on after its last finished segment when it is called again with the
        same arguments, and ends with the same bytes as one that was not.

        Args:
            file_path: The video.
            pipeline_id: Which pipeline.
            frame_stride: Analyse every n-th frame.
            max_frames: Analyse this many frames at most; None means all.
            output_path: Where the document goes; ``<file_path>.json`` if not given.
            source_name: The video's name in the document; its file name if not given.
            on_progress: Called about twice a second.
            should_stop: Asked at each batch.

        Raises:
            BadVideo: the video cannot be opened or is over a limit.
            BadOptions: there is no such pipeline, or an option has a wrong value.
            ModelError: the pipeline needs weights that are missing or unusable, or that saw nothing right in any frame.
            Interrupted: ``should_stop`` said so; finished segments are kept.
        """
        options = Options.from_mapping({"frame_stride": frame_stride, "max_frames": max_frames})
        output_path = output_path or file_path.with_name(file_path.name + ".json")
        pipeline = get_pipeline(pipeline_id)
        stages = pipeline.stages(self.loaded)
        check_fit(stages)
        report = never_down(on_progress)  # a second run begins with less than the first one had
        arguments = (file_path, pipeline, stages, options, output_path, source_name, report, should_stop)
        try:
            with closing(RangedVideo(file_path, self._limits)) as video:
                return self._run(video, *arguments)
        except NotExact as why:
            log.info("%s: it cannot be gone on with in the middle, as %s", file_path.name, why)
        with closing(RangedVideo(file_path, self._limits)) as video:
            return self._run(video, *arguments)

    def _run(
        self,
        video: RangedVideo,
        file_path: Path,
        pipeline: Pipeline,
        stages: Sequence[Stage],
        options: Options,
        output_path: Path,
        source_name: str | None,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> RunReport:
        started = time.monotonic()
        stat = file_path.stat()
        serializer = ResultsSerializer(
            output_path,
            models=[model for stage in stages for model in stage.models(video.info)],
            options=options,
            pipeline_id=pipeline.pipeline_id,
            fingerprint=fingerprint(self._settings, file_path, video.info, stages),
        )
        if serializer.frames_written:
            log.info("%s: %d frames are kept from an earlier attempt", file_path.name, serializer.frames_written)
        hashed = Hashing(should_stop)
        clocks = clocks_of(stages)

        def report() -> None:
            steps = video.count.read + hashed.steps + sum(clock.steps for clock in clocks.values())
            steps += sum(getattr(stage, "steps", 0) for stage in stages)
            on_progress(Progress(serializer.frames_written, analysed_total(video.count.expected, options), steps))

        with ExitStack() as stack:
            stack.callback(serializer.close)
            stack.enter_context(every(PROGRESS_SECONDS, report))
            hashing = stack.enter_context(ThreadPoolExecutor(1, "hash")).submit(file_sha256, file_path, hashed.step)
            stack.callback(hashed.stop)
            stack.enter_context(serializer.in_one_piece_after(NotExact))
            threads = converters(self.loaded.device)
            frames = _frames_to_come(video, serializer, options, hashed.step, threads)
            chain = StageChain(stages, clocks, self._settings, options.frame_stride)
            for batch in stack.enter_context(chain.analysed(frames, video.info)):
                if should_stop():
                    raise Interrupted(STOPPED)
                with clocks["write"].running():
                    for analysis in batch:
                        serializer.write(analysis)
                    if serializer.frames_written % self._settings.segment_frames == 0:
                        serializer.checkpoint(Seam.of(batch[-1].frame) if video.is_as_indexed else None)
            sha256 = hashing.result()
            source = {"name": source_name or file_path.name, "sha256": sha256, "size_bytes": stat.st_size}
            warnings = [*pipeline.warnings(self.loaded), *summary_warnings(serializer.summary)]
            summary = serializer.finish(source, frame_account(video.count, warnings), video.info)
        report()
        return RunReport(
            frames_processed=summary["frame_count"],
            frames_total=analysed_total(video.count.expected, options),
            sha256=sha256,
            size_bytes=stat.st_size,
            device=self.loaded.device,
            summary={name: value for name, value in summary.items() if name != "texts"},
            stage_seconds={name: round(clock.seconds, 3) for name, clock in clocks.items()},
            wall_seconds=round(time.monotonic() - started, 3),
        )


def _frames_to_come(
    video: RangedVideo, serializer: ResultsSerializer, options: Options, step: Callable[[], None], threads: int
) -> Iterator[Frame]:
    """Yield the frames that the document does not hold yet; NotExact if they turn out not to be those."""
    skip, seam, has_ranges = serializer.frames_written, serializer.seam, serializer.has_ranges
    if seam is not None:
        serializer.note_ranges()
    index = _index_of(video, seam, step)
    if index is None or seam is None:
        if has_ranges:
            raise NotExact("the index by which frames were found cannot be made again")
        yield from video.frames(options.frame_stride, options.max_frames, skip, threads)
        return
    video.go_to(index, seam.index, step)
    yield from after_seam(video.frames(options.frame_stride, options.max_frames, skip - 1, threads), seam)


def _index_of(video: RangedVideo, seam: Seam | None, step: Callable[[], None]) -> FrameIndex | None:
    """Return an index in which the last frame of the document is, if there is one."""
    try:
        index = None if seam is None else video.make_index(step)
    except NotExact as why:
        log.info("the frames before are decoded again, as %s", why)
        return None
    return index if seam is not None and index is not None and seam.index < len(index) else None
