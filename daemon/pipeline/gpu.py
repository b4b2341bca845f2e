"""What networks on a GPU need: batches of one size, page-locked memory on the way up, and no box that is not wanted on
the way down.

Networks have streams of their own, so that copies and networks of several stages run side by side. A batch is always
filled up to the same size: a GPU chooses its way of computing by that, and a picture must give the same whatever it is
together with. With ``cpu`` for a device, all but the recording is done there, which is for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from daemon.pipeline.records import Image

OBJECTS_BATCH = 12
"""Pictures that a detection network takes at once, always: as many as a batch of frames has, at most."""
MOST_BOXES = 300
"""Boxes kept of one picture, at most; the limit of Ultralytics."""
CLASS_SHIFT = 7680.0
"""Pixels by which classes are moved apart, so that boxes of two classes never overlap; that of Ultralytics."""
MOST_PAIRS = 1 << 26
"""Pairs of boxes compared at once, at most, so that memory stays bounded on pictures full of candidates."""
NOT_FINITE = torch.full((1, 6), torch.nan)
"""Stands among boxes for all that was not finite."""
WARM_UPS = 3
"""Runs before a network is recorded: it and its libraries prepare themselves in them."""


def new_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a new queue of work for a GPU; None for a CPU, which has none."""
    if device.type == "cpu":
        return None
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


@contextmanager
def computing(device: torch.device, stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Have torch compute on a device, in the order of a stream, and keep nothing for training."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type != "cpu":
            stack.enter_context(torch.cuda.device(device))
            stack.enter_context(torch.cuda.stream(stream))
        yield


class Upload:
    """Brings batches of pictures to a device in one copy, through page-locked memory that is kept.

    Args:
        device: Where to.
        count: Pictures of a batch.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        self._device, self._count = device, count
        self._memory = torch.empty(0, dtype=torch.uint8)

    def __call__(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Return a batch on the device, pictures that are missing blank, without waiting for the copy.

        Args:
            pictures: At most ``count``, of one shape (height, width, 3), uint8. The copies of the call before must have
                been waited for.

        Returns:
            Shape (count, height, width, 3), uint8.
        """
        size = self._count * pictures[0].size
        if self._memory.numel() < size:
            self._memory = torch.zeros(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        batch = self._memory[:size].view(self._count, *pictures[0].shape)
        for place, picture in zip(batch.numpy(), pictures, strict=False):
            place[:] = picture
        batch[len(pictures) :] = 0
        return batch.to(self._device, non_blocking=True)


class Recorded:
    """A function on a GPU, recorded for one shape of its argument, so that the CPU starts it as a whole.

    Of a network of hundreds of small steps the CPU could start only some hundred a second one by one.

    Args:
        function: From a tensor to a tensor.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._function = function
        self._graph: Any = None
        self._argument = self._result = torch.empty(0)

    def __call__(self, argument: torch.Tensor) -> torch.Tensor:
        """Return the result, which the next call overwrites."""
        if argument.device.type == "cpu":
            return self._function(argument)
        if argument.shape != self._argument.shape or self._graph is None:
            self._record(argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result

    def _record(self, argument: torch.Tensor) -> None:
        # One at a time: a network may exchange what it remembers of a shape, and a recording would use what is gone.
        self._graph = None
        self._argument = argument.clone()
        for _ in range(WARM_UPS):
            self._function(self._argument)
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            self._result = self._function(self._argument)
        self._graph = graph


def boxes_of(output: torch.Tensor, confidence: float, iou: float, agnostic: bool = False) -> list[torch.Tensor]:
    """Return the boxes that a batch of pictures holds, non-maximum suppression done as Ultralytics' does it.

    Args:
        output: What a YOLO gives, shape (pictures, 4 + classes, candidates): centre, width and height in pixels, then
            the confidence of each class.
        confidence: Least confidence of a box.
        iou: Overlap above which the weaker of two boxes of a class is dropped.
        agnostic: Whether that also goes for boxes of different classes.

    Returns:
        For each picture, on the CPU, shape (boxes, 6), highest confidence first: x1, y1, x2, y2, confidence, class.
    """
    scores, classes = output[:, 4:].max(1)
    count = int((scores > confidence).sum(1).max())
    scores, order = scores.where(scores > confidence, 0).topk(count)  # left alone, what is not a number comes first
    middle = output[:, :4].gather(2, order[:, None].expand(-1, 4, -1)).transpose(1, 2).float()
    half = middle[..., 2:] / 2
    boxes = torch.cat([middle[..., :2] - half, middle[..., :2] + half], 2)
    classes = classes.gather(1, order).float()
    good = scores > confidence
    apart = boxes if agnostic else boxes + classes[..., None] * CLASS_SHIFT
    at_once = max(1, MOST_PAIRS // max(1, count * count))
    parts = (slice(start, start + at_once) for start in range(0, len(apart), at_once))
    kept = torch.cat([_suppress(apart[part], good[part], iou) for part in parts])
    rows = torch.cat([boxes, scores[..., None].float(), classes[..., None], kept[..., None].float()], 2).cpu()
    return [row[row[:, 6] > 0][:MOST_BOXES, :6] for row in rows]


def marked(boxes: Sequence[torch.Tensor], output: torch.Tensor) -> list[torch.Tensor]:
    """Add a row that is not a number to the boxes of each picture of whose output something is not finite.

    Args:
        boxes: For each picture, on the CPU, shape (boxes, 6).
        output: That of which they were made, with the pictures as the first dimension.
    """
    finite = output.isfinite().flatten(1).all(1).tolist()
    return [each if whole else torch.cat([each, NOT_FINITE]) for each, whole in zip(boxes, finite, strict=True)]


def _suppress(boxes: torch.Tensor, good: torch.Tensor, iou: float) -> torch.Tensor:
    """Tell which boxes stay, going from the strongest to the weakest, for many pictures at once.

    Args:
        boxes: Shape (pictures, boxes, 4), strongest first.
        good: Shape (pictures, boxes): which count at all.
        iou: Overlap above which a box goes.
    """
    first, second = boxes[:, :, None], boxes[:, None]
    sides = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp_(0)
    both = sides.prod(3)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(2)
    overlapping = (both / (areas[:, :, None] + areas[:, None] - both) > iou).triu_(1)
    kept = good
    while True:  # each round settles at least the strongest box that is not settled yet
        now = good & ~(overlapping & kept[:, :, None]).any(1)
        if torch.equal(now, kept):
            return now
        kept = now
