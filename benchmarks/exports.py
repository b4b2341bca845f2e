"""What exporting costs: processor time and memory for each format, and how fast status calls are answered meanwhile.

``python -m benchmarks.exports [--frames 200000]``: four objects that move, a clock, subtitles (as benchmarks.derive).
The figures wanted: at most 15 s of processor time and 150 MiB a format, a status p99 below 20 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
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
from daemon.export.process import export
from daemon.export_formats import FORMATS, ExportRequest
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


def measure_one(data_dir: Path, job_id: str, name: str) -> None:
    """Export once in this process, and print what it cost."""
    begun = time.process_time()
    path = export(data_dir, job_id, ExportRequest.of({"format": name}), "match.mp4")
    seconds, peak = time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = path.stat().st_size / 1e6
    print(f"| `{name}` | {seconds:.1f} s | {peak:.0f} MiB | {size:.1f} MB |", flush=True)
    path.unlink()


def measure_drawing(home: Path, count: int) -> None:
    """Print what drawing on videos costs: a short one and one that is longer, in processes of their own."""
    print(f"drawing on videos of {' by '.join(map(str, DRAWN_SIZE))} pixels, with sound:", flush=True)
    for length in (count // 4, count):
        job_id = finished_job(home / str(length), records=frames(length))
        make_clip(home / str(length) / "data" / input_key(job_id), frames=length, size=DRAWN_SIZE, audio=True)
        command = [sys.executable, "-m", "benchmarks.exports", str(home / str(length) / "data"), job_id, "annotated"]
        print(f"{length} frames ", end="", flush=True)
        subprocess.run(command, check=True)


def measure_status(home: Path, job_id: str) -> None:
    """Print the answer times of status calls without exports, and while two are made."""
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


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("one", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure_one(Path(arguments.one[0]), *arguments.one[1:])
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        job_id = finished_job(home, records=frames(arguments.frames))
        derive_now(Settings.load(home=home), job_id)
        assert files.is_current(home / "data", job_id)
        print("| format | processor time | memory | file |\n| --- | --- | --- | --- |", flush=True)
        for name in (each.name for each in FORMATS.values() if not each.draws):
            # As the daemon runs them: each in a process of its own, with one thread.
            command = [sys.executable, "-m", "benchmarks.exports", str(home / "data"), job_id, name]
            subprocess.run(["env", *(f"{variable}=1" for variable in ONE_THREAD), *command], check=True)
        measure_drawing(home / "drawn", min(DRAWN_FRAMES, arguments.frames))
        measure_status(home, job_id)


if __name__ == "__main__":
    main()
