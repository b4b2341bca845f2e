"""``dropframe export``: a completed job's result as other programs read it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.table import Table

from daemon.cli.common import HomeOption, JsonOption, err, escape, load_existing, out, say, show_json, writing_output
from daemon.cli.jobs import WHICH, completed_job, refuse_output
from daemon.derive.client import derive_now
from daemon.errors import SettingsError
from daemon.export.client import export_now, has_what_it_needs
from daemon.export.files import ExportPlace
from daemon.export_formats import FORMATS, ExportRequest, file_name
from daemon.fs.atomic import atomic_write
from daemon.fs.identity import shown
from daemon.settings import Settings

app = typer.Typer()

FORMAT = f"One of {', '.join(FORMATS)}; dropframe formats describes them."


@app.command()
def export(
    job: Annotated[str, typer.Argument(help=WHICH)],
    format_name: Annotated[str, typer.Option("--format", "-f", help=FORMAT)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file, - for the screen; default: named after the video."),
    ] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Only this class; can be repeated.")] = None,
    min_confidence: Annotated[float, typer.Option(help="Only what has this confidence or more, 0 to 1.")] = 0.0,
    from_s: Annotated[float, typer.Option(help="Only from this second of the video on.")] = 0.0,
    to_s: Annotated[float | None, typer.Option(help="Only before this second of the video.")] = None,
    conf: Annotated[bool, typer.Option("--conf", help="With yolo: confidences in a sixth column.")] = False,
    home: HomeOption = None,
) -> None:
    """Export a completed job's result: tables, labels, subtitles, or the video with boxes drawn on it."""
    values = {"classes": classes, "min_confidence": min_confidence, "from_s": from_s, "to_s": to_s, "conf": conf}
    request = ExportRequest.of({"format": format_name, **values})
    settings = load_existing(home)
    found = completed_job(settings, job)
    target = _target(output, file_name(found.source_name or found.job_id, request.kind))
    with made(settings, ExportPlace.of(settings.data_dir, found.job_id, request), found.source_name) as file:
        if target is None:
            with writing_output():
                shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            return
        # A device or a pipe is written to; only a file is exchanged for another.
        other = target.exists() and not target.is_file()
        with target.open("wb") if other else atomic_write(target.resolve()) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
    say(err, escape(f"Wrote {target}"))


def _target(output: Path | None, name: str) -> Path | None:
    """Return where to write, None for standard output.

    Raises:
        SettingsError: nothing can be written there, or there is a file that nobody named.
    """
    if output == Path("-"):
        return None
    target = output or Path(name)
    refuse_output(target)
    if output is None and target.exists():
        raise SettingsError(f"{shown(name)} is there already; with --output, name the file to write.")
    return target


def made(settings: Settings, place: ExportPlace, source_name: str) -> BinaryIO:
    """Open an export, made first if it is missing, together with what it is made from.

    Raises:
        DropframeError: it cannot be made.
        OSError: it cannot be read.
    """
    if not place.path.exists():
        if not has_what_it_needs(settings, place):
            say(err, "The texts and tracks of the video are made first; a long video takes minutes.")
            derive_now(settings, place.job_id)
        if place.request.kind.draws:
            say(err, "Drawing on every frame of the video takes about as long as it lasts.")
        export_now(settings, place, source_name)
    return place.open()


@app.command()
def formats(as_json: JsonOption = False) -> None:
    """List the formats that results can be exported to."""
    rows: list[dict[str, Any]] = [each.to_record() for each in FORMATS.values()]
    if as_json:
        show_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("format", "ending", "holds", "used by"):
        table.add_column(column, no_wrap=column != "used by")
    for each in FORMATS.values():
        table.add_row(each.name, each.ending, str(each.content), each.used_by)
    out.print(table)
