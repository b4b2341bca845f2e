"""Completed jobs in a home without a daemon, and the page's viewer opened on one of them in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.derive.derivation import derive
from daemon.derive.files import folder_of
from daemon.jobs import Job, JobStatus, Options, input_key, new_job_id, output_key
from daemon.store.job_store import JobStore
from tests.browser import Browser

SHEETS = ("style.css", "vendor/uPlot.min.css", "viewer.css")
PAGE = (
    "<!doctype html><html lang=en><head><meta charset=utf-8><title>Dropframe</title>"
    "<meta name=viewport content='width=device-width, initial-scale=1'>"
    + "".join(f"<link rel=stylesheet href=page/{sheet}>" for sheet in SHEETS)
    + "</head><body><main id=whole><h1 hidden>Dropframe</h1><section class=card id=root></section></main></body></html>"
)
OPEN = """(async () => {
  document.querySelector("#whole").style.display = "block";
  performance.mark("asked");
  const { Address } = await import("/page/address.js");
  const { Viewer } = await import("/page/viewer.js");
  const call = (path, init) => fetch(path, init);
  const get = async (path) => {
    const response = await call(path), body = await response.json();
    if (!response.ok) throw new Error(body.detail);
    return body;
  };
  window.address = new Address();
  window.viewer = new Viewer(document.querySelector("#root"), { get, fetch: call, url: (path) => path }, address);
  const go = () => (address.job ? viewer.show(address.job) : viewer.close());
  address.on(go);
  const look = () => {
    const watch = viewer.watch;
    const shown = watch?.player.painted && watch.density && watch.texts.all.length;
    if (shown) performance.mark("shown");
    else requestAnimationFrame(look);
  };
  look();
  await go();
})()"""


def home_at(path: Path) -> Path:
    """Make an empty home."""
    for name in ("inbox", "outbox", "data/spool", "data/video_jobs"):
        (path / name).mkdir(parents=True, exist_ok=True)
    return path


def add_completed(
    home: Path,
    *,
    document: Path,
    video: Path | None = None,
    name: str = "clip.mp4",
    warnings: Sequence[str] = (),
    is_derived: bool = True,
    **fields: Any,
) -> str:
    """Add a job that has completed, with what the derive code makes of its result.

    Args:
        home: Of everything.
        document: The result, which is copied.
        video: The video, which is copied; None: it was not kept.
        name: Of the video.
        warnings: Of the result.
        is_derived: Whether texts, tracks and density have been made.
        fields: More of the job's record.
    """
    job_id = new_job_id()
    data = home / "data"
    if video is not None:
        shutil.copyfile(video, data / input_key(job_id))
    shutil.copyfile(document, data / output_key(job_id))
    if is_derived:
        derive(data / output_key(job_id), folder_of(data, job_id))
    told = json.loads(document.read_text())
    classes: dict[str, int] = {}
    for record in told["results"]:
        for found in record["result"]["detections"]:
            classes[found["class"]] = classes.get(found["class"], 0) + 1
    frames = len(told["results"])
    summary = {"classes": classes, "detection_count": sum(classes.values()), "frame_count": frames}
    with JobStore.open(data) as store:
        size = video.stat().st_size if video else 0
        options = Options(told["options"]["frame_stride"])
        store.create([Job(job_id, input_path=input_key(job_id), source_name=name, options=options, size_bytes=size)])
        store.move(job_id, JobStatus.RUNNING)
        store.move(
            job_id,
            JobStatus.COMPLETED,
            output_path=output_key(job_id),
            summary={**summary, "warnings": list(warnings)},
            frames_processed=frames,
            frames_total=frames,
            **fields,
        )
    return job_id


def open_viewer(browser: Browser, url: str, job_id: str, query: str = "") -> None:
    """Open a job; the page marks when it was asked to, and when picture, lanes and texts were shown."""
    browser.open(f"{url}/healthz")  # to another hash alone it would be the same page
    browser.open(f"{url}/docs#/job/{job_id}{'?' + query if query else ''}")
    browser.wait_for("!!document.querySelector('details')")  # it is ready
    browser.ask(f"(document.open(), document.write({json.dumps(PAGE)}), document.close())")
    browser.wait_for("document.readyState === 'complete' && document.styleSheets.length === 3")
    browser.ask(OPEN)


def wait_for_picture(browser: Browser) -> None:
    """Wait until the picture is there and what was found in it is drawn."""
    browser.wait_for("document.querySelector('.stage canvas')?.dataset.frame")
