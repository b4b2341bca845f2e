"""``dropframe demo``: a result in the first minute, from a clip that Dropframe draws itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.cli.common import HomeOption, escape, load_existing, out, reading, say
from daemon.cli.greeting import command, connect_host, page_of
from daemon.cli.jobs import show_ends
from daemon.cli.lookup import daemon_alive, wait_for
from daemon.errors import DropframeError
from daemon.jobs import Job, JobSource, JobStatus, output_key, utc_now
from daemon.settings import Settings

app = typer.Typer()

NAME = "dropframe-demo.mp4"
TAKEN_SECONDS = 60.0
"""How long a dropped clip may wait in the inbox before something is wrong."""
LOOK_SECONDS = 0.2
PAGE_SECONDS = 5.0
"""How long the web page may take to answer before its address is not told."""
SHOWN_TEXTS = 4


@app.command()
def demo(
    home: HomeOption = None,
    host: Annotated[str | None, typer.Option(help="Address of the HTTP sidecar, if a flag gave it one.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP sidecar, likewise.")] = None,
) -> None:
    """Draw a clip of five seconds, drop it into the inbox, wait, and show what was found. Dropframe must be running."""
    settings = load_existing(home, host=host, port=port)
    if not daemon_alive(settings):
        raise DropframeError(
            f"Dropframe does not run here; start it in another terminal ({command()} run), then again."
        )
    begun = utc_now()
    _drop(settings)
    say(out, f"{NAME} is in the inbox; waiting for its result …")
    job = _taken(settings, begun)
    ended = wait_for(settings, [job.job_id])[job.job_id]
    if ended.status is not JobStatus.COMPLETED:
        show_ends(settings, [job.job_id], as_json=False)
        return
    for line in _lines(settings, ended):
        out.print(escape(line), soft_wrap=True)


def _drop(settings: Settings) -> None:
    """Put the clip into the inbox the safe way: under a name that is left alone, then by a rename."""
    from daemon.pipeline.demo_clip import make_demo

    part = settings.inbox_dir / f".{NAME}.{os.getpid()}.part"
    try:
        make_demo(part)
        part.rename(settings.inbox_dir / NAME)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _taken(settings: Settings, begun: str) -> Job:
    deadline = time.monotonic() + TAKEN_SECONDS
    while time.monotonic() < deadline:
        with reading(settings) as reader:
            for job in reader.jobs():
                if job.source is JobSource.INBOX and job.source_name == NAME and job.created_at >= begun:
                    return job
        time.sleep(LOOK_SECONDS)
    raise DropframeError(f"{NAME} has not been taken in; {command()} jobs says why.")


def _lines(settings: Settings, job: Job) -> Iterator[str]:
    """Yield five lines of the result, and where to look at it."""
    from daemon.worker.outbox import Outbox

    document: dict[str, Any] = json.loads(Path(settings.data_dir, output_key(job.job_id)).read_text())
    frames, summary = document["results"], document["summary"]
    took = _seconds(job.started_at, job.finished_at)
    device = f" on {job.device}" if job.device else ""
    yield f"frames:  {len(frames)} in {took:.1f} s{device}, {len(frames) / max(took, 0.1):.1f} a second"
    objects = ", ".join(f"{name} ({count})" for name, count in summary["classes"].items() if name != "text")
    yield f"objects: {objects or 'none, as there are no object weights: ' + command() + ' models pull yolo11n'}"
    longest = sorted(summary["texts"], key=len, reverse=True)[:SHOWN_TEXTS]
    yield f"text:    {' · '.join(longest)}"
    middle = frames[len(frames) // 2]
    first = next(iter(middle["result"]["detections"]), None)
    seen = f"{first['class']} at {first['bbox']}, confidence {first['confidence']}" if first else "nothing"
    yield f"frame {middle['frame_index']}, {middle['timestamp_s']:.1f} s: {seen}"
    yield f"result:  {Outbox(settings.outbox_dir).path(job)}"
    if _page_has(settings, job.job_id):
        yield f"Watch it with what was found drawn over it: {page_of(settings)}/#/job/{job.job_id}"
    else:
        yield f"The web page is not on {page_of(settings)}; the log of dropframe run says where it listens."


def _page_has(settings: Settings, job_id: str) -> bool:
    """Tell whether the sidecar listens where the settings say, and is the one of this home."""
    connection = http.client.HTTPConnection(connect_host(settings), settings.port, timeout=PAGE_SECONDS)
    try:
        connection.request("GET", f"/v1/video/status/{job_id}")
        return connection.getresponse().status in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _seconds(begun: str | None, ended: str | None) -> float:
    if begun is None or ended is None:
        return 0.0
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
