"""A process that reads outbox, job store and status all the time, and notes everything that is not whole.

``python -m tests.system.crash.reader HOME URL IDS REPORT``; it ends when its standard input does. IDS is a file
with a job id a line, each of which was promised in an answer.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from daemon.errors import StoreError
from daemon.store.job_reader import JobReader

SCHEMA = "dropframe.results/1"
ERROR_KEYS = {"error_kind", "error_message", "job_id", "pipeline_id", "source_name"}
PAUSE_SECONDS = 0.001


class Reader:
    """Looks at everything a client can see.

    Args:
        home: Of everything.
        url: Of the sidecar, which may be down.
        ids: Job ids that were promised.
    """

    def __init__(self, home: Path, url: str, ids: Path) -> None:
        self._home = home
        self._ids = ids
        self._client = httpx.Client(base_url=url, timeout=10)
        self._store = JobReader(home / "data")
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._ended: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    def look(self) -> None:
        """Look once."""
        self._documents()
        self._job_file()
        self._jobs()
        self._status()

    @staticmethod
    def report(path: Path) -> tuple[Counter[str], list[str]]:
        """Read what a reader has written at its end: how often it read what, and all that was not whole."""
        told = json.loads(path.read_text())
        return Counter(told["counts"]), told["violations"]

    def _documents(self) -> None:
        results = (self._home / "data" / "video_jobs").glob("*_results.json")
        for path in itertools.chain((self._home / "outbox").rglob("*.json"), results):
            if path.name.startswith("."):
                continue
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    identity = status.st_ino, status.st_mtime_ns, status.st_size
                    if self._seen.get(path) == identity:
                        continue
                    content = file.read()
            except FileNotFoundError:  # an error that a result has replaced
                continue
            self._seen[path] = identity
            self.counts["documents"] += 1
            try:
                document = json.loads(content)
                if path.name.endswith(".error.json"):
                    whole = set(document) == ERROR_KEYS
                else:
                    frames = document["summary"]["frame_count"]
                    whole = document["schema"] == SCHEMA and frames == len(document["results"])
            except (ValueError, LookupError, TypeError):
                whole = False
            if not whole:
                self.violations.append(f"{path.name} is no whole document: {content[:80]!r}")

    def _job_file(self) -> None:
        try:
            content = (self._home / "data" / "jobs.json").read_bytes()
        except FileNotFoundError:
            if self.counts["job files"]:
                self.violations.append("jobs.json was gone")
            return
        self.counts["job files"] += 1
        try:
            json.loads(content)["jobs"]
        except (ValueError, LookupError, TypeError) as error:
            self.violations.append(f"jobs.json is not whole: {error}")

    def _jobs(self) -> None:
        try:
            self._store.refresh()
            jobs = self._store.jobs()
        except StoreError as error:
            self.violations.append(f"the store cannot be read: {error}")
            return
        self.counts["stores"] += 1
        completed = {job.job_id for job in jobs if job.status == "completed"}
        if self._ended - completed:
            self.violations.append(f"completed jobs are so no more: {self._ended - completed}")
        self._ended = completed

    def _status(self) -> None:
        promised = self._ids.read_text().split()
        if not promised:
            return
        job_id = promised[self.counts["statuses"] % len(promised)]
        try:
            answer = self._client.get(f"/v1/video/status/{job_id}")
        except httpx.TransportError:  # the sidecar is dead
            self.counts["no sidecar"] += 1
            return
        self.counts["statuses"] += 1
        try:
            told = answer.json()
        except ValueError:
            self.violations.append(f"status of {job_id} is no JSON: {answer.content[:80]!r}")
            return
        if answer.status_code not in (200, 503) or (answer.status_code == 200 and told["job_id"] != job_id):
            self.violations.append(f"status of the promised {job_id} is {answer.status_code}: {told}")


def main() -> None:
    """Look until standard input ends, then write the report."""
    home, url, ids, report = sys.argv[1:]
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    reader = Reader(Path(home), url, Path(ids))
    while not over.is_set():
        begun = time.monotonic()
        reader.look()
        time.sleep(max(PAUSE_SECONDS, time.monotonic() - begun))  # what is looked at needs the processor as well
    reader.look()
    Path(report).write_text(json.dumps({"counts": reader.counts, "violations": reader.violations}))


if __name__ == "__main__":
    main()
