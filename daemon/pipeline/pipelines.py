"""Pipelines: named lists of stages, ours and those that others register.

Another package adds one with an entry point in the group ``dropframe.pipelines`` whose value is a ``Pipeline``
(docs/pipelines.md shows a whole one)::

    [project.entry-points."dropframe.pipelines"]
    brightness = "my_package:PIPELINE"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from daemon.errors import BadOptions, MachineError, ModelError
from daemon.unknown_names import no_such

if TYPE_CHECKING:
    from daemon.pipeline.loaded import LoadedModels
    from daemon.pipeline.records import Stage

ENTRY_POINTS = "dropframe.pipelines"


@dataclass(frozen=True)
class Pipeline:
    """A named list of stages."""

    pipeline_id: str
    """The name in calls, and of the inbox's subfolder: letters, digits, "-" and "_"."""
    description: str
    stages: Callable[[LoadedModels], Sequence[Stage]]
    """Gives the stages in order, taking models that are loaded already."""
    warnings: Callable[[LoadedModels], Sequence[str]] = field(default=lambda _: ())
    """Gives sentences for the result's summary about what could not be done."""
    needs_objects: bool = False
    """Its jobs fail without object weights."""
    wants_objects: bool = False
    """Without object weights its jobs are completed, but lack objects."""


def _objects(loaded: LoadedModels) -> Sequence[Stage]:
    if loaded.objects is None:
        raise ModelError(NO_WEIGHTS)
    return [loaded.objects]


NO_WEIGHTS = (
    "There are no object weights; put an Ultralytics detection checkpoint (.pt) into data/models/ or set weights, "
    "then retry. Weights in data/models/ are taken up without a restart."
)

NO_OBJECTS = "No objects were looked for, as there are no object weights; the detections are regions of text."

PIPELINES = (
    Pipeline(
        "yolo_ocr",
        "Objects and text in every frame.",
        lambda loaded: [loaded.objects, loaded.text] if loaded.objects else [loaded.text_detecting],
        lambda loaded: [] if loaded.objects else [NO_OBJECTS],
        wants_objects=True,
    ),
    Pipeline("yolo", "Objects in every frame.", _objects, needs_objects=True),
    Pipeline("ocr_only", "Text in every frame.", lambda loaded: [loaded.text]),
)


def all_pipelines() -> Mapping[str, Pipeline]:
    """Return every pipeline by its id.

    Raises:
        MachineError: an installed package registers one that cannot be loaded, or an id twice.
    """
    found = {p.pipeline_id: p for p in PIPELINES}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            pipeline = entry.load()
        except Exception as error:
            raise MachineError(f"The pipeline {entry.name!r} ({entry.value}) cannot be loaded: {error}.") from error
        if not isinstance(pipeline, Pipeline) or pipeline.pipeline_id in found or not _is_name(pipeline.pipeline_id):
            raise MachineError(
                f"{entry.value} is not a Pipeline with a name of its own; ask its author, or uninstall it."
            )
        found[pipeline.pipeline_id] = pipeline
    return found


def _is_name(pipeline_id: str) -> bool:
    return re.fullmatch("[A-Za-z0-9_-]+", pipeline_id) is not None and pipeline_id != "rejected"


def get_pipeline(pipeline_id: str) -> Pipeline:
    """Return a pipeline.

    Raises:
        BadOptions: there is none of that name.
    """
    known = all_pipelines()
    if pipeline_id not in known:
        raise BadOptions(no_such("pipeline", pipeline_id, sorted(known)))
    return known[pipeline_id]


def check_fit(stages: Sequence[Stage]) -> None:
    """Raise MachineError unless each stage finds what it needs filled by those before it."""
    filled: frozenset[str] = frozenset()
    for stage in stages:
        if missing := stage.needs - filled:
            raise MachineError(
                f"The stage {stage.name} needs {', '.join(sorted(missing))}, which nothing before it gives."
            )
        filled |= stage.gives
