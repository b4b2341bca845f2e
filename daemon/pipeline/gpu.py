"""Networks on a GPU: batches of one size, page-locked memory on the way up, and no box that is not wanted on the way
down. The only file that imports ONNX Runtime, which is looked for only where there is a GPU (extra ``gpu``).

Each network has a stream of its own, so that copies and networks of several stages run side by side. A batch is
always filled up to the same size: a GPU chooses its way of computing by that, and a picture must give the same
whatever it is together with.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from daemon.errors import MachineError
from daemon.pipeline.inference import Normalisation
from daemon.pipeline.models import CHANNELS
from daemon.pipeline.records import Image

log = logging.getLogger(__name__)

BATCH = 8
"""Pictures that a network takes at once, always."""
MOST_BOXES = 300
"""Boxes kept of one picture, at most; the limit of Ultralytics."""
CLASS_SHIFT = 7680.0
"""Pixels by which classes are moved apart, so that boxes of two classes never overlap; that of Ultralytics."""
MOST_PAIRS = 1 << 26
"""Pairs of boxes compared at once, at most, so that memory stays bounded on pictures full of candidates."""
KEPT_SHAPES = 24
"""Shapes of its input for which a network is kept ready. ONNX Runtime prepares itself anew, for seconds, whenever the
shape is another than the last time, so each shape has a session of its own."""
NOT_FINITE = torch.full((1, 6), torch.nan)
"""Stands among boxes for all that was not finite."""
PROVIDER = "CUDAExecutionProvider"
MOST_PREPARING = 8
"""Shapes for which a network prepares itself at the same time, at most; each keeps a core busy for seconds."""
WARM_UPS = 3
"""Runs before a network is recorded: it and its libraries prepare themselves in them."""


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a new queue of work for a GPU."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


class Upload:
    """Brings batches of pictures to a device in one copy, through page-locked memory that is kept.

    Args:
        device: Where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)

    def __call__(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Return ``BATCH`` pictures on the device, those missing blank, without waiting for the copy.

        Args:
            pictures: At most BATCH of one shape (height, width, 3), uint8. The copies of the call before must have
                been waited for.

        Returns:
            Shape (BATCH, height, width, 3), uint8.
        """
        size = BATCH * pictures[0].size
        if self._memory.numel() < size:
            self._memory = torch.zeros(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        batch = self._memory[:size].view(BATCH, *pictures[0].shape)
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


class OnnxModel:
    """A network in ONNX form on a GPU, by ONNX Runtime; the counterpart of ``CpuModel``.

    Args:
        path: An ONNX file with one picture input.
        normalisation: What is done to the pixels.
        device: ``cuda:N``; ``cpu`` is for tests.

    Raises:
        MachineError: ONNX Runtime is not there, or cannot use the GPU.
    """

    runtime = "onnxruntime"
    precision = "fp32"

    def __init__(self, path: Path, normalisation: Normalisation, device: str) -> None:
        self._device = torch.device(device)
        self._normalisation = normalisation
        self._upload = Upload(self._device)
        self._stream = new_stream(self._device) if self._device.type == "cuda" else None
        self._path = path
        first = _session(path, self._device, self._stream)
        self._input, self._output = first.get_inputs()[0].name, first.get_outputs()[0].name
        self._unused = [first]
        self._sessions: OrderedDict[tuple[int, ...], Future[Any]] = OrderedDict()

    def prepare(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Get ready for pictures of some sizes in threads, and return at once. Call it before pictures come.

        Args:
            sizes: Heights and widths, those first that will be needed first; at most KEPT_SHAPES.
        """
        pool = ThreadPoolExecutor(max(1, min(MOST_PREPARING, len(os.sched_getaffinity(0)) // 2)), "prepare")
        for height, width in sizes:
            shape = (BATCH, CHANNELS, height, width)
            self._sessions[shape] = pool.submit(self._prepared, shape)
        pool.shutdown(wait=False)

    def _prepared(self, shape: tuple[int, ...]) -> Any:
        session = _session(self._path, self._device, self._stream)
        session.run([self._output], {self._input: np.zeros(shape, np.float32)})
        return session

    def __call__(self, images: Iterable[Image]) -> list[NDArray[np.float32]]:
        """Run the network on pictures of one size.

        Args:
            images: Shape (height, width, 3), uint8.

        Returns:
            The first output for each picture, in order, with a batch dimension of 1.
        """
        return [row[None] for batch, count in self._outputs(list(images)) for row in batch[:count].cpu().numpy()]

    def best(self, images: Sequence[Image]) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Run a recogniser on pictures of any sizes, those of one size together.

        Returns:
            For each picture the most likely class at each place and its probability, each of shape (1, places).
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(image.shape, []).append(place)
        found: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for same in places.values():
            waiting = iter(same)
            for batch, count in self._outputs([images[place] for place in same]):
                scores, classes = (each.cpu().numpy() for each in batch[:count].max(2))
                found.update((next(waiting), (classes[at : at + 1], scores[at : at + 1])) for at in range(count))
        return [found[place] for place in range(len(images))]

    def _outputs(self, images: Sequence[Image]) -> Iterator[tuple[torch.Tensor, int]]:
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for start in range(0, len(images), BATCH):
                some = images[start : start + BATCH]
                yield self._run(self._upload(some)), len(some)

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        pixels = batch.flip(3) if self._normalisation.rgb else batch
        pixels = pixels.permute(0, 3, 1, 2).float().sub_(self._normalisation.mean).div_(self._normalisation.scale)
        pixels = pixels.contiguous()
        kind, number, shape = self._device.type, self._device.index or 0, tuple(pixels.shape)
        session = self._session_for(shape)
        binding = session.io_binding()
        binding.bind_input(self._input, kind, number, np.float32, shape, pixels.data_ptr())
        binding.bind_output(self._output, kind, number)
        session.run_with_iobinding(binding)
        output: torch.Tensor = from_dlpack(binding.get_outputs()[0])
        return output

    def _session_for(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._sessions:
            made = self._unused.pop() if self._unused else _session(self._path, self._device, self._stream)
            self._sessions[shape] = Future()
            self._sessions[shape].set_result(made)
            if len(self._sessions) > KEPT_SHAPES:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(shape)
        return self._sessions[shape].result()


@cache
def onnx_device(setting: str, device: str) -> str:
    """Return where networks in ONNX form run: on the device in use, or on the CPU where that was left open.

    Args:
        setting: The setting ``device``; what it names is never exchanged for another.
        device: ``cpu`` or ``cuda:N``, to which it led.
    """
    if setting != "auto" or device == "cpu" or _sees_gpu():
        return device
    log.warning("text is found and read on the CPU; for the GPU, pip install 'dropframe[gpu]'")
    return "cpu"


def _sees_gpu() -> bool:
    try:
        import onnxruntime
    except ImportError:
        return False
    return PROVIDER in onnxruntime.get_available_providers()


def _session(path: Path, device: torch.device, stream: Any) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError(
            "Reading text on a GPU needs ONNX Runtime, which is not installed; pip install 'dropframe[gpu]', or set "
            "device to cpu."
        ) from error
    if device.type == "cpu":
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    onnxruntime.set_default_logger_severity(3)  # errors; it warns of providers of a kind that is not asked for
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what it leaves to the CPU: shapes
    how = {
        "device_id": str(device.index or 0),
        "user_compute_stream": str(stream.cuda_stream),
        "cudnn_conv_algo_search": "HEURISTIC",  # trying all takes longer still; the default is 15 times slower
        "use_tf32": "0",
    }
    # Left alone, it would fall back to the CPU without a word that anybody sees.
    if _sees_gpu():
        session = onnxruntime.InferenceSession(str(path), options, providers=[(PROVIDER, how)])
        if PROVIDER in session.get_providers():
            return session
    raise MachineError(
        f"ONNX Runtime {onnxruntime.__version__} cannot use the GPU; install the onnxruntime-gpu for CUDA "
        f"{torch.version.cuda}, which torch uses, and uninstall onnxruntime, or set device to cpu."
    )


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
