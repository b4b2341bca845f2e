"""Which files among the weights are not used, and why: for ``dropframe doctor`` and ``dropframe models list``."""

from __future__ import annotations

import contextlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from daemon.fs.identity import shown
from daemon.settings import Settings

EXPORTS = {
    ".onnx": "ONNX",
    ".torchscript": "TorchScript",
    ".engine": "TensorRT",
    ".mlpackage": "Core ML",
    ".mlmodel": "Core ML",
    ".tflite": "TFLite",
    ".pb": "TensorFlow",
    ".xml": "OpenVINO",
    ".mnn": "MNN",
}
EXPORT_FOLDERS = {"_openvino_model": "OpenVINO", "_saved_model": "TensorFlow", "_ncnn_model": "NCNN"}
PICKLE = b"\x80"
"""What an older PyTorch writes begins with it; since 1.6 it is a ZIP."""
OURS = "exported"
"""The folder in which Dropframe keeps its own exports."""


@dataclass(frozen=True)
class UnusedWeights:
    """A file among the weights that is not used."""

    name: str
    reason: str
    """Why, and what to do, in a sentence."""


def unused_weights(settings: Settings, used: Path | None) -> list[UnusedWeights]:
    """Return what is in ``data/models/`` and is not used, by name.

    Args:
        settings: Say where the weights are.
        used: The weights in use.
    """
    found: list[UnusedWeights] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(settings.models_dir.iterdir()):
            if path.name == OURS or path.name.startswith(".") or path.name.endswith(".part"):
                continue
            if used is None or not _same(path, used):
                found.append(UnusedWeights(shown(path.name), _reason(path, used)))
    return found


def checkpoint_problem(path: Path) -> str | None:
    """Say what is wrong with a file that is named .pt, as far as its content tells at a glance; None if nothing is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(200).lstrip().lower()
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer and not the weights themselves; fetch them with git lfs pull"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page and not weights; fetch the file that the page offers"
    if head.startswith(b"pk\x03\x04"):
        return _archive_problem(path)
    if not head.startswith(PICKLE):
        return "it is not a file that PyTorch writes; put a detection checkpoint (.pt) in its place"
    return None


def _archive_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "it is cut off; fetch it again"
    if "data.pkl" not in names:
        return "it is a ZIP archive and not weights; put the detection checkpoint (.pt) that is in it here"
    if "constants.pkl" in names:
        return "it is TorchScript, which is an export; put the .pt that it was made from in its place"
    return None


def _same(path: Path, used: Path) -> bool:
    try:
        return path.samefile(used)
    except OSError:
        return False


def _reason(path: Path, used: Path | None) -> str:
    if kind := export_kind(path):
        return f"It is an export ({kind}), and Dropframe makes its own; put the .pt that it was made from here instead."
    if path.is_dir():
        return "It is a folder; put weights (.pt) into data/models itself."
    if not path.is_file():
        return "It is not a file but a link that leads to none, a pipe or the like; remove it."
    if path.suffix != ".pt":
        if path.suffix.lower() == ".pt":
            return "Its name does not end in .pt but in capitals; rename it."
        return "Its name does not end in .pt, so it is not taken for Ultralytics weights."
    try:
        problem = checkpoint_problem(path)
    except OSError as error:
        return f"It cannot be read: {error.strerror}."
    if problem:
        return problem[0].upper() + problem[1:] + "."
    newer = f"{shown(used.name)} is used" if used else "No weights are used"
    return f"{newer}: the setting weights decides, or else the newest .pt; name this one to use it."


def export_kind(path: Path) -> str | None:
    """Return which form of exported weights a name tells of; None if it does not."""
    for ending, kind in EXPORT_FOLDERS.items():
        if path.name.endswith(ending):
            return kind
    return EXPORTS.get(path.suffix.lower())
