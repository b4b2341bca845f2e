"""``dropframe frame``: a picture of a job's video."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.common import HomeOption, load_existing, writing_output
from daemon.cli.jobs import WHICH, completed_job
from daemon.cli.lookup import find_job
from daemon.errors import SettingsError, StoredFileMissing
from daemon.jobs import Job, output_key
from daemon.settings import Settings
from daemon.stills.client import StillsProcess
from daemon.stills.files import LEAST_WIDTH, MOST_WIDTH, StillRequest, video_of

app = typer.Typer()

MOST_SECONDS = 1e8
"""Of a time in a video."""


@app.command()
def frame(
    job: Annotated[str, typer.Argument(help=WHICH)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the JPEG goes; - is standard output.")],
    time: Annotated[
        float | None, typer.Option(min=0, max=MOST_SECONDS, help="The picture shown at this time, in seconds.")
    ] = None,
    index: Annotated[int | None, typer.Option(min=0, help="The picture with this frame_index.")] = None,
    width: Annotated[
        int | None, typer.Option(min=LEAST_WIDTH, max=MOST_WIDTH, help="At most so many pixels across.")
    ] = None,
    boxes: Annotated[bool, typer.Option("--boxes", help="Draw what was found in it.")] = False,
    home: HomeOption = None,
) -> None:
    """Save a picture of a job's video as JPEG; without --time and --index one that stands for the video."""
    settings = load_existing(home)
    if time is not None and index is not None:
        raise SettingsError("Say --time or --index, not both.")
    found = completed_job(settings, job) if boxes else find_job(settings, job)
    video = _video(settings, found)
    request = StillRequest(found.job_id, index, time, width or 0, boxes)
    with tempfile.TemporaryDirectory(prefix="dropframe-") as folder:
        made = Path(folder) / "frame.jpg"
        process = StillsProcess(settings)
        try:
            process.make(video, settings.data_dir / output_key(found.job_id), made, request)
        finally:
            process.close()
        if str(output) != "-":
            shutil.copyfile(made, output)
            return
        with writing_output():
            sys.stdout.buffer.write(made.read_bytes())


def _video(settings: Settings, job: Job) -> Path:
    try:
        return video_of(settings.data_dir, settings.spool_dir, job.job_id)
    except StoredFileMissing as error:
        if job.source_removed_at is None:
            raise
        raise StoredFileMissing(
            f"The video was removed by retention (the keep settings) at {job.source_removed_at}."
        ) from error
