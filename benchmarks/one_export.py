"""Export once in this process, and print what it cost: ``python -m benchmarks.one_export DATA_DIR JOB_ID FORMAT``.

It loads what the daemon's child loads, and nothing else, so that its memory is that of such a child.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from daemon.export.process import export
from daemon.export_formats import ExportRequest


def peak_mebibytes() -> float:
    """Return the most memory that this process has held. (What ``getrusage`` says counts the process it came from.)"""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Print seconds of processor time, peak memory in MiB, and the size of the file in MB."""
    data_dir, job_id, name = sys.argv[1:]
    path = export(Path(data_dir), job_id, ExportRequest.of({"format": name}), "match.mp4")
    print(time.process_time(), peak_mebibytes(), path.stat().st_size / 1e6)
    path.unlink()


if __name__ == "__main__":
    main()
