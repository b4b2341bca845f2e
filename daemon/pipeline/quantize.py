"""Quantizing: weights get an int8 model, calibrated with frames of clips. The only file that knows NNCF.

The layers are calibrated; what the head makes of their output stays as it is: of its numbers some are pixels and others
shares, and eight bits for all would put every box elsewhere.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from daemon import __version__
from daemon.boxes import iou
from daemon.errors import BadVideo, MachineError, ModelError
from daemon.fs.identity import shown
from daemon.jobs import utc_now
from daemon.pipeline.inference import in_half, network_bytes, read_network, require_cpu
from daemon.pipeline.int8 import Int8Model, save_int8
from daemon.pipeline.loaded import usable_device
from daemon.pipeline.models import UNFINISHED, Weights, export, first_line
from daemon.pipeline.records import Detection, Image
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits
from daemon.pipeline.video_still import NoSuchFrame, WantedFrame, find_frame
from daemon.pipeline.yolo import Yolo
from daemon.settings import Settings

PICTURES = 132
"""Taken of all clips together, about."""
HELD_BACK = 4
"""One of so many is kept out of the calibration, and tells how well its result agrees."""
LEAST = 16
"""With fewer pictures it is not tried."""
LONG = 15_000
"""Frames above which a clip is not decoded as a whole; where their number is not known, it is estimated."""
SAME, NEAR = 0.9, 0.5
"""Overlaps (IoU) from which a box counts as the same, and as one of the same thing."""
PACKAGES = ("nncf", "openvino", "torch", "ultralytics-opencv-headless")

Found = list[list[Detection]]


@dataclass(frozen=True)
class Agreement:
    """How one precision agrees with fp32 on pictures that were held back."""

    precision: str
    boxes: int
    """Found by the two together: a box that both see counts twice."""
    same: float
    """Share of the boxes that the other has, too: of the same class, and at an overlap of 0.9."""
    near: float
    """The same at an overlap of 0.5."""
    milliseconds: float
    """Of the processor, a picture."""


def quantize(
    weights: Weights, clips: Sequence[Path], settings: Settings, on_step: Callable[[str], None] = lambda step: None
) -> tuple[Path, dict[str, Any]]:
    """Calibrate weights to int8 with frames of clips, and put the result beside their export.

    Args:
        weights: Which.
        clips: Such as the weights are for.
        settings: Say where exports are kept, and how objects are found.
        on_step: Called with what is done next, in words.

    Returns:
        The file, and its record: what it was made from, and an ``Agreement`` of each precision.

    Raises:
        MachineError: NNCF is not installed, or the settings' device is a GPU.
        BadVideo: a clip cannot be decoded.
        ModelError: the weights cannot be used, or the clips show too little.
        OSError: a clip cannot be read, or the file not be written.
    """
    require_nncf()
    require_cpu(usable_device(settings.device))
    precise = Yolo.load(weights, settings.model_copy(update={"precision": "fp32"}), "cpu")
    taken: dict[Path, list[Image]] = {}
    for path in (distinct := dict.fromkeys(clips)):
        on_step(f"taking frames of {path.name}")
        taken[path] = pictures_of(path, settings, max(1, PICTURES // len(distinct)), precise.fitted)
    used, held_back = divided([picture for pictures in taken.values() for picture in pictures])
    on_step(f"looking at {len(held_back)} of them in fp32")
    expected, milliseconds = seen(precise, held_back)
    if not any(expected):
        raise ModelError(
            f"Nothing was found in {len(held_back)} frames of the clips, so there is nothing to calibrate to; name "
            "clips that show what is to be found."
        )
    on_step(f"calibrating with {len(used)} of them")
    network = calibrated(export(weights, settings).xml, used)
    record: dict[str, Any] = {
        "name": weights.name,
        "sha256": weights.sha256,
        "made_at": utc_now(),
        "versions": {"dropframe": __version__, **versions()},
        "image_size": settings.image_size,
        "frames": len(used),
        "held_back": len(held_back),
        "clips": [{"name": shown(path.name), "frames": len(pictures)} for path, pictures in taken.items()],
    }
    on_step("comparing")
    others = compared(weights, settings, Int8Model(network, record), held_back, expected)
    full = Agreement("fp32", 2 * sum(map(len, expected)), 1.0, 1.0, milliseconds)
    record["agreement"] = [asdict(each) for each in (full, *others)]
    return save_int8(Int8Model(network, record), weights, settings), record


def divided(pictures: Sequence[Image]) -> tuple[list[Image], list[Image]]:
    """Return the pictures to calibrate with, and those that are held back to be compared.

    Raises:
        ModelError: there are too few.
    """
    if len(pictures) < LEAST:
        raise ModelError(f"The clips have {len(pictures)} frames, and calibrating needs {LEAST} or more; name others.")
    used = [picture for number, picture in enumerate(pictures, 1) if number % HELD_BACK]
    return used, list(pictures[HELD_BACK - 1 :: HELD_BACK])


def require_nncf() -> None:
    """Make sure that NNCF is installed; it is not loaded.

    Raises:
        MachineError: it is not.
    """
    if importlib.util.find_spec("nncf") is None:
        raise MachineError(
            "Quantizing needs a package that is not installed; install it with: pip install 'dropframe[int8]'"
        )


def versions() -> dict[str, str]:
    """Return the versions of what has a part in quantizing."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def pictures_of(path: Path, settings: Settings, wanted: int, fit: Callable[[Image], Image]) -> list[Image]:
    """Return some frames of a clip, spread over it and made ready for the network.

    Raises:
        BadVideo: the clip cannot be decoded; the sentence names it.
        OSError, TransientError: as ``Video``.
    """
    limits = Limits.of(settings)
    try:
        with closing(Video(path, limits)) as video:
            listed, duration = video.info.frame_count or 0, video.info.duration_s
            if duration is None or (listed or duration * (video.info.fps or 0)) <= LONG:
                frames = video.frames(max(1, listed // wanted))
                return thinned((fit(frame.image) for frame in frames), wanted)
        found = []
        for number in range(wanted):
            with suppress(NoSuchFrame):
                moment = WantedFrame(seconds=duration * (number + 0.5) / wanted)
                found.append(fit(find_frame(path, limits, moment).image))
    except BadVideo as error:
        raise BadVideo(f"{shown(path.name)}: {error}") from error
    return found


def thinned(pictures: Iterable[Image], wanted: int) -> list[Image]:
    """Return so many of some pictures, spread over them evenly; never more than twice as many are kept."""
    kept: list[Image] = []
    step = 1
    for number, picture in enumerate(pictures):
        if number % step == 0:
            kept.append(picture)
        if len(kept) > 2 * wanted:
            kept, step = kept[::2], step * 2
    count = min(wanted, len(kept))
    return [kept[number * len(kept) // count] for number in range(count)]


def calibrated(xml: Path, pictures: Sequence[Image]) -> tuple[bytes, bytes]:
    """Return a detector whose layers are in int8: XML and weights.

    Args:
        xml: The detector.
        pictures: As its letterbox makes them.

    Raises:
        ModelError: NNCF cannot quantize it.
        MachineError: the result cannot be written.
    """
    try:
        with redirect_stdout(sys.stderr):  # progress, which is not what the command prints
            made = _quantized(read_network(xml), pictures)
    except Exception as error:  # whatever NNCF and what it needs may raise
        raise ModelError(f"The weights cannot be quantized ({first_line(error)}).") from error
    with tempfile.TemporaryDirectory(dir=xml.parents[1], prefix=UNFINISHED) as folder:
        return network_bytes(made, Path(folder))


def _quantized(network: Any, pictures: Sequence[Image]) -> Any:
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        network,
        nncf.Dataset(pictures, as_input),
        preset=nncf.QuantizationPreset.MIXED,  # symmetric, a clip of few boxes came down to 64 % of them
        subset_size=len(pictures),
        ignored_scope=nncf.IgnoredScope(names=head_operations(network), validate=False),
    )


def as_input(picture: Image) -> Image:
    """Return a picture as the exported network takes it: shape (1, 3, height, width), red first, 0 to 1."""
    pixels: Image = np.ascontiguousarray(picture[None, ..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    return pixels


def head_operations(network: Any) -> list[str]:
    """Return the names of what a detector's head does with the output of its layers, and of every sigmoid."""
    operations = [(each.get_friendly_name(), each.get_type_name()) for each in network.get_ordered_ops()]
    sigmoids = [name for name, kind in operations if kind == "Sigmoid"]
    if not sigmoids:
        return []
    head = sigmoids[-1].split("/", 1)[0]  # as in __module.model.22/aten::sigmoid/Sigmoid
    return [name for name, kind in operations if kind == "Sigmoid" or name.startswith((f"{head}/", f"{head}.dfl"))]


def compared(
    weights: Weights, settings: Settings, model: Int8Model, pictures: Sequence[Image], expected: Found
) -> list[Agreement]:
    """Return how int8 agrees with fp32, and how bf16 does where the processor has it.

    Raises:
        ModelError: the int8 model cannot be used.
    """
    found = []
    for precision in ("int8", *(["half"] if in_half("auto", "cpu") else [])):
        yolo = Yolo.load(weights, settings.model_copy(update={"precision": precision}), "cpu", model)
        seen_now, milliseconds = seen(yolo, pictures)
        boxes = sum(map(len, seen_now)) + sum(map(len, expected))
        same, near = (share(seen_now, expected, overlap) for overlap in (SAME, NEAR))
        found.append(Agreement({"half": "bf16"}.get(precision, precision), boxes, same, near, milliseconds))
    return found


def seen(yolo: Yolo, pictures: Sequence[Image]) -> tuple[Found, float]:
    """Return what is in each picture, and the milliseconds of the processor that one takes."""
    found: Found = []
    seconds = 0.0
    for _, group in groupby(pictures, key=lambda picture: picture.shape):
        some = list(group)
        yolo(some[:1])  # so that it is compiled for this size
        begun = time.process_time()
        found += [each.detections for each in yolo(some)]
        seconds += time.process_time() - begun
    return found, seconds * 1000 / len(pictures)


def share(some: Found, others: Found, overlap: float) -> float:
    """Return the share of boxes, of both sides, that the other side has: of the same class, and at an overlap."""
    hits = total = 0
    for pair in zip(some, others, strict=True):
        for these, those in (pair, pair[::-1]):
            total += len(these)
            hits += sum(any(a.class_id == b.class_id and iou(a.box, b.box) >= overlap for b in those) for a in these)
    return hits / total if total else 1.0
