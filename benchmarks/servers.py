"""Three ways of taking an upload: past h11 as the sidecar does, by way of h11, and with uvicorn's httptools protocol.

Usage: python -m benchmarks.servers [--upload-mb 500] [--rounds 12] [--folder DIR]; needs ``pip install httptools``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.http import line, make_video, send_video
from tests.sidecar_process import ROOT, Sidecar, wait_for_port
from tests.system.running import cpu_seconds

WAYS = {
    "past h11": "",
    "by way of h11": "server.Connection._take_body = lambda self, data: False",
    "httptools": """
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
class Connection(HttpToolsProtocol):
    def connection_made(self, transport):
        transport.max_size = server.READ_BYTES
        super().connection_made(transport)
server.Connection = Connection
""",
}
"""What is changed of the sidecar before it starts."""


@contextlib.contextmanager
def running(home: Path, change: str) -> Iterator[Sidecar]:
    """Run a changed sidecar."""
    home.mkdir()
    code = f"import sys\nfrom sidecar import server\n{change}\nfrom sidecar.__main__ import main\nsys.exit(main())"
    log_path = home / "sidecar.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--home", str(home), "--port", "0"], cwd=ROOT, stderr=log
        )
    try:
        yield Sidecar(process, wait_for_port(process, log_path), log_path, home)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Ways of taking an upload.")
    parser.add_argument("--upload-mb", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the temporary folder)")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="dropframe-servers-", dir=asked.folder))
    try:
        with contextlib.ExitStack() as stack:
            sidecars = {
                way: stack.enter_context(running(home / str(number), change))
                for number, (way, change) in enumerate(WAYS.items())
            }
            compare(sidecars, make_video(home / "big.mp4", asked.upload_mb), asked.rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def compare(sidecars: dict[str, Sidecar], video: Path, rounds: int) -> None:
    """Upload by turns, in another order each round, and print medians."""
    seconds: dict[tuple[str, bool], list[float]] = {(way, form): [] for way in sidecars for form in (False, True)}
    worked: dict[tuple[str, bool], list[float]] = {key: [] for key in seconds}
    for turn in range(-1, rounds):  # one that does not count
        order = list(seconds)
        random.Random(turn).shuffle(order)
        for key in order:
            way, form = key
            sidecar = sidecars[way]
            started, before = time.perf_counter(), cpu_seconds(sidecar.process.pid)
            send_video(sidecar, video, form)
            took, spent = time.perf_counter() - started, cpu_seconds(sidecar.process.pid) - before
            for stored in [*sidecar.spool.glob("*.mp4"), *sidecar.spool.glob("*.json")]:
                stored.unlink()
            os.sync()  # what the removal has left to do is not the next one's
            if turn >= 0:
                seconds[key].append(took)
                worked[key].append(spent)
    print(f"| upload of {video.stat().st_size / 1e6:.0f} MB | median | server's processor time |\n| --- | --- | --- |")
    for (way, form), measured in seconds.items():
        name = f"{way}, as a form" if form else f"{way}, PUT"
        line(name, f"{statistics.median(measured):.2f} s", f"{statistics.median(worked[way, form]):.2f} s")


if __name__ == "__main__":
    main()
