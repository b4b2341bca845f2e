"""StageChain: the stages of a pipeline side by side, frames going in and analyses coming out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from daemon.pipeline.clocks import StageClock
from daemon.pipeline.looks import CLOCK_SLACK
from daemon.pipeline.overlap import overlap
from daemon.pipeline.records import Analysis, Frame, Stage, VideoInfo
from daemon.settings import Settings

BATCH_FRAMES = 12
"""Frames that a stage takes at once, at most."""
BATCH_BYTES = 64_000_000
"""Bytes of pictures in a batch, at most, so that memory stays bounded for large frames."""
LOOK_BYTES = 128_000_000
"""The same of those that are looked at for text together: of large frames a batch is less than what comes between two
looks, and a look for each batch is dear."""
BATCHES_AHEAD = 2
"""Batches waiting between two stages, at most."""

MOST_CONVERTERS = 4
"""Threads that convert decoded frames, at most."""
CORES_A_CONVERTER = {"cpu": 4, "cuda": 2}
"""Cores for each of them, by the device: on few cores, networks on the CPU want them."""

Batch = list[Analysis]


def converters(device: str) -> int:
    """Return how many threads convert decoded frames while networks compute on a device, ``cpu`` or ``cuda:N``."""
    return max(1, min(MOST_CONVERTERS, len(os.sched_getaffinity(0)) // CORES_A_CONVERTER[device.split(":")[0]]))


def clocks_of(stages: Sequence[Stage]) -> dict[str, StageClock]:
    """Return a clock for decoding, for each stage and for writing."""
    return {name: StageClock() for name in ("decode", *(stage.name for stage in stages), "write")}


def batch_frames(info: VideoInfo, stride: int, look_seconds: float) -> int:
    """Return how many frames make a batch.

    Text is looked for at the end of each batch, so one takes as many frames as come between some looks: with any number
    a third of the looks would come before they are due.
    """
    most = max(1, min(BATCH_FRAMES, BATCH_BYTES // (info.width * info.height * 3)))
    between = int((look_seconds + CLOCK_SLACK) * (info.fps or 0) / stride)
    return most // between * between if 1 < between <= most else most


def batches_a_look(info: VideoInfo, stride: int, look_seconds: float) -> int:
    """Return how many batches are looked at for text together."""
    between = int((look_seconds + CLOCK_SLACK) * (info.fps or 0) / stride)
    most = min(between, LOOK_BYTES // (info.width * info.height * 3))
    return max(1, most // batch_frames(info, stride, look_seconds))


class StageChain:
    """Runs stages, each in a thread of its own.

    Args:
        stages: In order.
        clocks: Of ``clocks_of``.
        settings: Frames after which every stage forgets all, and seconds between two looks for text.
        stride: One of so many frames comes.
    """

    def __init__(
        self, stages: Sequence[Stage], clocks: Mapping[str, StageClock], settings: Settings, stride: int
    ) -> None:
        self._stages = stages
        self._clocks = clocks
        self._segment_frames = settings.segment_frames
        self._look_seconds = settings.text_look_seconds
        self._stride = stride

    @contextmanager
    def analysed(self, frames: Iterator[Frame], info: VideoInfo) -> Iterator[Iterator[Batch]]:
        """Give what the last stage gives, in order; all threads have ended when the block is left.

        Args:
            frames: The first of them begins a segment.
            info: Of the video.
        """
        with ExitStack() as stack:
            decoded = self._batches(self._clocks["decode"].making(frames), info)
            batches = stack.enter_context(overlap(decoded, BATCHES_AHEAD))
            for stage in self._stages:
                together = batches_a_look(info, self._stride, self._look_seconds) if stage.name == "text" else 1
                done = self._apply(stage, batches, together)
                batches = stack.enter_context(overlap(done, BATCHES_AHEAD))
            yield batches

    def _batches(self, frames: Iterable[Frame], info: VideoInfo) -> Iterator[Batch]:
        """Cut frames into batches, the same way every time: no batch crosses the edge of a segment."""
        most = batch_frames(info, self._stride, self._look_seconds)
        frames = iter(frames)
        while True:
            for start in range(0, self._segment_frames, most):
                size = min(most, self._segment_frames - start)
                batch = [Analysis(frame) for frame in itertools.islice(frames, size)]
                if not batch:
                    return
                yield batch

    def _apply(self, stage: Stage, batches: Iterable[Batch], together: int) -> Iterator[Batch]:
        seen, clock = 0, self._clocks[stage.name]
        for some in self._joined(batches, together):
            with clock.running():
                if seen % self._segment_frames == 0:
                    stage.new_segment()
                seen += sum(map(len, some))
                done = iter(stage([each for batch in some for each in batch]))
            for size in list(map(len, some)):
                yield list(itertools.islice(done, size))

    def _joined(self, batches: Iterable[Batch], together: int) -> Iterator[list[Batch]]:
        """Put batches together, the same way every time: not over the edge of a segment, at which a batch ends."""
        seen, joined = 0, []
        for batch in batches:
            seen += len(batch)
            joined.append(batch)
            if len(joined) == together or seen % self._segment_frames == 0:
                yield joined
                joined = []
        if joined:
            yield joined
