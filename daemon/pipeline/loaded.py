"""LoadedModels: the models of one process, loaded once and kept warm."""

from __future__ import annotations

import functools

from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.gpu import onnx_device
from daemon.pipeline.models import find_weights
from daemon.pipeline.read import TextStage
from daemon.pipeline.readings import TextReader
from daemon.pipeline.recognisers import load_reader
from daemon.pipeline.records import ModelInfo, VideoInfo
from daemon.pipeline.regions import RapidOcrRegions
from daemon.pipeline.yolo import resolve_device
from daemon.settings import Settings

HD = VideoInfo(codec="h264", width=1280, height=720, fps=25.0, duration_s=None, frame_count=None)
"""The video for which ``describe`` names input sizes."""


class LoadedModels:
    """Models by role. Each is loaded when first asked for.

    Args:
        settings: Which weights, which engine, which device.

    Raises:
        MachineError: the device that the settings name is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = resolve_device(settings.device)
        """``cpu`` or ``cuda:N``."""

    @functools.cached_property
    def objects(self) -> ObjectStage | None:
        """The detector of objects, or None without weights.

        Raises:
            ModelError: the weights cannot be used.
        """
        weights = find_weights(self.settings)
        return ObjectStage.load(weights, self.settings, self.device) if weights else None

    @functools.cached_property
    def text(self) -> TextStage:
        """The reader of text.

        Raises:
            ModelError: weights cannot be used.
            MachineError: the engine is not installed.
        """
        return TextStage(self._finder, self._reader, self.settings.text_confidence)

    @functools.cached_property
    def text_detecting(self) -> TextStage:
        """The reader of text that also gives its regions as detections; raises what ``text`` does."""
        return TextStage(self._finder, self._reader, self.settings.text_confidence, detecting=True)

    @functools.cached_property
    def _finder(self) -> RapidOcrRegions:
        return RapidOcrRegions(self.settings.text_detect_size, onnx_device(self.settings.device, self.device))

    @functools.cached_property
    def _reader(self) -> TextReader:
        return load_reader(self.settings, self.device)

    def describe(self) -> list[ModelInfo]:
        """Load everything and return what is in use.

        Raises:
            ModelError: weights cannot be used.
            MachineError: the text engine is not installed.
        """
        objects = self.objects.models(HD) if self.objects else []
        return objects + self.text.models(HD)
