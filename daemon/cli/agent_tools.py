"""AgentTools: what an agent can do with a home. Plain functions with bounded answers; ``agent.py`` serves them.

Their signatures and docstrings are the schemas and descriptions that agents read.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from daemon.cli.agent_answers import (
    AgentExport,
    AgentHits,
    AgentJobs,
    AgentSubmitted,
    AgentText,
    AgentTexts,
    AgentTrack,
    AgentTracks,
)
from daemon.cli.common import reading
from daemon.cli.export import made
from daemon.cli.jobs import completed_job, read_cursor
from daemon.cli.lookup import POLL_SECONDS, daemon_alive, find_job, known_jobs
from daemon.cli.submit_check import options_for, problem_with
from daemon.derive.client import derive_now
from daemon.derive.files import DerivedKind, NotDerivedYet, open_derived, request_derivation
from daemon.errors import SettingsError
from daemon.export.files import ExportPlace
from daemon.export_formats import FORMATS, MOST_CLASSES, ExportFormat, ExportRequest
from daemon.fs.identity import shown
from daemon.ipc import spool
from daemon.jobs import MOST_FRAMES, JobSource
from daemon.search.reader import FoundKind, place_of, search, shown_name
from daemon.settings import Settings

MOST_JOBS = 50
MOST_ROWS = 200
"""Texts, tracks or hits in one answer."""
MOST_WAIT_SECONDS = 50.0
"""Clients give a call up after a minute, as a rule."""
WRITTEN = [each.name for each in FORMATS.values() if not each.draws]
"""Formats that a call can wait for."""
DERIVE_SECONDS = 20.0
"""How long a call waits for what the daemon derives."""

WhichJob = Annotated[
    str, Field(min_length=1, description="The job's id, its first characters, or the name of the video.")
]
Classes = Annotated[
    list[str] | None, Field(max_length=MOST_CLASSES, description="Only objects of these classes, such as car.")
]
FromS = Annotated[float, Field(ge=0, description="Only from this second of the video on.")]
ToS = Annotated[float | None, Field(gt=0, description="Only before this second of the video.")]
Offset = Annotated[int, Field(ge=0, description="The next_offset of the answer before.")]
Rows = Annotated[int, Field(ge=1, le=MOST_ROWS, description="At most so many.")]


class AgentTools:
    """The tools.

    Args:
        settings: Of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._making = threading.Lock()  # one child at a time, however many calls there are

    def all(self) -> Iterable[Callable[..., Any]]:
        """Return the tools, those that change nothing first."""
        return (self.status, self.texts, self.tracks, self.search, self.submit, self.export)

    def submit(
        self,
        path: Annotated[str, Field(description="Absolute path of the video, on the machine that Dropframe runs on.")],
        pipeline: Annotated[
            str | None,
            Field(description="yolo_ocr (objects and text), yolo, ocr_only, or one of the user's; null: the default."),
        ] = None,
        frame_stride: Annotated[int, Field(ge=1, le=MOST_FRAMES, description="Analyse every n-th frame.")] = 1,
        max_frames: Annotated[
            int | None, Field(ge=1, le=MOST_FRAMES, description="Analyse at most so many frames.")
        ] = None,
        exports: Annotated[
            list[str] | None,
            Field(
                max_length=len(FORMATS),
                description="Formats that the result is put into the outbox in, such as srt or annotated.",
            ),
        ] = None,
    ) -> AgentSubmitted:
        """Submit a video to be analysed. It is copied; the original stays. Returns at once: follow it with status."""
        settings, file = self._settings, _path(path)
        pipeline_id = pipeline or settings.default_pipeline
        values = {"frame_stride": frame_stride, "max_frames": max_frames, "exports": exports or []}
        options = options_for(pipeline_id, values)
        if problem := problem_with(file, settings.containers):
            raise problem
        job_id = spool.submit(
            settings.spool_dir,
            file,
            source=JobSource.CLI,
            source_name=file.name,
            pipeline_id=pipeline_id,
            options=options,
        )
        return AgentSubmitted(job_id=job_id, source_name=file.name, daemon_running=daemon_alive(settings))

    def status(
        self,
        job: Annotated[
            str | None,
            Field(description="The job's id, its first characters, or the name of the video; null: the newest jobs."),
        ] = None,
        wait_s: Annotated[
            float, Field(ge=0, le=MOST_WAIT_SECONDS, description="With a job: wait so long for it to end.")
        ] = 0,
        limit: Annotated[int, Field(ge=1, le=MOST_JOBS, description="At most so many jobs.")] = 10,
        cursor: Annotated[str | None, Field(description="The next_cursor of the answer before.")] = None,
    ) -> AgentJobs:
        """Say how a job is (pending, running, completed or failed, with progress and reason), or list the newest."""
        settings, following = self._settings, None
        place = read_cursor(cursor)
        if job is not None and wait_s > 0:
            self._wait(find_job(settings, job).job_id, wait_s)
        with known_jobs(settings) as known:
            if job is not None:
                found = [known.find(job)]
            else:
                found, following = known.page(lambda record: True, limit, place)
            public = [known.public(each) for each in found]
            counts = known.counts()
        facts = {"next_cursor": following, "counts": counts, "daemon_running": daemon_alive(settings)}
        return AgentJobs.model_validate({"jobs": public, **facts})

    def texts(
        self,
        job: WhichJob,
        contains: Annotated[str | None, Field(description="Only texts that contain this, in any case.")] = None,
        from_s: FromS = 0,
        to_s: ToS = None,
        limit: Rows = 50,
        offset: Offset = 0,
    ) -> AgentTexts:
        """List the texts that were read in a completed job's video, each with the seconds in which it was shown."""
        found = completed_job(self._settings, job)
        wanted = (contains or "").casefold()
        rows = [
            row
            for row in self._rows(found.job_id, DerivedKind.TEXTS)
            if _is_shown(row, from_s, to_s) and wanted in row["text"].casefold()
        ]
        page = [AgentText.model_validate(row) for row in rows[offset : offset + limit]]
        return AgentTexts(
            job_id=found.job_id,
            source_name=found.source_name,
            texts=page,
            total=len(rows),
            next_offset=_next_offset(rows, offset, limit),
        )

    def tracks(
        self,
        job: WhichJob,
        classes: Classes = None,
        from_s: FromS = 0,
        to_s: ToS = None,
        limit: Rows = 50,
        offset: Offset = 0,
    ) -> AgentTracks:
        """List the objects that were followed through a completed job's video, each with the seconds it was seen."""
        found = completed_job(self._settings, job)
        rows = [
            row
            for row in self._rows(found.job_id, DerivedKind.TRACKS)
            if _is_shown(row, from_s, to_s) and (not classes or row["class"] in classes)
        ]
        return AgentTracks(
            job_id=found.job_id,
            source_name=found.source_name,
            tracks=[AgentTrack.model_validate(row) for row in rows[offset : offset + limit]],
            total=len(rows),
            next_offset=_next_offset(rows, offset, limit),
        )

    def search(
        self,
        query: Annotated[
            str, Field(min_length=1, max_length=200, description="Words that must all be in a text or a class.")
        ],
        kind: Annotated[FoundKind | None, Field(description="Only texts, or only objects; null: both.")] = None,
        limit: Rows = 20,
        cursor: Annotated[str | None, Field(description="The next_cursor of the answer before.")] = None,
    ) -> AgentHits:
        """Search all analysed videos for texts and for objects by their class. Says where and when each is shown."""
        try:
            before = place_of(cursor)
        except ValueError as error:
            raise SettingsError("cursor must be the next_cursor of an earlier answer.") from error
        page = search(self._settings.data_dir, query, limit, before=before, kind=kind)
        with reading(self._settings) as reader:
            found = {hit.job_id: reader.find(hit.job_id) for hit in page.hits}
        public = page.to_public(lambda job_id: shown_name(vars(job) if (job := found[job_id]) else None))
        return AgentHits.model_validate(public)

    def export(
        self,
        job: WhichJob,
        format: Annotated[str, Field(description="What for.", json_schema_extra={"enum": WRITTEN})],  # noqa: A002 - as over HTTP
        path: Annotated[
            str,
            Field(description="Absolute path of the file to write, with the format's suffix; it must not exist yet."),
        ],
        classes: Annotated[
            list[str] | None, Field(max_length=100, description="Only objects of these classes.")
        ] = None,
        min_confidence: Annotated[float, Field(ge=0, le=1, description="Only what has it, or more.")] = 0,
        from_s: FromS = 0,
        to_s: ToS = None,
    ) -> AgentExport:
        """Write a completed job's result to a file as other programs read it: tables, labels or subtitles."""
        values = {"classes": classes, "min_confidence": min_confidence, "from_s": from_s, "to_s": to_s}
        request = ExportRequest.of({"format": format, **values})
        target = _target(self._settings, path, request.kind)
        found = completed_job(self._settings, job)
        if (kind := request.kind.derived) is not None:
            self._derived(found.job_id, DerivedKind(kind)).close()
        with self._making:
            source = made(
                self._settings, ExportPlace.of(self._settings.data_dir, found.job_id, request), found.source_name
            )
        with source:
            _write_new(target, source)
        return AgentExport(path=str(target), size_bytes=target.stat().st_size, format=format)

    def _wait(self, job_id: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with reading(self._settings) as reader:
            while time.monotonic() < deadline and reader.deleted_at(job_id) is None:
                job = reader.find(job_id)
                if job is not None and job.ended:
                    return
                time.sleep(POLL_SECONDS)
                reader.refresh()

    def _rows(self, job_id: str, kind: DerivedKind) -> list[dict[str, Any]]:
        with self._derived(job_id, kind) as file:
            rows: list[dict[str, Any]] = json.load(file)[kind]
        return rows

    def _derived(self, job_id: str, kind: DerivedKind) -> BinaryIO:
        """Open a derived file; where it is missing the daemon makes it, or this process if no daemon runs.

        Raises:
            NotDerivedYet: that takes longer than a call may.
            NothingDerived: the result does not allow it.
        """
        settings, deadline = self._settings, time.monotonic() + DERIVE_SECONDS
        while True:
            try:
                return open_derived(settings.data_dir, job_id, kind)
            except NotDerivedYet:
                if time.monotonic() > deadline:
                    raise NotDerivedYet(
                        f"The {kind} of job {job_id} are being made, which takes minutes for a long video; ask again."
                    ) from None
            if daemon_alive(settings):
                request_derivation(settings.spool_dir, job_id)
                time.sleep(POLL_SECONDS)
            else:
                with self._making:
                    derive_now(settings, job_id)


def _path(text: str) -> Path:
    if "\0" in text or not Path(text).is_absolute():
        raise SettingsError(f"{shown(text)} is not an absolute path; name the file from / on.")
    return Path(text)


def _target(settings: Settings, text: str, kind: ExportFormat) -> Path:
    """Return where an export goes: an agent may be led to ask for anything, so it can neither replace nor plant a file.

    Raises:
        SettingsError: it cannot go there.
    """
    target, suffix = _path(text), "." + kind.ending.rpartition(".")[2]
    if kind.draws:
        raise SettingsError(f"{kind.name} takes as long as the video; submit the video with it in exports instead.")
    if target.exists() or target.is_symlink():
        raise _taken(target)
    if target.suffix.lower() != suffix:
        raise SettingsError(f"{shown(text)} does not end in {suffix}, as a file of the format {kind.name} must.")
    if not target.parent.is_dir():
        raise SettingsError(f"The folder {shown(str(target.parent))} does not exist; name a file in one that does.")
    folder = target.parent.resolve()
    for ours in (settings.data_dir, settings.inbox_dir):
        if folder.is_relative_to(ours.resolve()):
            raise SettingsError(f"{shown(text)} is in a folder that is Dropframe's own; name a file in another one.")
    return target


def _write_new(target: Path, source: BinaryIO) -> None:
    """Write a file that is not there, all of it or nothing.

    Raises:
        SettingsError: it has come meanwhile.
    """
    try:
        copy = target.open("xb")
    except FileExistsError:
        raise _taken(target) from None
    try:
        with copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _taken(target: Path) -> SettingsError:
    return SettingsError(f"{shown(str(target))} is there already; name a file that is not.")


def _is_shown(row: Mapping[str, Any], from_s: float, to_s: float | None) -> bool:
    return bool(row["end_s"] > from_s and (to_s is None or row["start_s"] < to_s))


def _next_offset(rows: list[dict[str, Any]], offset: int, limit: int) -> int | None:
    return offset + limit if offset + limit < len(rows) else None
