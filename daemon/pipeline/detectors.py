"""Detectors: detection networks, one class for each kind of device. What is around a network is in ``yolo``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch

from daemon.errors import ModelError
from daemon.pipeline.gpu import OBJECTS_BATCH, Recorded, Upload, boxes_of, computing, marked, new_stream
from daemon.pipeline.inference import CpuModel, Normalisation
from daemon.pipeline.int8 import Int8Model
from daemon.pipeline.models import Weights, export, load_checkpoint
from daemon.pipeline.records import Image
from daemon.settings import Settings

COORDINATES = 4
"""Numbers of a box."""
FINAL_BOX = 6
"""Numbers of a box from a network that is end to end: its edges, confidence and class."""
PIXELS = Normalisation(mean=0, scale=255, rgb=True)


class Detector(Protocol):
    """A detection network on one kind of device."""

    names: dict[int, str]
    stride: int
    end_to_end: bool
    runtime: str
    precision: str

    def __call__(self, pictures: Iterable[Image]) -> Iterator[torch.Tensor]:
        """Run letterboxed pictures of one size.

        Yields:
            For each, what the network gives, with a batch dimension of 1: (1, 4 + classes, candidates), or
            (1, boxes, 6) if end to end. Where something that it gave is not finite, this is not, either.
        """


class OpenVinoDetector:
    """A Detector on the CPU. The weights are exported on first use.

    Args:
        weights: The checkpoint.
        settings: Where exports are kept.
        half: Compute in bf16.
        int8: Their int8 model, which takes their place; what is not in int8 in it computes in fp32.

    Raises:
        ModelError: the weights cannot be used.
    """

    runtime = "openvino"

    def __init__(
        self, weights: Weights, settings: Settings, *, half: bool = False, int8: Int8Model | None = None
    ) -> None:
        exported = export(weights, settings)
        self.names, self.stride, self.end_to_end = exported.names, exported.stride, exported.end_to_end
        self._classes = exported.classes
        self._model = CpuModel(int8.network if int8 else exported.xml, PIXELS, half=half)
        self.precision = "int8" if int8 else self._model.precision

    def __call__(self, pictures: Iterable[Image]) -> Iterator[torch.Tensor]:
        """See Detector."""
        for output in map(torch.from_numpy, self._model(pictures)):
            check_shape(output, self._classes, end_to_end=self.end_to_end)
            yield output


class CudaDetector:
    """A Detector on a GPU, a batch at a time; non-maximum suppression is done there, too.

    Args:
        weights: The checkpoint.
        device: ``cuda:N``; ``cpu`` is for tests.
        confidence: Least confidence of a box.
        iou: Overlap above which the weaker of two boxes is dropped.
        agnostic: Whether that also goes for boxes of different classes.
        half: Compute in fp16.

    Raises:
        ModelError: the weights cannot be used.
    """

    runtime = "torch"
    end_to_end = True

    def __init__(
        self,
        weights: Weights,
        device: str,
        *,
        confidence: float,
        iou: float,
        agnostic: bool = False,
        half: bool = True,
    ) -> None:
        self.precision = "fp16" if half else "fp32"
        self._type = torch.float16 if half else torch.float32
        model = load_checkpoint(weights)
        self.names: dict[int, str] = model.names
        self._classes = int(model.model[-1].nc)
        self.stride = int(max(model.stride))
        self._gives_final_boxes = bool(getattr(model, "end2end", False))
        self._confidence, self._iou, self._agnostic = confidence, iou, agnostic
        self._device = torch.device(device)
        self._model = model.to(self._device, self._type).to(memory_format=torch.channels_last)
        self._stream = new_stream(self._device)
        self._upload = Upload(self._device, OBJECTS_BATCH)
        self._network = Recorded(self._forward)

    def _forward(self, pictures: torch.Tensor) -> torch.Tensor:
        pixels = pictures.permute(0, 3, 1, 2).flip(1).to(self._type)
        pixels = pixels.contiguous(memory_format=torch.channels_last) / 255
        output: Any = self._model(pixels)
        first: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
        check_shape(first, self._classes, end_to_end=self._gives_final_boxes)
        return first

    def __call__(self, pictures: Iterable[Image]) -> Iterator[torch.Tensor]:
        """See Detector."""
        pictures, found = list(pictures), list[torch.Tensor]()
        with computing(self._device, self._stream):
            for start in range(0, len(pictures), OBJECTS_BATCH):
                some = pictures[start : start + OBJECTS_BATCH]
                output = self._network(self._upload(some))[: len(some)]
                if self._gives_final_boxes:
                    found += output.float().cpu()
                else:
                    found += marked(boxes_of(output, self._confidence, self._iou, self._agnostic), output)
        return (boxes[None] for boxes in found)


def check_shape(output: torch.Tensor, classes: int, *, end_to_end: bool) -> None:
    """Raise ModelError unless a network's output has the shape that ``Detector`` promises.

    Args:
        output: With the pictures as the first dimension.
        classes: How many the network tells apart.
        end_to_end: Whether it gives final boxes.
    """
    shape = tuple(output.shape)
    expected = FINAL_BOX if end_to_end else COORDINATES + classes
    if len(shape) != 3 or shape[2 if end_to_end else 1] != expected:
        form = f"(boxes, {expected})" if end_to_end else f"({expected}, candidates)"
        raise ModelError(f"its output has the shape {shape[1:]} where {form} is expected.")
