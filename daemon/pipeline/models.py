"""Which weights, where, with which checksum; and the form of them that the CPU runs.

A checkpoint is code until proven otherwise: it is loaded only from where the operator put it, with Ultralytics'
safe loading on (``daemon.pipeline`` sets the environment), and never fetched in the middle of a job.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.errors import ModelError
from daemon.fs.atomic import fsync_folder
from daemon.settings import Settings

log = logging.getLogger(__name__)

EXPORT_VERSION = 1
"""Part of the cache's folder name: raise it when the form of an export changes."""


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
    """Class names by class id."""
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
    path = settings.weights
    if path is None:
        found = sorted(settings.models_dir.glob("*.pt"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        if not found:
            return None
        path = found[-1]
    if not path.is_file():
        raise ModelError(f"The weights {path} are not there; set weights (or --weights) to a .pt file.")
    return Weights(path, path.stem, file_sha256(path))


def finds_own_regions(settings: Settings, *, objects: bool) -> bool:
    """Tell whether the text detector that comes with Dropframe finds the regions of text.

    Args:
        settings: ``text_regions`` decides; ``auto`` takes RapidOCR's detector where there are object weights.
        objects: Whether there are object weights.
    """
    return settings.text_regions == "yolo" or (settings.text_regions == "auto" and not objects)


def bundled_weights() -> Weights:
    """Return the text detector that comes with Dropframe (docs/text-detector.md)."""
    path = Path(__file__).with_name("weights") / "dropframe-text.pt"
    return Weights(path, path.stem, file_sha256(path))


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
        ModelError: the file is not an Ultralytics checkpoint, or not for detection.
    """
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    from ultralytics.nn.tasks import load_checkpoint as load  # takes seconds to import

    try:
        model, _ = load(weights.path, device="cpu", fuse=True)
    except Exception as error:  # whatever unpickling a foreign file may raise
        raise ModelError(
            f"{weights.path.name} cannot be loaded as Ultralytics weights ({_first_line(error)}); "
            "put a detection checkpoint (.pt) in its place."
        ) from error
    if getattr(model, "task", None) != "detect":
        raise ModelError(f"{weights.path.name} is for the task {getattr(model, 'task', None)!r}, not for detection.")
    return model


def export(weights: Weights, settings: Settings) -> Exported:
    """Return the weights in OpenVINO form, made once and cached by their checksum.

    Raises:
        ModelError: the weights cannot be loaded or exported.
    """
    folder = settings.models_dir / "exported" / f"{weights.sha256[:16]}-v{EXPORT_VERSION}"
    if not (folder / "model.json").is_file():
        _export(weights, folder)
    about = json.loads((folder / "model.json").read_text())
    return Exported(
        xml=folder / "model.xml",
        names={int(number): name for number, name in about["names"].items()},
        stride=about["stride"],
        end_to_end=about["end_to_end"],
    )


def _export(weights: Weights, folder: Path) -> None:
    log.info("exporting %s to OpenVINO (once)", weights.path.name)
    model = load_checkpoint(weights)
    from ultralytics import YOLO

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        work = Path(temporary)
        copy = work / "model.pt"  # Ultralytics writes beside the file it reads
        shutil.copyfile(weights.path, copy)
        try:
            made = Path(YOLO(copy, task="detect").export(format="openvino", dynamic=True, verbose=False))
        except Exception as error:
            raise ModelError(f"{weights.path.name} cannot be exported ({_first_line(error)}).") from error
        about = {
            "name": weights.name,
            "sha256": weights.sha256,
            "names": model.names,
            "stride": int(max(model.stride)),
            "end_to_end": bool(getattr(model, "end2end", False)),
        }
        (made / "model.json").write_text(json.dumps(about, indent=1))
        for part in made.iterdir():
            make_durable(part)
        shutil.rmtree(folder, ignore_errors=True)  # only a damaged one is in the way
        made.rename(folder)  # a rename is all or nothing, so an export that is there is whole
        fsync_folder(folder.parent)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
