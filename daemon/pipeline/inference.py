"""Networks on the CPU: the only file that imports OpenVINO.

Pictures go in as bytes; converting them to normalised floats is compiled into the network. Precision is fp32
unless a network is asked to run in bf16: left alone, OpenVINO computes all in bf16 on the processors that have it,
letters too, which would differ from one machine to the next.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import preprocess

from daemon.errors import MachineError
from daemon.pipeline.records import Image

AHEAD = 2
"""Pictures given to a network for each core, so that it has another while the caller works on what came of one."""
COMPILED_SHAPES = 4
"""Compiled networks kept for each model. One takes about 0.1 s to make and up to 100 MB to keep."""


@dataclass(frozen=True)
class Normalisation:
    """How a network wants its pixels: ``(value - mean) / scale`` on values of 0 to 255."""

    mean: float
    scale: float
    rgb: bool
    """Whether channels are red first; pictures here are blue first."""


@cache
def core() -> ov.Core:
    """Return the one core that this process has.

    A core exchanges the stack of signal handlers when it is made, and puts back the one before when it goes: of two
    that go in the wrong order the second puts back one that is gone, and the next signal ends the process.
    """
    return ov.Core()


class CpuModel:
    """A network on the CPU, compiled for each input size it meets.

    Args:
        network: An OpenVINO ``.xml`` or an ONNX file with one picture input, or XML and weights of the first.
        normalisation: What is done to the pixels.
        any_width: Compile once for pictures of any width, for a network that sees a new width all the time.
            Costs about a tenth of the speed.
        half: Compute in bf16; takes half the time or less.
        batch: Cores used, at most; each computes one picture.
    """

    def __init__(
        self,
        network: Path | tuple[bytes, bytes],
        normalisation: Normalisation,
        *,
        any_width: bool = False,
        half: bool = False,
        batch: int = 8,
    ) -> None:
        self.runtime = "openvino"
        self.precision = "bf16" if half else "fp32"
        """What the network computes in."""
        self._network = network if isinstance(network, tuple) else (network,)
        self._normalisation = normalisation
        self._any_width = any_width
        self._streams = max(1, min(batch, len(os.sched_getaffinity(0))))
        self._compiled: OrderedDict[tuple[int, int], _Requests] = OrderedDict()

    def __call__(self, images: Iterable[Image]) -> Iterator[NDArray[np.float32]]:
        """Run the network on pictures of one size, or of one height if made for any width.

        Pictures are taken, and what comes of them is given, while others are computed. Each picture is a request of its
        own, so a result does not depend on what else is in the batch.

        Args:
            images: Shape (height, width, 3), uint8.

        Yields:
            The first output for each picture, in order, with the batch dimension of 1 left in.
        """
        running: deque[Any] = deque()
        requests: _Requests | None = None
        try:
            for image in images:
                requests = requests or self._requests(image.shape[0], -1 if self._any_width else image.shape[1])
                if len(running) == AHEAD * self._streams:
                    yield requests.end(running)
                running.append(requests.begin(image))
            while requests and running:
                yield requests.end(running)
        finally:
            while requests and running:  # of a caller who wants no more
                requests.end(running)

    def best(self, images: Iterable[Image]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Run a recogniser on pictures as a call does.

        Yields:
            For each picture the most likely class at each place and its probability, each of shape (1, places).
        """
        return ((output.argmax(2), output.max(2)) for output in self(images))

    def _requests(self, height: int, width: int) -> _Requests:
        key = (height, width)
        if key not in self._compiled:
            compiled = core().compile_model(
                self._prepared(height, width),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
                    "NUM_STREAMS": self._streams,
                    "INFERENCE_NUM_THREADS": self._streams,
                },
            )
            self._compiled[key] = _Requests(compiled)
            if len(self._compiled) > COMPILED_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _prepared(self, height: int, width: int) -> Any:
        model = core().read_model(*self._network)
        model.reshape([1, 3, height, width])
        prepared = preprocess.PrePostProcessor(model)
        picture = prepared.input(0)
        picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        picture.model().set_layout(ov.Layout("NCHW"))
        steps = picture.preprocess().convert_element_type(ov.Type.f32)
        if self._normalisation.rgb:
            steps.reverse_channels()
        if self._normalisation.mean:
            steps.mean(self._normalisation.mean)
        steps.scale(self._normalisation.scale)
        return prepared.build()


class _Requests:
    """The requests of a compiled network, each used again and again."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._free: list[Any] = []

    def begin(self, image: Image) -> Any:
        request = self._free.pop() if self._free else self._compiled.create_infer_request()
        request.start_async({0: image[None]})
        return request

    def end(self, running: deque[Any]) -> NDArray[np.float32]:
        """Wait for the request that was begun first, and return its output."""
        request = running.popleft()
        request.wait()
        output: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
        self._free.append(request)
        return output


def cpu_capabilities() -> list[str]:
    """Return what OpenVINO can compute in on this processor, such as ``FP32`` and ``BF16``."""
    return list(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def in_half(precision: str, device: str) -> bool:
    """Tell whether networks that may compute in half precision do so.

    Args:
        precision: The setting; int8 is for objects alone, and for all else like auto.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        MachineError: the setting asks for what the processor, or a GPU, does not have.
    """
    if precision == "int8":
        require_cpu(device)
    able = device != "cpu" or "BF16" in cpu_capabilities()
    if precision == "half" and not able:
        raise MachineError("precision is half, but this processor does not compute in bf16; set it to auto or fp32.")
    return able and precision != "fp32"


def require_cpu(device: str) -> None:
    """Make sure that a network in int8 would be computed.

    Raises:
        MachineError: the device is a GPU.
    """
    if device != "cpu":
        raise MachineError(
            f"int8 is for the CPU only, and the device in use is {device}; set device to cpu, or precision to auto."
        )


def read_network(path: Path) -> Any:
    """Return a network from an OpenVINO ``.xml``, not compiled."""
    return core().read_model(path)


def network_bytes(network: Any, folder: Path) -> tuple[bytes, bytes]:
    """Return a network in OpenVINO form: XML and weights.

    Args:
        network: Any.
        folder: An empty one, as OpenVINO writes files and nothing else.

    Raises:
        MachineError: they cannot be written.
    """
    path = folder / "model.xml"
    try:
        ov.save_model(network, path, compress_to_fp16=False)
    except RuntimeError as error:  # of a stream, which does not say why
        raise MachineError(f"A network cannot be written to {folder.parent}; make room there.") from error
    return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def character_list(path: Path) -> list[str]:
    """Return the characters that a PaddleOCR recogniser in ONNX form carries in its metadata."""
    framework = core().read_model(path).get_rt_info(["framework"])
    return str(framework["character"]).splitlines()
