"""Networks for text on a GPU, by ONNX Runtime, which only this file imports, and only where there is a GPU (extra
``gpu``)."""

from __future__ import annotations

import itertools
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
from daemon.pipeline.gpu import Upload, computing, new_stream
from daemon.pipeline.inference import Normalisation
from daemon.pipeline.models import CHANNELS
from daemon.pipeline.overlap import spread
from daemon.pipeline.records import Image

log = logging.getLogger(__name__)

BATCH = 2
"""Pictures that a network takes at once, always. Few come together, as lines have many widths and most looks are at a
frame or two, and what a batch is filled up with costs as much as they do."""
KEPT_SHAPES = 24
"""Shapes of its input for which a network is kept ready. ONNX Runtime prepares itself anew, for seconds, whenever the
shape is another than the last time, so each shape has a session of its own."""
MOST_PREPARING = 8
"""Shapes for which a network prepares itself at the same time, at most; each keeps a core busy for seconds."""
PROVIDER = "CUDAExecutionProvider"


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
        self._path, self._normalisation, self._device = path, normalisation, torch.device(device)
        self._unused = [self._load()]
        self._networks: OrderedDict[tuple[int, ...], Future[_Network]] = OrderedDict()

    def _load(self) -> _Network:
        return _Network(self._path, self._normalisation, self._device)

    def prepare(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Get ready for pictures of some sizes in threads, and return at once. Call it before pictures come.

        Args:
            sizes: Heights and widths, those first that will be needed first; at most KEPT_SHAPES.
        """
        pool = ThreadPoolExecutor(max(1, min(MOST_PREPARING, len(os.sched_getaffinity(0)) // 2)), "prepare")
        for size in sizes:
            shape = (*size, CHANNELS)
            self._networks[shape] = pool.submit(self._prepared, shape)
        pool.shutdown(wait=False)

    def _prepared(self, shape: tuple[int, ...]) -> _Network:
        network = self._load()
        network([np.zeros(shape, np.uint8)])
        return network

    def __call__(self, images: Iterable[Image]) -> Iterator[NDArray[np.float32]]:
        """Run the network on pictures of one size.

        Args:
            images: Shape (height, width, 3), uint8.

        Yields:
            The first output for each picture, in order, with a batch dimension of 1.
        """
        waiting = iter(images)
        while some := list(itertools.islice(waiting, BATCH)):
            [output] = self._network(some[0].shape)(some)
            yield from (row[None] for row in output)

    def best(self, images: Sequence[Image]) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Run a recogniser on pictures of any sizes, those of one size together.

        Returns:
            For each picture the most likely class at each place and its probability, each of shape (1, places).
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(image.shape, []).append(place)
        # Side by side, as a core starts the steps of a small network more slowly than the GPU computes them.
        groups = [(self._network(shape), [images[place] for place in same]) for shape, same in places.items()]
        found: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for same, best in zip(places.values(), spread(_best, groups), strict=True):
            found.update(zip(same, best, strict=True))
        return [found[place] for place in range(len(images))]

    def _network(self, shape: tuple[int, ...]) -> _Network:
        if shape not in self._networks:
            self._networks[shape] = Future()
            self._networks[shape].set_result(self._unused.pop() if self._unused else self._load())
            if len(self._networks) > KEPT_SHAPES:
                self._networks.popitem(last=False)
        self._networks.move_to_end(shape)
        return self._networks[shape].result()


class _Network:
    """A network for pictures of one size, with a stream and page-locked memory of its own; for a thread at a time."""

    def __init__(self, path: Path, normalisation: Normalisation, device: torch.device) -> None:
        self._normalisation, self._device = normalisation, device
        self._stream = new_stream(device)
        self._session = _session(path, device, self._stream)
        self._input, self._output = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        self._upload = Upload(device, BATCH)

    def __call__(
        self,
        pictures: Sequence[Image],
        finish: Callable[[torch.Tensor], Sequence[torch.Tensor]] = lambda output: (output,),
    ) -> list[NDArray[Any]]:
        """Return what ``finish`` makes of the output on the device, of as many pictures as are given.

        Args:
            pictures: At most BATCH.
            finish: Gets and gives tensors with the pictures as their first dimension.
        """
        with computing(self._device, self._stream):
            output = self._run(self._upload(pictures))[: len(pictures)]
            return [each.cpu().numpy() for each in finish(output)]

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        pixels = batch.flip(3) if self._normalisation.rgb else batch
        pixels = pixels.permute(0, 3, 1, 2).float().sub_(self._normalisation.mean).div_(self._normalisation.scale)
        pixels = pixels.contiguous()
        kind, number = self._device.type, self._device.index or 0
        binding = self._session.io_binding()
        binding.bind_input(self._input, kind, number, np.float32, tuple(pixels.shape), pixels.data_ptr())
        binding.bind_output(self._output, kind, number)
        self._session.run_with_iobinding(binding)
        output: torch.Tensor = from_dlpack(binding.get_outputs()[0])
        return output


def _best(group: tuple[_Network, Sequence[Image]]) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Return the most likely class at each place of each picture, and its probability, each of shape (1, places)."""
    network, pictures = group
    found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, len(pictures), BATCH):
        scores, classes = network(pictures[start : start + BATCH], lambda output: output.max(2))
        found += [(classes[at : at + 1], scores[at : at + 1]) for at in range(len(scores))]
    return found


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
    # Left alone, it would fall back to the CPU without a word that anybody sees.
    if _sees_gpu():
        onnxruntime.set_default_logger_severity(3)  # errors; it warns of providers of a kind that is not asked for
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of what it leaves to the CPU: shapes
        how = {
            "device_id": str(device.index or 0),
            "user_compute_stream": str(stream.cuda_stream),
            "cudnn_conv_algo_search": "HEURISTIC",  # trying all takes longer still; the default is 15 times slower
            "use_tf32": "0",
        }
        session = onnxruntime.InferenceSession(str(path), options, providers=[(PROVIDER, how)])
        if PROVIDER in session.get_providers():
            return session
    raise MachineError(
        f"ONNX Runtime {onnxruntime.__version__} cannot use the GPU; install the onnxruntime-gpu for CUDA "
        f"{torch.version.cuda}, which torch uses, and uninstall onnxruntime, or set device to cpu."
    )
