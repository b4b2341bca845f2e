"""SubmitOptions: what a submission asks for, read from its query and its form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from daemon.fs.moves import NAME_BYTES
from daemon.jobs import Options
from daemon.pipeline.pipelines import Pipeline
from daemon.unknown_names import no_such
from sidecar.problems import Problem, bad_field, bad_fields
from sidecar.query import unknown_fields

OPTIONS = tuple(option.name for option in fields(Options))
LONGEST_ENDING = 16
"""Bytes behind the last dot of a name from which it is not an ending; those are kept when a name is cut."""
FIELDS = ("pipeline_id", *OPTIONS)
"""What has an effect."""
TOLERATED = ("plugin_id", "tool")
"""What clients of other services send with each video; it is accepted and has no effect."""


@dataclass(frozen=True)
class SubmitOptions:
    """How a video is to be analysed."""

    pipeline_id: str
    options: Options
    warnings: tuple[str, ...] = ()
    """A sentence on each field that was accepted and has no effect."""

    def asked_for(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a job was submitted with these options; the order of exports means nothing."""
        recorded = (record["pipeline_id"], record["options"], set(record.get("asked_exports", ())))
        return (self.pipeline_id, self.options.sampling, set(self.options.exports)) == recorded


def read_submit_options(values: Mapping[str, str], pipelines: Mapping[str, Pipeline], default: str) -> SubmitOptions:
    """Check what a client asks for.

    Args:
        values: By field; what is missing or empty has its default.
        pipelines: Those there are.
        default: Pipeline id where none is given.

    Raises:
        Problem: 422 naming each field that is wrong or unknown, 404 if nothing is wrong but the pipeline.
    """
    given = {name: values[name].strip() for name in OPTIONS if values.get(name, "").strip()}
    asked = {name: Options.value_in(name, text) for name, text in given.items()}
    wrong = unknown_fields("option", (name for name in values if name not in TOLERATED), FIELDS)
    pipeline_id = values.get("pipeline_id", "").strip() or default
    unknown = "" if pipeline_id in pipelines else no_such("pipeline", pipeline_id, sorted(pipelines))
    if errors := Options.errors_in(asked) | wrong:
        raise bad_fields({"pipeline_id": unknown} | errors if unknown else errors)
    if unknown:
        raise Problem(404, unknown, "unknown-pipeline")
    warnings = tuple(f"{name} has no effect; pipeline_id chooses the pipeline." for name in TOLERATED if name in values)
    return SubmitOptions(pipeline_id, Options.from_mapping(asked), warnings)


def source_name(given: str) -> str:
    """Return a client's file name without its folders, for people and never for the disk.

    Raises:
        Problem: 422 if it holds a NUL or leads upwards.
    """
    parts = given.replace("\\", "/").split("/")
    if "\0" in given or ".." in parts:
        raise bad_field("file", "Its name must not contain a NUL or '..'.")
    name = parts[-1] or "video.mp4"
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    stem, ending = os.path.splitext(name)
    if len(ending.encode()) > LONGEST_ENDING:
        stem, ending = name, ""
    return stem.encode()[: NAME_BYTES - len(ending.encode())].decode("utf-8", "ignore") + ending
