"""Which weights, where, with which checksum; and the form of them that the CPU runs.

A checkpoint is code until proven otherwise: it is loaded only from where the operator put it, with Ultralytics'
safe loading on (``daemon.pipeline`` sets the environment), and never fetched in the middle of a job.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.errors import ModelError
from daemon.fs.atomic import fsync_folder
from daemon.fs.identity import shown
from daemon.pipeline.unused_weights import checkpoint_problem
from daemon.settings import Settings

log = logging.getLogger(__name__)

UNFINISHED = ".export-"
"""What the name of a folder begins with in which something is made beside the exports."""
EXPORT_VERSION = 2
"""Part of the cache's folder name: raise it when the form of an export changes."""
CHANNELS = 3
"""Of a frame, and so of what a detector must take."""


@dataclass(frozen=True)
class Weights:
    """A checkpoint on disk."""

    path: Path
    name: str
    """File name without its ending."""
    sha256: str


@dataclass(frozen=True)
class Exported:
    """A detector in OpenVINO form."""

    xml: Path
    names: dict[int, str]
    """Class names by class id; there may be more than classes."""
    classes: int
    """Classes that the network tells apart."""
    stride: int
    """Input sides are multiples of this, pixels."""
    end_to_end: bool
    """Whether it gives final boxes, so that it needs no non-maximum suppression."""


def find_weights(settings: Settings) -> Weights | None:
    """Return the object weights in use, or None if there are none.

    The setting ``weights`` comes first, then the newest ``.pt`` in ``data/models/``.

    Raises:
        ModelError: the setting names a file that is not there.
    """
    path = settings.weights or newest_weights(settings)
    if path is None:
        return None
    if not path.is_file():
        raise ModelError(f"The weights {path} are not there; set weights (or --weights) to a .pt file.")
    return Weights(path, path.stem, file_sha256(path))


def named_weights(name: str, settings: Settings) -> Weights:
    """Return weights by their name in ``data/models/``, with or without ``.pt``, or by their path.

    Raises:
        ModelError: there are none.
    """
    places = [Path(name), settings.models_dir / name, settings.models_dir / f"{name}.pt"]
    places += [settings.weights] if settings.weights and settings.weights.stem == name else []
    path = next((place for place in places if place.suffix == ".pt" and place.is_file()), None)
    if path is None:
        there = ", ".join(shown(each.stem) for each in sorted(settings.models_dir.glob("*.pt")))
        raise ModelError(f"There are no weights {shown(name)}; {settings.models_dir} has {there or 'none'}.")
    return Weights(path, path.stem, file_sha256(path))


def newest_weights(settings: Settings) -> Path | None:
    """Return the newest ``.pt`` in ``data/models/``, or None if there is none."""
    found: list[tuple[int, str, Path]] = []
    for path in settings.models_dir.glob("*.pt"):
        with contextlib.suppress(FileNotFoundError):  # it was removed just now
            if path.is_file():  # and not a folder, a pipe or a link to nothing
                found.append((path.stat().st_mtime_ns, path.name, path))
    return max(found)[2] if found else None


def file_sha256(path: Path, on_block: Callable[[], None] = lambda: None) -> str:
    """Return a file's SHA-256 as hexadecimal digits.

    Args:
        path: The file.
        on_block: Called after each block of 1 MiB; what it raises ends the reading.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            on_block()
    return digest.hexdigest()


def make_durable(path: Path) -> None:
    """Make a file's content survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_checkpoint(weights: Weights) -> Any:
    """Return the torch module of a detector, on the CPU, ready for inference.

    Raises:
        ModelError: the file is not an Ultralytics checkpoint, not a YOLO for detection, not for colour pictures, or
            a class has no name.
    """
    if problem := checkpoint_problem(weights.path):
        raise ModelError(f"{weights.path.name} cannot be loaded as Ultralytics weights: {problem}.")
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    from ultralytics.nn.tasks import load_checkpoint as load  # takes seconds to import

    try:
        with warnings.catch_warnings(action="ignore"):  # of torch, on what it then refuses
            model, _ = load(weights.path, device="cpu", fuse=True)
    except Exception as error:  # whatever unpickling a foreign file may raise
        raise ModelError(
            f"{weights.path.name} cannot be loaded as Ultralytics weights ({_why_not(error)}); "
            "put a detection checkpoint (.pt) in its place."
        ) from error
    if getattr(model, "task", None) != "detect":
        raise ModelError(f"{weights.path.name} is for the task {getattr(model, 'task', None)!r}, not for detection.")
    _check_layout(model, weights.path.name)
    model.names = _class_names(getattr(model, "names", None), model.model[-1].nc, weights.path.name)
    return model


