"""SubmitOptions: what a submission asks for, read from its query and its form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from daemon.fs.moves import NAME_BYTES
from daemon.jobs import Options
from daemon.pipeline.pipelines import Pipeline
from daemon.unknown_names import no_such
from sidecar.problems import Problem, bad_field, bad_fields
from sidecar.query import unknown_fields

OPTIONS = tuple(option.name for option in fields(Options))
FIELDS = ("pipeline_id", *OPTIONS)
"""What has an effect."""
TOLERATED = ("plugin_id", "tool")
"""What clients of other services send with each video; it is accepted and has no effect."""
ENDING_BYTES = 16
"""Of the ending that a name keeps when it is cut."""
_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class SubmitOptions:
    """How a video is to be analysed."""

    pipeline_id: str
    options: Options
    warnings: tuple[str, ...] = ()
    """A sentence on each field that was accepted and has no effect."""

    def asked_for(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a job was submitted with these options."""
        return (self.pipeline_id, asdict(self.options)) == (record["pipeline_id"], record["options"])


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
    numbers = {name: int(text) if _NUMBER.fullmatch(text) else text for name, text in given.items()}
    wrong = unknown_fields("option", (name for name in values if name not in TOLERATED), FIELDS)
    pipeline_id = values.get("pipeline_id", "").strip() or default
    unknown = "" if pipeline_id in pipelines else no_such("pipeline", pipeline_id, sorted(pipelines))
    if errors := Options.errors_in(numbers) | wrong:
        raise bad_fields({"pipeline_id": unknown} | errors if unknown else errors)
    if unknown:
        raise Problem(404, unknown, "unknown-pipeline")
    warnings = tuple(f"{name} has no effect; pipeline_id chooses the pipeline." for name in TOLERATED if name in values)
    return SubmitOptions(pipeline_id, Options.from_mapping(numbers), warnings)


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
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > ENDING_BYTES:
        stem, dot, ending = name, "", ""
    left = NAME_BYTES - len((dot + ending).encode())
    return stem.encode()[:left].decode("utf-8", "ignore") + dot + ending
