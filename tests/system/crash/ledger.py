"""What was dropped, what was answered and what must come of it: kept outside of everything that is killed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from daemon.jobs import ErrorKind, Job, JobSource, JobStatus


@dataclass(frozen=True)
class Recipe:
    """A kind of video, and how it is asked for."""

    name: str
    clip: bytes
    pipeline_id: str = "yolo_ocr"
    frame_stride: int = 1
    fails: bool = False
    """It cannot be analysed, and must end with one error."""


@dataclass
class Entry:
    """One video that was dropped, or one upload."""

    name: str
    """Its source name, which no other has."""
    recipe: Recipe
    content: bytes
    source: JobSource
    answered: str | None = None
    """Job id of the answer, for an upload."""
    changed: bool = False
    """It was written to after it had been taken in, so that it runs again."""


@dataclass
class Account:
    """What came of everything."""

    lost: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Files in the inbox or the spool, and jobs without an end, of which the ledger knows nothing good."""

    def problems(self) -> list[str]:
        """Return everything that is not as promised."""
        named = {"lost": self.lost, "duplicate": self.duplicate, "different": self.different, "left": self.left}
        return [f"{word}: {what}" for word, list_ in named.items() for what in list_]


class Ledger:
    """Keeps the entries; safe from any thread.

    Args:
        recipes: What is dropped.
        ids: A file to which the job id of every answer is appended, for the reader.
    """

    def __init__(self, recipes: Iterable[Recipe], ids: Path) -> None:
        self.recipes = {recipe.name: recipe for recipe in recipes}
        self.entries: dict[str, Entry] = {}
        self._ids = ids
        self._ids.touch()
        self._lock = threading.Lock()

    def add(self, recipe: Recipe, source: JobSource) -> Entry:
        """Make a new video of a recipe: a name and bytes that no other has."""
        with self._lock:
            number = len(self.entries)
            folder = f"{recipe.pipeline_id}/" if source is JobSource.INBOX and recipe.pipeline_id != "yolo_ocr" else ""
            name = f"{folder}{recipe.name}-{number}.mp4"
            entry = Entry(name, recipe, recipe.clip + free_box(f"{number:016d}".encode()), source)
            self.entries[name] = entry
            return entry

    def answer(self, entry: Entry, job_id: str) -> None:
        """Note an answer: from here on the job is promised."""
        with self._lock:
            assert entry.answered in (None, job_id), f"{entry.name} was answered with two ids"
            entry.answered = job_id
            with self._ids.open("a") as file:
                file.write(f"{job_id}\n")

    def settle(self, jobs: Iterable[Job], home: Path, undisturbed: Mapping[str, bytes]) -> Account:
        """Compare with what is there at the end.

        Args:
            jobs: Every record.
            home: Of everything.
            undisturbed: The result document of each recipe's clip, from a run in which nothing was killed.
        """
        account = Account()
        by_name: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_name[job.source_name].append(job)
            if not job.ended:
                account.left.append(f"{job.source_name} is {job.status}")
        published = {
            str(p.relative_to(home / "outbox")): p
            for p in (home / "outbox").rglob("*")
            if p.is_file() and not p.name.startswith(".")
        }
        for entry in self.entries.values():
            of_it = by_name.pop(entry.name, [])
            if entry.changed and entry.source is JobSource.INBOX:  # what it was before has ended with that reason
                of_it = [j for j in of_it if not (j.error_kind is ErrorKind.PERMANENT and "written to" in told(j))]
            if not of_it or (entry.answered and entry.answered not in {job.job_id for job in of_it}):
                account.lost.append(entry.name)
                continue
            if len(of_it) > 1:
                account.duplicate.append(f"{entry.name}: {[(j.job_id, str(j.status)) for j in of_it]}")
            stem = entry.name if entry.source is JobSource.INBOX else of_it[-1].job_id
            wanted = JobStatus.FAILED if entry.recipe.fails else JobStatus.COMPLETED
            ending = ".error.json" if entry.recipe.fails else ".json"
            result = published.pop(stem + ending, None)
            if of_it[-1].status is not wanted or result is None:
                account.lost.append(f"{entry.name} is {of_it[-1].status}: {told(of_it[-1])}")
            elif not entry.recipe.fails and result.read_bytes() != expected(
                undisturbed[entry.recipe.name], entry.name, entry.content
            ):
                account.different.append(entry.name)
        account.duplicate += [f"{name}: a job of which nobody knows" for name in by_name]
        account.duplicate += [f"{name}: a result of which nobody knows" for name in published]
        account.left += [str(p) for p in (home / "inbox").rglob("*") if p.is_file()]
        account.left += [str(p) for p in (home / "data" / "spool").glob("*.json")]
        return account

    def counts(self) -> Counter[str]:
        """Return how many videos came which way."""
        with self._lock:
            return Counter(str(entry.source) for entry in self.entries.values())


def told(job: Job) -> str:
    """Return why a job failed, or nothing."""
    return job.error_message or ""


def free_box(content: bytes) -> bytes:
    """Return an MP4 box that players pass over (ISO/IEC 14496-12, section 8.1.2)."""
    return (8 + len(content)).to_bytes(4, "big") + b"free" + content


def expected(document: bytes, name: str, content: bytes) -> bytes:
    """Return a recipe's document as it must be for another file: only the line that names the source differs."""
    source = {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    lines = document.split(b"\n")
    [at] = [number for number, line in enumerate(lines) if line.startswith(b'"source": ')]
    lines[at] = f'"source": {json.dumps(source, sort_keys=True)},'.encode()
    return b"\n".join(lines)