def _why_not(error: Exception) -> str:
    """Return why a file cannot be loaded; what the libraries say of a foreign one is for their developers."""
    if isinstance(error, OSError | MemoryError | ImportError):
        return first_line(error)
    log.debug("weights cannot be loaded: %s", error)
    if "unsafe" in str(error).lower() or "unsupported global" in str(error).lower():
        return "it needs program code that is not Ultralytics' and is not run"
    return "it does not hold an Ultralytics model, or is damaged"


def _check_layout(model: Any, file: str) -> None:
    """Raise ModelError unless a detector takes pictures of three channels and has the head of a YOLO."""
    from ultralytics.nn.modules.head import Detect  # RT-DETR's is another, and so are its boxes

    try:
        head = model.model[-1]
    except (AttributeError, TypeError, IndexError, KeyError):  # another network, which has no row of layers
        head = model
    channels = next((weight.shape[1] for weight in model.parameters() if weight.dim() == 4), None)
    if not isinstance(head, Detect) or channels is None:
        raise ModelError(
            f"{file} is not a YOLO (its head is {type(head).__name__}); put a YOLO detection checkpoint in its place."
        )
    if channels != CHANNELS:
        raise ModelError(
            f"{file} expects {channels} channel{'' if channels == 1 else 's'}, but a frame has {CHANNELS} (colour); "
            "put weights that were trained on colour pictures in its place."
        )


def _class_names(given: Any, classes: int, file: str) -> dict[int, str]:
    """Return a name for each class, whatever form a checkpoint gives them in.

    Raises:
        ModelError: a class has none.
    """
    named = dict(enumerate(given)) if isinstance(given, list | tuple) else given
    try:
        names = {int(number): str(name) for number, name in named.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    missing = [number for number in range(classes) if number not in names]
    if missing:
        raise ModelError(
            f"{file} tells {classes} classes apart but has no name for class {missing[0]}; "
            f"set names in it for the classes 0 to {classes - 1}."
        )
    return names


def export_folder(weights: Weights, settings: Settings) -> Path:
    """Return where the weights' export is, or would be."""
    return settings.models_dir / "exported" / f"{weights.sha256[:16]}-v{EXPORT_VERSION}"


def export(weights: Weights, settings: Settings) -> Exported:
    """Return the weights in OpenVINO form, made once and cached by their checksum.

    Raises:
        ModelError: the weights cannot be loaded or exported.
    """
    folder = export_folder(weights, settings)
    if not (folder / "model.json").is_file():
        _export(weights, folder)
    about = json.loads((folder / "model.json").read_text())
    return Exported(
        xml=folder / "model.xml",
        names={int(number): name for number, name in about["names"].items()},
        classes=about["classes"],
        stride=about["stride"],
        end_to_end=about["end_to_end"],
    )


def _export(weights: Weights, folder: Path) -> None:
    log.info("exporting %s to OpenVINO (once)", weights.path.name)
    model = load_checkpoint(weights)
    from ultralytics import YOLO

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=UNFINISHED) as temporary:
        work = Path(temporary)
        copy = work / "model.pt"  # Ultralytics writes beside the file it reads
        shutil.copyfile(weights.path, copy)
        try:
            made = Path(YOLO(copy, task="detect").export(format="openvino", dynamic=True, verbose=False))
        except Exception as error:
            raise ModelError(f"{weights.path.name} cannot be exported ({first_line(error)}).") from error
        about = {
            "name": weights.name,
            "sha256": weights.sha256,
            "names": model.names,
            "classes": model.model[-1].nc,
            "stride": int(max(model.stride)),
            "end_to_end": bool(getattr(model, "end2end", False)),
        }
        (made / "model.json").write_text(json.dumps(about, indent=1))
        for part in made.iterdir():
            make_durable(part)
        shutil.rmtree(folder, ignore_errors=True)  # only a damaged one is in the way
        made.rename(folder)  # a rename is all or nothing, so an export that is there is whole
        fsync_folder(folder.parent)


def first_line(error: Exception) -> str:
    """Return what an error of a library says, cut to a part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
