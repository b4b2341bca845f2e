"""The int8 form of weights: where it is kept, what it was made from, and what to do where there is none.

It is one file, so that it is there whole or not at all: a ZIP of a network in OpenVINO form and a record of its making.
It is named by the checksum of the weights, so other weights under the same name do not get it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
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
        return hashlib.sha256(b"".join(self.network)).hexdigest()


def int8_path(weights: Weights, settings: Settings) -> Path:
    """Return where the int8 form of weights is, or would be: beside their export."""
    folder = export_folder(weights, settings)
    return folder.with_name(folder.name + "-int8.zip")


def save_int8(model: Int8Model, weights: Weights, settings: Settings) -> Path:
    """Put the int8 form of weights in its place, whole or not at all; return the place.

    Raises:
        OSError: it cannot be written.
    """
    path = int8_path(weights, settings)
    xml, content = model.network
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(XML, xml)
        archive.writestr(WEIGHTS, content)
        archive.writestr(RECORD, json.dumps(dict(model.record), indent=1))
    return path


def find_int8(weights: Weights, settings: Settings) -> Int8Model | None:
    """Return the int8 form of weights, or None if there is none.

    Raises:
        ModelError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(int8_path(weights, settings)) as archive:
            xml, content, record = (archive.read(name) for name in (XML, WEIGHTS, RECORD))
        return Int8Model((xml, content), json.loads(record))
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ModelError(
            f"The int8 model of {shown(weights.name)} is damaged; make it again with {command_for(weights, settings)}, "
            "or set precision to auto."
        ) from error


def require_int8(weights: Weights, settings: Settings) -> Int8Model:
    """Return the int8 form of weights.

    Raises:
        ModelError: there is none, or it is damaged; the sentence names the command that makes it.
        OSError: it cannot be read.
    """
    found = find_int8(weights, settings)
    if found is None:
        raise ModelError(
            f"precision is int8, but there is no int8 model of {shown(weights.path.name)}; make one with "
            f"{command_for(weights, settings)}, or set precision to auto."
        )
    return found


def command_for(weights: Weights, settings: Settings) -> str:
    """Return the command that makes the int8 form of weights."""
    there = weights.path.parent == settings.models_dir and weights.path.suffix == ".pt"
    return f"dropframe models quantize {shown(weights.name if there else str(weights.path))} --from CLIP"
