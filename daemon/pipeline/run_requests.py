"""What a pipeline process is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PARTS = ".parts"
"""Ending of the folder that holds a plan and the parts of a document that is not finished."""


@dataclass(frozen=True)
class RunRequest:
    """One run of ``VideoFilePipelineService.run_on_file``."""

    file_path: Path
    pipeline_id: str
    frame_stride: int
    max_frames: int | None
    output_path: Path
    source_name: str

    @property
    def parts(self) -> Path:
        """The folder of the plan and of the parts of the document."""
        return self.output_path.with_name(self.output_path.name + PARTS)

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "file_path": str(self.file_path), "output_path": str(self.output_path)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what ``to_record`` was called on."""
        paths = {name: Path(record[name]) for name in ("file_path", "output_path")}
        return cls(**{**record, **paths})


@dataclass(frozen=True)
class PartRequest:
    """One run of ``PartService.run_part``."""

    plan_path: Path
    number: int
    file_path: Path
    output_path: Path
    spans: Sequence[tuple[int, int]] | None = None
    """Bytes of the file that are there, each from a first up to a last one (exclusive); None if all are."""

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what ``to_record`` was called on."""
        paths = {name: Path(record[name]) for name in ("plan_path", "file_path", "output_path")}
        return cls(**{**record, **paths})
