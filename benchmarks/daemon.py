"""The daemon: how soon a dropped file is a job, and what it costs when nothing happens.

``python -m benchmarks.daemon [--files 50] [--idle-seconds 60]``
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.clips import bikes
from daemon.ipc import health
from daemon.store.job_reader import JobReader

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = [p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")]
    pids = {pid, *map(int, children), *(int(c) for text in threads for c in text.split())}
    fields = [Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split() for p in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    asked = parser.parse_args()
    clip = bikes()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = [sys.executable, "-m", "daemon", "daemon", "--home", folder, "--device", "cpu"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while (beat := health.read(home / "data")) is None or beat.state != "running":
                time.sleep(0.1)
            time.sleep(2)
            before = cpu_seconds(process.pid)
            time.sleep(asked.idle_seconds)
            share = (cpu_seconds(process.pid) - before) / asked.idle_seconds
            waits = []
            with JobReader(home / "data") as reader:
                for number in range(asked.files):
                    shutil.copyfile(clip, home / "inbox" / f"{number}.mp4")
                    closed = time.monotonic()
                    while reader.refresh() is False or len(reader.jobs()) <= number:
                        time.sleep(0.002)
                    waits.append(time.monotonic() - closed)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
    print(f"idle: {share:.2%} of a core over {asked.idle_seconds:.0f} s, the pipeline process included")
    print(f"drop to pending: median {statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
