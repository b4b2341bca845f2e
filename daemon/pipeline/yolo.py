"""YOLO: weights as a network that finds boxes, and what belongs around it.

Letterboxing, non-maximum suppression and scaling back are Ultralytics' own functions, so boxes are the ones that
``YOLO.predict`` gives; its ``predict`` itself is not used, as it needs torchvision and works on one frame at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

from daemon.errors import MachineError, ModelError
from daemon.pipeline.detectors import CudaDetector, Detector, OpenVinoDetector
from daemon.pipeline.inference import in_half
from daemon.pipeline.int8 import Int8Model, remedy, require_int8, subject
from daemon.pipeline.models import CHANNELS, Weights, first_line
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Detection, Image, ModelInfo, VideoInfo
from daemon.settings import Settings

BLANK = (720, 1280)
"""Height and width of the picture that is tried when weights are loaded: those of most videos, so that the network is
ready for these."""
DOUBT = 0.02
"""How close a box may come to the least confidence in bf16 before its picture is seen again in fp32. Bf16 changes a
confidence by 0.004 to 0.02 on average: without a second look 97.9 % of boxes have their match, with it 99.2 %, at 0.03
all (measured: docs/performance.md)."""
FOREVER = 1e9
"""Seconds. Ultralytics gives up suppression after a time, so a busy machine would give other boxes."""


def resolve_device(setting: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for the setting ``device``.

    Raises:
        MachineError: a GPU is named that is not there.
    """
    if setting == "cpu" or (setting == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if setting == "auto":
        return "cuda:0"
    count = torch.cuda.device_count()
    if int(setting.removeprefix("cuda:")) >= count:
        there = "no GPU that torch can use" if count == 0 else f"only cuda:0 to cuda:{count - 1}"
        raise MachineError(f"The device {setting} is set, but this machine has {there}; set device to auto or cpu.")
    return setting


def gpu_names() -> list[str]:
    """Return the names of the GPUs that can be used, in the order of their numbers."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class Seen:
    """What a network found in one frame."""

    detections: list[Detection]
    """Highest confidence first."""
    finite: bool
    """Whether all that the network gave is finite; if not, there may be more in the frame."""


class Yolo:
    """A detection network and what belongs around it: letterbox, non-maximum suppression, boxes in the frame.

    Args:
        detector: The network.
        weights: What it was made from.
        device: ``cpu`` or ``cuda:N``.
        side: Longer side of its input, pixels.
        confidence: Least confidence of a box.
        iou: Overlap above which the weaker of two boxes is dropped.
        agnostic: Whether that also goes for boxes of different classes.
        precise: Sees pictures again in which a box is so weak that the network's precision decides about it.
        int8: What the network is, if it was calibrated.
    """

    def __init__(
        self,
        detector: Detector,
        weights: Weights,
        device: str,
        *,
        side: int,
        confidence: float,
        iou: float,
        agnostic: bool = False,
        precise: Detector | None = None,
        int8: Int8Model | None = None,
    ) -> None:
        self.calibration = int8.digest if int8 else ""
        self.names = detector.names
        self._detector = detector
        self._precise = precise
        self._weights = weights
        self._device = device
        self._letterbox = LetterBox((side, side), auto=True, stride=detector.stride)
        self._confidence = confidence
        self._iou = iou
        self._agnostic = agnostic

    @classmethod
    def load(cls, weights: Weights, settings: Settings, device: str, int8: Int8Model | None = None) -> Yolo:
        """Load weights for a device, with the settings' input size, confidence and overlap; in int8 as kept or given.

        Raises:
            ModelError: the weights cannot be used, or have no int8 model where that is asked for.
            MachineError: the processor, or the GPU, does not have the precision that is asked for.
        """
        boxes: Any = {"confidence": settings.confidence, "iou": settings.iou, "agnostic": settings.class_agnostic_nms}
        half = in_half(settings.precision, device) and settings.precision != "int8"
        int8 = (int8 or require_int8(weights, settings)) if settings.precision == "int8" else None
        detector: Detector
        precise: Detector | None = None
        if device == "cpu":
            torch.set_num_threads(1)  # torch only does non-maximum suppression here; its threads would fight OpenVINO's
            detector = OpenVinoDetector(weights, settings, half=half, int8=int8)
            precise = OpenVinoDetector(weights, settings) if half else None
        else:
            detector = CudaDetector(weights, device, half=half, **boxes)
        yolo = cls(detector, weights, device, side=settings.image_size, precise=precise, int8=int8, **boxes)
        if int8:
            yolo._try_out(subject(weights), remedy(weights, settings))
        else:
            yolo._try_out(weights.path.name, "put other weights in its place")
        return yolo

    def model(self, info: VideoInfo) -> ModelInfo:
        """Return what this adds to the ``models`` of such a video's result."""
        blank = np.zeros((info.height, info.width, 3), np.uint8)
        height, width = self._letterbox(image=blank).shape[:2]
        return ModelInfo(
            name=self._weights.name,
            role="objects",
            runtime=self._detector.runtime,
            device=self._device.split(":")[0],
            precision=self._detector.precision,
            imgsz=[height, width],
            sha256=self._weights.sha256,
        )

    def _try_out(self, name: str, advice: str) -> None:
        """Run the network once, so that weights that cannot work are refused at the start and not in jobs."""
        try:
            (seen,) = self([np.zeros((*BLANK, CHANNELS), np.uint8)])
        except ModelError as error:
            raise ModelError(f"{name} cannot be used: {error}") from error
        except RuntimeError as error:
            if self._device != "cpu":
                raise  # of the GPU, most likely
            raise ModelError(f"{name} cannot be run ({first_line(error)}); {advice}.") from error
        if not seen.finite:
            raise ModelError(
                f"{name} gives numbers that are not finite, even for a blank picture, so it is damaged; {advice}."
            )

    def __call__(self, images: Sequence[Image]) -> list[Seen]:
        """Return what is in each frame. Frames are of one size."""
        if not images:
            return []
        pictures: list[Image] = []
        kept, finite = zip(*self._looks(self._letterboxed(images, pictures), pictures), strict=True)
        boxes = torch.cat(kept)  # of all frames at once: the steps are many and small
        owners = torch.arange(len(kept)).repeat_interleave(torch.tensor([len(each) for each in kept]))
        good = torch.isfinite(boxes).all(1) & (boxes[:, 4] > self._confidence)
        boxes, owners = boxes[good], owners[good]
        scaled = scale_boxes(pictures[0].shape[:2], boxes[:, :4], images[0].shape[:2])
        found: list[list[Detection]] = [[] for _ in images]
        for box, (confidence, number), owner in zip(
            scaled.tolist(), boxes[:, 4:6].tolist(), owners.tolist(), strict=True
        ):
            found[owner].append(Detection(tuple(box), self.names[int(number)], int(number), confidence))
        return [Seen(*each) for each in zip(found, finite, strict=True)]

    def _looks(self, given: Iterator[Image], pictures: Sequence[Image]) -> list[tuple[torch.Tensor, bool]]:
        """Return the boxes of each picture, and whether all that the network gave is finite.

        Args:
            given: Gives the pictures.
            pictures: Those that were given.
        """
        if self._precise is None:
            return [self._look(output) for output in self._detector(given)]
        looks: list[tuple[torch.Tensor, bool]] = []
        doubtful: list[int] = []

        def in_doubt() -> Iterator[Image]:
            for place, output in enumerate(self._detector(given)):
                looks.append(self._look(output))
                if self._is_doubtful(looks[place][0]):
                    doubtful.append(place)
                    yield pictures[place]

        for number, output in enumerate(self._precise(in_doubt())):  # while others are seen for the first time
            looks[doubtful[number]] = self._look(output)
        return looks

    def _look(self, output: torch.Tensor) -> tuple[torch.Tensor, bool]:
        return self._kept(output), is_finite(output)

    def _letterboxed(self, images: Sequence[Image], pictures: list[Image]) -> Iterator[Image]:
        """Give the picture of each frame, and keep it."""
        for picture in spread(self.fitted, images):
            pictures.append(picture)
            yield picture

    def fitted(self, image: Image) -> Image:
        """Return a frame as the network sees it; what it sees already stays as it is."""
        picture: Image = np.ascontiguousarray(self._letterbox(image=image))
        return picture

    def _is_doubtful(self, boxes: torch.Tensor) -> bool:
        return bool(((boxes[:, 4] - self._confidence).abs() < DOUBT).any())

    def _kept(self, output: torch.Tensor) -> torch.Tensor:
        """Return the boxes of a picture, some of them too weak, which hide no other."""
        if self._detector.end_to_end:
            return output[0]
        least = max(0.0, self._confidence - DOUBT)
        boxes: list[torch.Tensor] = non_max_suppression(
            output, least, self._iou, agnostic=self._agnostic, max_time_img=FOREVER
        )
        return boxes[0]


def is_finite(output: torch.Tensor) -> bool:
    """Tell whether all of a network's output is finite."""
    # If the sum is, then so is all of it; that takes a tenth of the time.
    return bool(output.sum().isfinite()) or bool(output.isfinite().all())
