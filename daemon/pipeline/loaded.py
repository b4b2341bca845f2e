"""LoadedModels: the models of one process, loaded once and kept warm."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from daemon.pipeline.inference import in_half
from daemon.pipeline.machine import has_cuda_driver
from daemon.pipeline.models import find_weights
from daemon.pipeline.read import TextStage
from daemon.pipeline.readings import TextReader
from daemon.pipeline.recognisers import device_of_text, load_reader
from daemon.pipeline.records import ModelInfo, VideoInfo
from daemon.pipeline.regions import RapidOcrRegions
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.pipeline.detect import ObjectStage

HD = VideoInfo(codec="h264", width=1280, height=720, fps=25.0, duration_s=None, frame_count=None)
"""The video for which ``describe`` names input sizes."""


def usable_device(setting: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for the setting ``device``; torch is loaded only where there may be a GPU.

    Raises:
        MachineError: a GPU is named that is not there.
    """
    if setting == "cpu" or (setting == "auto" and not has_cuda_driver()):
        return "cpu"
    from daemon.pipeline.yolo import resolve_device

    return resolve_device(setting)


class LoadedModels:
    """Models by role. Each is loaded when first asked for.

    Args:
        settings: Which weights, which engine, which device.

    Raises:
        MachineError: the device that the settings name is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = usable_device(settings.device)
        """``cpu`` or ``cuda:N``."""

    @functools.cached_property
    def objects(self) -> ObjectStage | None:
        """The detector of objects, or None without weights.

        Raises:
            ModelError: the weights cannot be used.
        """
        weights = find_weights(self.settings)
        if weights is None:
            return None
        from daemon.pipeline.detect import ObjectStage  # loads torch, for which text alone has no use

        return ObjectStage.load(weights, self.settings, self.device)

    @property
    def calibration(self) -> str:
        """Names what the networks were calibrated to; empty if none was. Raises what ``objects`` does."""
        return self.objects.calibration if self.objects else ""

    @functools.cached_property
    def text(self) -> TextStage:
        """The reader of text.

        Raises:
            ModelError: weights cannot be used.
            MachineError: the engine is not installed.
        """
        return self._text_stage(detecting=False)

    @functools.cached_property
    def text_detecting(self) -> TextStage:
        """The reader of text that also gives its regions as detections; raises what ``text`` does."""
        return self._text_stage(detecting=True)

    def _text_stage(self, *, detecting: bool) -> TextStage:
        least, look_seconds = self.settings.text_confidence, self.settings.text_look_seconds
        return TextStage(self._finder, self._reader, least, detecting=detecting, look_seconds=look_seconds)

    @functools.cached_property
    def _finder(self) -> RapidOcrRegions:
        device = device_of_text(self.settings, self.device)
        half = in_half(self._precision_on(device), device)
        return RapidOcrRegions(self.settings.text_detect_size, device, half=half)

    def _precision_on(self, device: str) -> str:
        """Return the setting; text that stays on the CPU beside a GPU is found in half only where the CPU has it."""
        asked = self.settings.precision
        return "auto" if asked == "half" and device != self.device else asked

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
