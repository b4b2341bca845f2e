"""What exporting costs: processor time and memory for each format, and how fast status calls are answered meanwhile.

``python -m benchmarks.exports [--frames 200000]``: four objects that move, a clock, subtitles (as benchmarks.derive).
It fails if a format takes more than 15 s of processor time or 150 MB, or if the p99 of status calls is 20 ms or more
while two are made. Drawing on videos is measured as well, and has no such limit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.derive import frames
from benchmarks.http import measure, percentile
from daemon.derive import files
from daemon.derive.client import derive_now
from daemon.export.client import Exports
from daemon.export_formats import FORMATS
from daemon.ipc.background import ONE_THREAD
from daemon.jobs import input_key
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.exported import finished_job
from tests.sidecar_process import running_sidecar

DRAWN_SIZE, DRAWN_FRAMES = (1920, 1080), 400
RATE, SECONDS = 200.0, 10.0
"""Status calls a second, and for how long."""
MOST_SECONDS, MOST_BYTES, MOST_MILLISECONDS = 15.0, 150_000_000, 20.0


def measure_one(data_dir: Path, job_id: str, name: str) -> bool:
    """Export once, in a process of its own and with one thread, as the daemon does; print and judge what it cost."""
    command = [sys.executable, "-m", "benchmarks.one_export", str(data_dir), job_id, name]
    one_thread = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak, size = map(float, done.stdout.split())
    print(f"| `{name}` | {seconds:.1f} s | {peak:.0f} MiB | {size:.1f} MB |", flush=True)
    return seconds <= MOST_SECONDS and peak * 2**20 <= MOST_BYTES


def measure_drawing(home: Path, count: int) -> None:
    """Print what drawing on videos costs: a short one and one that is longer, in processes of their own."""
    print(f"drawing on videos of {' by '.join(map(str, DRAWN_SIZE))} pixels, with sound:", flush=True)
    for length in (count // 4, count):
        job_id = finished_job(home / str(length), records=frames(length))
        make_clip(home / str(length) / "data" / input_key(job_id), frames=length, size=DRAWN_SIZE, audio=True)
        print(f"{length} frames ", end="", flush=True)
        measure_one(home / str(length) / "data", job_id, "annotated")


def measure_status(home: Path, job_id: str) -> bool:
    """Print the answer times of status calls without exports, and while two are made; judge these."""
    settings = Settings.load(home=home)
    with JobStore.open(settings.data_dir) as store, running_sidecar(home) as sidecar:
        exports = Exports(settings, store.find)
        port, path = sidecar.port, f"/v1/video/status/{job_id}"
        for what in ("alone", "while two exports are made"):
            if what != "alone":
                for name in ("labelstudio", "cvat-images", "coco", "cvat"):
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request("GET", f"/v1/jobs/{job_id}/export/{name}")
                    assert json.loads(connection.getresponse().read())["detail"]
                exports.start()
                time.sleep(1.0)
            times = measure(port, path, SECONDS, RATE)
            print(
                f"status {what}: p50 {percentile(times, 0.5):.1f} ms, p99 {percentile(times, 0.99):.1f} ms", flush=True
            )
        print(f"{len(exports._at_work)} exports were still being made at the end")
        exports.stop()
    return percentile(times, 0.99) < MOST_MILLISECONDS


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        job_id = finished_job(home, records=frames(arguments.frames))
        derive_now(Settings.load(home=home), job_id)
        assert files.is_current(home / "data", job_id)
        print("| format | processor time | memory | file |\n| --- | --- | --- | --- |", flush=True)
        good = [measure_one(home / "data", job_id, each.name) for each in FORMATS.values() if not each.draws]
        measure_drawing(home / "drawn", min(DRAWN_FRAMES, arguments.frames))
        good.append(measure_status(home, job_id))
    if not all(good):
        raise SystemExit("Something took more than it may.")


if __name__ == "__main__":
    main()
