"""Commands about what is derived from results: texts, tracks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, BinaryIO

import typer
from rich.table import Table

from daemon.cli.common import HomeOption, JsonOption, err, escape, load_existing, out, say, writing_output
from daemon.cli.jobs import WHICH, completed_job
from daemon.derive.client import derive_now
from daemon.derive.files import DerivedKind, NotDerivedYet, open_derived
from daemon.settings import Settings

app = typer.Typer()

WhichJob = Annotated[str, typer.Argument(help=WHICH)]


@app.command()
def texts(job: WhichJob, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the texts of a completed job's video: what stayed on the screen, from when to when."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "from": lambda text: clock(text["start_s"]),
        "to": lambda text: clock(text["end_s"]),
        "reads": lambda text: str(text["reads"]),
        "confidence": lambda text: f"{text['confidence']:.2f}",
        "text": lambda text: escape(text["text"]),
    }
    show(home, job, DerivedKind.TEXTS, columns, as_json)


@app.command()
def tracks(job: WhichJob, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the tracks of a completed job's video: which object was there from when to when."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "track": lambda track: str(track["track_id"]),
        "class": lambda track: escape(track["class"]),
        "from": lambda track: clock(track["start_s"]),
        "to": lambda track: clock(track["end_s"]),
        "boxes": lambda track: str(track["boxes"]),
        "confidence": lambda track: f"{track['confidence']:.2f}",
    }
    show(home, job, DerivedKind.TRACKS, columns, as_json)


def show(
    home: Any, job: str, kind: DerivedKind, columns: Mapping[str, Callable[[Mapping[str, Any]], str]], as_json: bool
) -> None:
    """Print what is derived from a job's result, which is made first if it is missing."""
    settings = load_existing(home)
    with opened(settings, completed_job(settings, job).job_id, kind) as file:
        if as_json:
            with writing_output():
                shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            return
        rows = json.load(file)[kind]
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != "text")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    out.print(table)


def opened(settings: Settings, job_id: str, kind: DerivedKind) -> BinaryIO:
    """Open a derived file, made first if it is missing.

    Raises:
        NothingDerived: the result does not allow it.
        DerivationFailed: it could not be made.
    """
    try:
        return open_derived(settings.data_dir, job_id, kind)
    except NotDerivedYet as error:
        say(err, escape(f"{error} Making them takes some seconds, minutes for a long video."))
        derive_now(settings, job_id)
        return open_derived(settings.data_dir, job_id, kind)


def clock(seconds: float) -> str:
    """Return a time as people read it, such as 0:01:02.50."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 360_000}:{hundredths // 6000 % 60:02}:{hundredths // 100 % 60:02}.{hundredths % 100:02}"
