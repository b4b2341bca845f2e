"""The int8 model of weights: where it is kept, what it was made from, and what to do where there is none.

It is one file, so that it is there whole or not at all: a ZIP of a network in OpenVINO form and a record of its making.
It is named by the checksum of the weights, so other weights under the same name do not get it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from daemon.errors import ModelError
from daemon.fs.atomic import atomic_write
from daemon.fs.identity import shown
from daemon.pipeline.models import Weights, export_folder
from daemon.settings import Settings

XML, WEIGHTS, RECORD = "model.xml", "model.bin", "model.json"
"""Names in the ZIP."""
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, TypeError, ValueError, EOFError, RuntimeError)
"""What reading a ZIP of any content may raise, and JSON."""


@dataclass(frozen=True)
class Int8Model:
    """A network whose layers compute with numbers of eight bits, and what it was made from."""

    network: tuple[bytes, bytes]
    """In OpenVINO form: XML and weights."""
    record: Mapping[str, Any]
    """``sha256`` of the weights, versions, frames and clips, and how well it agrees with full precision."""

    @cached_property
    def digest(self) -> str:
        """Names the network: one that is calibrated anew finds other boxes."""
        digest = hashlib.sha256()
        for part in self.network:
            digest.update(part)
        return digest.hexdigest()


def int8_path(weights: Weights, settings: Settings) -> Path:
    """Return where the int8 model of weights is, or would be: beside their export."""
    folder = export_folder(weights, settings)
    return folder.with_name(folder.name + "-int8.zip")


def save_int8(model: Int8Model, weights: Weights, settings: Settings) -> Path:
    """Put the int8 model of weights in its place, whole or not at all; return the place.

    Raises:
        OSError: it cannot be written.
    """
    path = int8_path(weights, settings)
    contents: tuple[bytes, ...] = (*model.network, json.dumps(dict(model.record), indent=1).encode())
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in zip((XML, WEIGHTS, RECORD), contents, strict=True):
            archive.writestr(zipfile.ZipInfo(name), content)  # without a time: a clock before 1980 cannot be written
    return path


def find_int8(weights: Weights, settings: Settings) -> Int8Model | None:
    """Return the int8 model of weights, or None if there is none.

    Raises:
        ModelError: it is damaged, or that of other weights.
        OSError: it cannot be read.
    """
    try:
        content = int8_path(weights, settings).read_bytes()
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # of a file, some damage would be an OSError
            xml, network, record = (archive.read(name) for name in (XML, WEIGHTS, RECORD))
        model = Int8Model((xml, network), json.loads(record))
        if model.record["sha256"] != weights.sha256:
            raise ValueError("it is that of other weights")
    except DAMAGE as error:
        raise ModelError(f"{subject(weights)} is damaged; {remedy(weights, settings)}.") from error
    return model


def require_int8(weights: Weights, settings: Settings) -> Int8Model:
    """Return the int8 model of weights.

    Raises:
        ModelError: there is none, or it is damaged; the sentence names the command that makes it.
        OSError: it cannot be read.
    """
    found = find_int8(weights, settings)
    if found is None:
        raise ModelError(
            f"precision is int8, but there is no int8 model of {shown(weights.path.name)}; "
            f"{remedy(weights, settings, 'make one')}."
        )
    return found


def subject(weights: Weights) -> str:
    """Return what a sentence about the int8 model of weights begins with."""
    return f"The int8 model of {shown(weights.path.name)}"


def remedy(weights: Weights, settings: Settings, make: str = "make it again") -> str:
    """Return what to do where the int8 model of weights cannot be used: the end of a sentence."""
    is_known_by_name = weights.path.parent == settings.models_dir and weights.path.suffix == ".pt"
    name = shlex.quote(shown(weights.name if is_known_by_name else str(weights.path)))
    return f"{make} with dropframe models quantize {name} --from CLIP, or set precision to auto"
