"""VideoFilePipelineService.run_on_file: a video goes in, a result document comes out. The stages, in order."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from daemon import __version__
from daemon.errors import Interrupted, ModelError
from daemon.fs.identity import identity_of
from daemon.jobs import Options
from daemon.pipeline.code_version import code_version
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import file_sha256
from daemon.pipeline.overlap import overlap
from daemon.pipeline.pipelines import Pipeline, check_fit, get_pipeline
from daemon.pipeline.records import Analysis, Frame, Progress, RunReport, Stage, VideoInfo
from daemon.pipeline.results import ResultsSerializer, Summary, analysed_total
from daemon.pipeline.video import Video
from daemon.pipeline.video_account import DecodeCount
from daemon.pipeline.video_limits import Limits
from daemon.settings import Settings

log = logging.getLogger(__name__)

BATCH_FRAMES = 8
"""Frames that a stage takes at once, at most."""
BATCH_BYTES = 64_000_000
"""Bytes of pictures in a batch, at most, so that memory stays bounded for large frames."""
BATCHES_AHEAD = 2
"""Batches waiting between two stages, at most."""
MOST_CONVERTERS = 4
"""Threads that convert decoded frames, at most; one for each four cores, as on few cores the networks want them."""
RESULT_PACKAGES = ("av", "opencv-python-headless", "openvino", "rapidocr", "torch", "ultralytics-opencv-headless")
"""Packages whose version may show in a result."""
PROGRESS_SECONDS = 0.5
"""Time between two reports of progress."""
STOPPED = "The run was stopped; its finished segments are kept."

Batch = list[Analysis]


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
        video = Video(file_path, self._limits)
        try:
            return self._run(
                video,
                file_path,
                pipeline,
                stages,
                options,
                output_path,
                source_name,
                on_progress,
                should_stop,
            )
        finally:
            video.close()

    def _run(
        self,
        video: Video,
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
            fingerprint=f"{file_path.name} {identity_of(stat).lasting} {video.info} "
            f"{_what_frames_depend_on(self._settings)} {code_version(stages)}",
        )
        if serializer.frames_written:
            log.info("%s: %d frames are kept from an earlier attempt", file_path.name, serializer.frames_written)
        hashed = Hashing(should_stop)
        clocks = {name: StageClock() for name in ("decode", *(stage.name for stage in stages), "write")}

        def report() -> None:
            steps = video.count.read + hashed.steps + sum(clock.steps for clock in clocks.values())
            steps += sum(getattr(stage, "steps", 0) for stage in stages)
            on_progress(Progress(serializer.frames_written, analysed_total(video.count.expected, options), steps))

        with ExitStack() as stack:
            stack.callback(serializer.close)
            stack.enter_context(every(PROGRESS_SECONDS, report))
            hashing = stack.enter_context(ThreadPoolExecutor(1, "hash")).submit(file_sha256, file_path, hashed.step)
            stack.callback(hashed.stop)
            frames = video.frames(
                options.frame_stride,
                options.max_frames,
                skip=serializer.frames_written,
                threads=max(1, min(MOST_CONVERTERS, len(os.sched_getaffinity(0)) // 4)),
            )
            decoded = self._batches(clocks["decode"].making(frames), video.info)
            batches = stack.enter_context(overlap(decoded, BATCHES_AHEAD))
            for stage in stages:
                done = self._apply(stage, batches, clocks[stage.name])
                batches = stack.enter_context(overlap(done, BATCHES_AHEAD))
            for batch in batches:
                if should_stop():
                    raise Interrupted(STOPPED)
                with clocks["write"].running():
                    for analysis in batch:
                        serializer.write(analysis)
                    if serializer.frames_written % self._settings.segment_frames == 0:
                        serializer.checkpoint()
            sha256 = hashing.result()
            source = {"name": source_name or file_path.name, "sha256": sha256, "size_bytes": stat.st_size}
            warnings = [*pipeline.warnings(self.loaded), *_of_summary(serializer.summary)]
            summary = serializer.finish(source, _frame_account(video.count, warnings), video.info)
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

    def _batches(self, frames: Iterable[Frame], info: VideoInfo) -> Iterator[Batch]:
        """Cut frames into batches, the same way every time: no batch crosses the edge of a segment."""
        most = max(1, min(BATCH_FRAMES, BATCH_BYTES // (info.width * info.height * 3)))
        frames = iter(frames)
        while True:
            for start in range(0, self._settings.segment_frames, most):
                size = min(most, self._settings.segment_frames - start)
                batch = [Analysis(frame) for frame in itertools.islice(frames, size)]
                if not batch:
                    return
                yield batch

    def _apply(self, stage: Stage, batches: Iterable[Batch], clock: StageClock) -> Iterator[Batch]:
        seen = 0
        for batch in batches:
            with clock.running():
                if seen % self._settings.segment_frames == 0:
                    stage.new_segment()
                seen += len(batch)
                done = stage(batch)
            yield done


class Hashing:
    """Counts the blocks of a checksum that is being made, and ends it with the run."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._stopped = False
        self.steps = 0

    def stop(self) -> None:
        """Make the next step the last."""
        self._stopped = True

    def step(self) -> None:
        """Count a block."""
        self.steps += 1
        if self._stopped or self._should_stop():
            raise Interrupted(STOPPED)


class StageClock:
    """How long a stage has been busy and how often."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent in the block."""
        begun = time.monotonic()
        yield
        self.seconds += time.monotonic() - begun
        self.steps += 1

    def making(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on, counting the time that making them takes."""
        frames = iter(frames)
        while True:
            with self.running():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


@contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call something again and again, from a thread, while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _what_frames_depend_on(settings: Settings) -> str:
    """Name the settings and the versions of which a frame's line is made; after an upgrade a run begins anew."""
    names = (
        "confidence",
        "iou",
        "class_agnostic_nms",
        "image_size",
        "text_engine",
        "text_languages",
        "text_detect_size",
        "text_confidence",
        "segment_frames",
    )
    versions = [f"{package}={version(package)}" for package in RESULT_PACKAGES]
    return " ".join([__version__, *(f"{name}={getattr(settings, name)}" for name in names), *versions])


def _of_summary(summary: Summary) -> Iterator[str]:
    """Say what could not be done in some frames.

    Raises:
        ModelError: objects could not be seen in any frame. A result without objects would say that there are none,
            and the video would count as done when better weights are there.
    """
    if summary.frames_unseen == summary.frame_count > 0:
        raise ModelError(
            "The weights gave numbers that are not finite in every frame, so no object could be seen; put other "
            "weights in their place, then retry."
        )
    if unseen := summary.frames_unseen:
        frames = "1 frame" if unseen == 1 else f"{unseen} frames"
        yield f"The weights gave numbers that are not finite in {frames}, so objects may be missing there."
    if summary.frames_unread:
        yield (
            f"Text could not be read in {summary.frames_unread} of the frames, where the text engine did not return in "
            "time; text_unread says where."
        )
    if letters := summary.frames_letters_unread:
        frames = "1 frame" if letters == 1 else f"{letters} frames"
        yield (
            f"Text in letters that are not read was seen in {frames}; set text_languages to the languages of the "
            "video, unless its text is mirrored (docs/text-languages.md)."
        )


def _frame_account(count: DecodeCount, warnings: Sequence[str]) -> dict[str, object]:
    """Return what the summary says of frames that were expected, decoded and lost."""
    return {
        "frames_decoded": count.decoded,
        "frames_expected": count.expected,
        "frames_failed": count.failed,
        "frames_missing": count.missing,
        "warnings": [*warnings, *count.warnings()],
    }
