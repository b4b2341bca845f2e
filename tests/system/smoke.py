"""A quick look whether Dropframe works: ``python -m tests.system.smoke`` (``make smoke``).

Without arguments it starts a Dropframe of its own in a temporary home and asks it for a real clip over HTTP and over
the folders. With ``--base-url`` it asks one that runs, over HTTP; with ``--home`` also over that one's folders. Exit
code 0: all steps did what they should; 1: one did not; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.settings import Settings
from tests.clips import make_clip

TEXT = "SMOKE TEST 7"
FRAMES = 12


class Failed(Exception):
    """A step did not do what it should."""


class Client:
    """Calls of the sidecar.

    Args:
        base_url: Such as ``http://127.0.0.1:8000``.
        token: With the right to submit, where one is needed.
    """

    def __init__(self, base_url: str, token: str | None) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        """Return what a path answers, as JSON."""
        sent = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self._base + path, body, sent)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{path} answered {error.code}: {error.read(2000).decode(errors='replace')}") from error
        except (OSError, ValueError) as error:
            raise Failed(f"{path} gave no answer that can be used: {error}") from error

    def submit(self, clip: Path) -> str:
        """Upload a clip as a form; return the job's id."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{clip.name}"\r\n\r\n'
        field = f'\r\n--{edge}\r\nContent-Disposition: form-data; name="pipeline_id"\r\n\r\nocr_only\r\n--{edge}--\r\n'
        body = head.encode() + clip.read_bytes() + field.encode()
        made = self.call("/v1/video/submit", body, Content_Type=f"multipart/form-data; boundary={edge}")
        return str(made["job_id"])


def check_document(document: Mapping[str, Any]) -> str:
    """Raise Failed unless a result holds every frame and the text that is in the clip."""
    frames = [frame["frame_index"] for frame in document["results"]]
    if frames != list(range(FRAMES)):
        raise Failed(f"the result holds the frames {frames}, not 0 to {FRAMES - 1}")
    texts = document["summary"]["texts"]
    if TEXT not in texts:
        raise Failed(f"the result holds the texts {texts}, not {TEXT!r}")
    return f"{len(frames)} frames, text {TEXT!r}"


def wait_for(look: Callable[[], Any], deadline: float, what: str) -> Any:
    """Return the first true answer; raise Failed when there is none in time."""
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not in time")
        time.sleep(0.2)
    return answer


def over_http(client: Client, clip: Path, seconds: float) -> Iterator[str]:
    """Submit, poll, read; yield a line for each step."""
    client.call("/readyz")
    yield "http: ready"
    job_id = client.submit(clip)
    yield f"http: submitted as job {job_id}"

    def ended() -> Any:
        job = client.call(f"/v1/video/status/{job_id}")
        if job["status"] == "failed":
            raise Failed(f"the job failed: {job['error_message']}")
        return job["status"] == "completed"

    wait_for(ended, time.monotonic() + seconds, f"the end of job {job_id}")
    yield "http: completed"
    yield "http: result has " + check_document(client.call(f"/v1/video/results/{job_id}"))


def over_folders(settings: Settings, clip: Path, seconds: float) -> Iterator[str]:
    """Drop, wait, read; yield a line for each step."""
    name = f"smoke-{uuid.uuid4().hex[:8]}.mp4"
    folder = settings.inbox_dir / "ocr_only"
    folder.mkdir(exist_ok=True)
    part = folder / f".{name}.part"
    part.write_bytes(clip.read_bytes())
    part.rename(folder / name)
    yield f"folders: dropped {folder / name}"
    result = settings.outbox_dir / "ocr_only" / f"{name}.json"
    error = result.with_name(f"{name}.error.json")
    wait_for(lambda: result.exists() or error.exists(), time.monotonic() + seconds, f"{result} to appear")
    if error.exists():
        raise Failed(f"the job failed: {error.read_text()}")
    yield f"folders: {result} has " + check_document(json.loads(result.read_text()))


@contextmanager
def own_installation(folder: Path) -> Iterator[tuple[Path, str]]:
    """Run a Dropframe in ``folder``; yield its home and address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DROPFRAME_")}
    log = folder / "smoke.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--home", str(folder), "--port", str(port)],
            env={**clean, "DROPFRAME_MIN_FREE_BYTES": "0"},
            stdout=output,
            stderr=output,
        )
    try:
        client = Client(f"http://127.0.0.1:{port}", None)
        deadline = time.monotonic() + 120

        def ready() -> bool:
            if process.poll() is not None:
                raise Failed(f"Dropframe ended:\n{log.read_text()}")
            try:
                return bool(client.call("/readyz"))
            except Failed:
                return False

        wait_for(ready, deadline, "Dropframe to be ready")
        yield folder, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        code = process.wait(30)
    if code != 0:
        raise Failed(f"Dropframe ended with exit code {code}:\n{log.read_text()}")


def check(home: Path | None, base_url: str | None, token: str | None, seconds: float, folder: Path) -> Iterator[str]:
    """Take all steps that the arguments allow; yield a line for each."""
    clip = make_clip(folder / "smoke.mp4", frames=FRAMES, size=(640, 360), text=TEXT)
    if base_url:
        yield from over_http(Client(base_url, token), clip, seconds)
    if home:
        yield from over_folders(Settings.load(home=home), clip, seconds)


def main() -> int:
    """Run the steps, print a line for each; return the exit code."""
    parser = argparse.ArgumentParser(prog="smoke", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base-url", help="address of a sidecar that runs, such as http://127.0.0.1:8000")
    parser.add_argument("--token", help="for it, with the right to submit")
    parser.add_argument("--home", type=Path, help="home of a Dropframe that runs on this machine")
    parser.add_argument("--seconds", type=float, default=120.0, help="longest wait for a result (default 120)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dropframe-smoke-") as temporary:
        folder = Path(temporary)
        try:
            if flags.base_url or flags.home:
                for line in check(flags.home, flags.base_url, flags.token, flags.seconds, folder):
                    print("ok  ", line, flush=True)
            else:
                with own_installation(folder) as (home, base_url):
                    for line in check(home, base_url, None, flags.seconds, folder):
                        print("ok  ", line, flush=True)
        except (Failed, OSError) as error:
            print("FAIL", error, flush=True)
            return 1
    print("Dropframe works.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
