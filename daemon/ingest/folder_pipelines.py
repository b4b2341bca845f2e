"""FolderPipelines: which pipeline a dropped file runs, by the first folder that it lies in."""

from __future__ import annotations

import difflib
import logging
from collections import defaultdict

from daemon.errors import BadOptions
from daemon.fs.identity import shown
from daemon.logs import LogOnce
from daemon.settings import Settings

log = logging.getLogger(__name__)

NEAR = 0.75
"""Likeness (0 to 1) from which a folder's name is taken for a slip in that of a pipeline."""


class FolderPipelines:
    """Chooses pipelines; a slip in a folder's name is logged once.

    Args:
        settings: The default pipeline, and what a folder is that names none.
        pipelines: Ids of those there are.
    """

    def __init__(self, settings: Settings, pipelines: frozenset[str]) -> None:
        self._default = settings.default_pipeline
        self._plain = settings.folders == "plain"
        self._pipelines = pipelines
        self._spelled: dict[str, set[str]] = defaultdict(set)
        for pipeline_id in pipelines:
            self._spelled[spelling(pipeline_id)].add(pipeline_id)
        self._log_slip: dict[str, LogOnce] = defaultdict(lambda: LogOnce(log))

    def choose(self, path: str) -> str:
        """Return the id of the pipeline of a dropped file.

        A folder may be written in capitals, or with "-" or spaces for "_": ``YOLO-OCR`` means ``yolo_ocr``.

        Args:
            path: Below the inbox.

        Raises:
            BadOptions: there is no such pipeline.
        """
        first, slash, _ = path.partition("/")
        named = first if slash else self._default
        if named in self._pipelines:
            return named
        alike = self._spelled.get(spelling(named), set())
        if slash and len(alike) == 1:
            return next(iter(alike))
        if slash and self._plain and self._default in self._pipelines:
            self._notice_slip(first)
            return self._default
        known = ", ".join(sorted(self._pipelines))
        raise BadOptions(
            f"There is no pipeline {shown(named)!r}; the folders that choose one are {known}. "
            "Drop it into one of them, or into the inbox itself."
        )

    def _notice_slip(self, folder: str) -> None:
        close = difflib.get_close_matches(spelling(folder), self._spelled, 1, NEAR)
        if close:
            meant = ", ".join(sorted(self._spelled[close[0]]))
            self._log_slip[folder](
                f"The folder {shown(folder)} does not name a pipeline, so its videos run {self._default}; "
                f"if {meant} is meant, rename it."
            )


def spelling(name: str) -> str:
    """Return what is the same for all ways to write the name of a pipeline."""
    return name.casefold().replace("-", "_").replace(" ", "_")
