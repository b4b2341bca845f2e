"""The power goes at every moment: what was acknowledged is there, and nothing is there in part or twice.

A real daemon with its pipeline process, and a submitter, run under strace. From every prefix of what they did to
the disk, in every way in which a disk may have kept it, a real start must come to a good end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.fs.storage import LocalStorageService
from daemon.ingest.inbox import Inbox
from daemon.ingest.intake import Intake
from daemon.jobs import Job, JobStatus
from daemon.queue import InMemoryQueueService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.integration.disk_model import Disk, Operation, State, operations, run_traced
from tests.integration.test_taking_in import PIPELINES
from tests.system.running import FAST, ROOT, Daemon, children, wait_for

SUBMIT = """
import sys
from pathlib import Path
from daemon.ipc import spool
from daemon.jobs import JobSource, Options
job_id = spool.submit(Path(sys.argv[1]), Path(sys.argv[2]), source=JobSource.CLI, source_name="upload.mp4",
                      pipeline_id="ocr_only", options=Options())
print("answered", job_id, flush=True)
"""
DROPPED = ("renamed.mp4", "copied.mp4", "sound.mp4")
# The search index is SQLite's own affair, and is made anew whenever it is damaged.
IRRELEVANT = re.compile(r"data/(models/|index/|\.?daemon\.json|jobs\.lock)|.*/\.dropframe-")
DOCUMENT = re.compile(r"outbox/[^.].*\.json|data/video_jobs/[^.].*_results\.json")
ACKNOWLEDGED = re.compile(r"answered (?P<answered>\S+)|Job (?P<ended>\S+) (?:is completed|failed)")


@dataclass
class Trace:
    """What a run did, from an empty home to its end."""

    home: Path
    """As it was left."""
    before: dict[str, bytes]
    """Files at the beginning."""
    done: list[Operation]
    videos: dict[str, bytes]
    """By source name."""
    source: Path
    """The other name of the video that had to be copied."""
    jobs: list[Job]
    """At the end."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder = tmp_path_factory.mktemp("power")
    home, output = folder / "home", folder / "said"
    source = make_clip(folder / "elsewhere.mp4", frames=10, text="COPIED")
    make_clip(home / "inbox" / "renamed.mp4", frames=20, text="RENAMED")
    (home / "inbox" / "copied.mp4").hardlink_to(source)
    make_clip(home / "inbox" / "sound.mp4", frames=10, audio=True, video=False)
    upload = make_clip(folder / "upload.mp4", frames=8, text="UPLOAD")
    videos = {path.name: path.read_bytes() for path in (*(home / "inbox").iterdir(), upload)}
    before = {f"inbox/{name}": videos[name] for name in DROPPED}
    submitter = run_traced(
        [sys.executable, "-c", SUBMIT, home / "data" / "spool", upload], folder / "first", output, ROOT
    )
    assert submitter.wait(60) == 0
    daemon = Daemon(home)
    command = ["env", *(f"{name}={value}" for name, value in FAST.items()), sys.executable, "-m", "daemon"]
    strace = run_traced([*command, "daemon", "--home", home], folder / "second", output, ROOT)
    try:
        wait_for(lambda: len(daemon.jobs()) == 4 and all(job.ended for job in daemon.jobs()), 180)
        wait_for(lambda: len(daemon.results()) == 4, 60)
        [traced] = children(strace.pid)
        os.kill(traced, 15)
        assert strace.wait(60) == 0, output.read_text()
    finally:
        for pid in children(strace.pid):
            os.kill(pid, 9)
    done = [*operations(folder / "first", home, output), *operations(folder / "second", home, output)]
    return Trace(home, before, done, videos, source, daemon.jobs())


def relevant(path: str) -> bool:
    return IRRELEVANT.match(path) is None


def test_the_model_of_the_disk_ends_as_the_disk_did(trace: Trace) -> None:
    disk = Disk(trace.before, relevant)
    for operation in trace.done:
        disk.carry_out(operation)
    modelled = {path: content for path, _, content in disk.states()["all is on the disk"]}
    real = {str(p.relative_to(trace.home)): p for p in trace.home.rglob("*") if p.is_file()}
    assert modelled == {path: p.read_bytes() for path, p in real.items() if relevant(path)}


def test_whatever_gets_its_name_by_a_rename_is_synced_before_and_its_folder_after(trace: Trace) -> None:
    """Or a power cut would leave an empty file under the new name, or the old name back."""
    unsynced: set[str] = set()
    owed: list[str] = []
    renamed = Counter[str]()
    for operation in filter(lambda each: relevant(each.path), trace.done):
        if operation.kind in ("write", "copy", "truncate"):
            unsynced.add(operation.path)
        elif operation.kind == "sync":
            unsynced.discard(operation.path)
            owed = [path for path in owed if os.path.dirname(path) != operation.path]
        elif operation.kind == "rename" and relevant(operation.other):
            assert operation.path not in unsynced, f"{operation.path} became {operation.other} before it was synced"
            owed.append(operation.other)
            renamed[re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", operation.other)] += 1
        elif operation.kind == "said" and ACKNOWLEDGED.search(operation.data.decode()):
            assert [path for path in owed if not path.endswith("jobs.previous.json")] == []
    expected = ["data/jobs.json", "data/spool/ID.submit.json", "data/video_jobs/ID.mp4", "outbox/ID.json"]
    expected += ["data/video_jobs/ID_results.json", "outbox/renamed.mp4.json", "outbox/sound.mp4.error.json"]
    assert set(expected) <= set(renamed)


class Restarts:
    """Builds what a power cut may have left, and starts from it.

    The inodes of the videos are the real ones, as job records know them by these.
    """

    def __init__(self, trace: Trace, folder: Path) -> None:
        self._trace = trace
        self._home = folder / "home"
        self._pool = folder / "pool"
        self._pool.mkdir(parents=True)
        disk = Disk(trace.before, relevant)
        for operation in trace.done:
            disk.carry_out(operation)
        self._documents = {
            path: content for path, _, content in disk.states()["all is on the disk"] if DOCUMENT.fullmatch(path)
        }
        self._real: dict[int, tuple[Path, bytes, int]] = {}
        """Pooled file, its content and its inode, by its number in the model."""
        for path, number in disk.names.items():
            if path.startswith("data/video_jobs/") and path.endswith(".mp4"):
                pooled = self._pool / str(number)
                os.rename(trace.home / path, pooled)
                self._real[number] = pooled, pooled.read_bytes(), pooled.stat().st_ino
        self._copied = sorted(trace.before).index("inbox/copied.mp4")

    def try_out(self, state: State, acknowledged: dict[str, set[str]]) -> None:
        """Start from a state; fail if it does not come to a good end."""
        self._build(state)
        try:
            self._check_documents(state)
            self._start()
            self._check(acknowledged)
        finally:
            self._take_back()

    def _build(self, state: State) -> None:
        placed: dict[int, Path] = {}
        for name in ("inbox", "outbox", "data/spool", "data/video_jobs"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        for path, number, content in state:
            target = self._home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            pooled, whole, _ = self._real.get(number, (None, b"", 0))
            if number in placed:
                target.hardlink_to(placed[number])
            elif number == self._copied:
                target.hardlink_to(self._trace.source)
            elif pooled is not None and content == whole:
                # One with two names would be copied out of the inbox; elsewhere a start may remove one as unfinished.
                pooled.rename(target) if path.startswith("inbox/") else target.hardlink_to(pooled)
            else:
                target.write_bytes(content)
            placed[number] = target

    def _take_back(self) -> None:
        found = {path.stat().st_ino: path for path in self._home.rglob("*") if path.is_file()}
        for pooled, _, inode in self._real.values():
            if not pooled.exists():
                found[inode].rename(pooled)
        shutil.rmtree(self._home)

    def _check_documents(self, state: State) -> None:
        found = {path: content for path, _, content in state}
        for path, content in found.items():
            if DOCUMENT.fullmatch(path):
                assert content == self._documents[path], f"{path} is there in part"
            document = path.removesuffix(".checkpoint")
            if document != path and f"{document}.part" in found:
                part = found[f"{document}.part"]
                size = json.loads(content)["bytes"]
                whole = self._documents[document]
                assert part[:size] == whole[:size], f"{path} speaks of what is not there"
                assert len(part) >= size

    def _start(self) -> None:
        """Do what a start of the daemon does, up to where jobs are run."""
        settings = Settings(home=self._home, watch="polling", min_free_bytes=0, close_grace_seconds=0)
        with JobStore.open(settings.data_dir) as store:
            storage = LocalStorageService(settings.data_dir)
            intake = Intake(settings, store, InMemoryQueueService(), storage, PIPELINES)
            intake.recover()
            if store.recovered_from:
                intake.reconcile()
            inbox = Inbox(settings, lambda: None)
            inbox.startup()
            try:
                for second in range(3):
                    intake.take(inbox.poll(1e6 + 5 * second))
                    intake.take_tickets()
            finally:
                inbox.shutdown()
            self._jobs = store.jobs()
            self._recovered = store.recovered_from
        with JobStore.open(settings.data_dir) as store:
            assert store.jobs() == self._jobs, "a second start finds something else"

    def _check(self, acknowledged: dict[str, set[str]]) -> None:
        assert self._recovered is None, self._recovered
        by_name = Counter(job.source_name for job in self._jobs)
        assert {name: by_name[name] for name in DROPPED} == dict.fromkeys(DROPPED, 1)
        by_id = {job.job_id: job for job in self._jobs}
        assert by_name["upload.mp4"] <= 1
        assert acknowledged["answered"] <= set(by_id), "an answered upload is gone"
        for job in self._jobs:
            stored = self._home / "data" / job.input_path
            assert stored.read_bytes() == self._trace.videos[job.source_name], f"{job.source_name} is not whole"
        # A video in the spool without its ticket was not answered, and is swept after a day.
        videos = [p for p in self._home.rglob("*.mp4") if p.parent.name != "spool"]
        assert len(videos) == len(self._jobs), "a video is there twice"
        for job_id in acknowledged["ended"]:
            job = by_id[job_id]
            assert job.ended, f"{job.source_name} had ended"
            name = job.source_name if job.source_name in DROPPED else job.job_id
            if job.status is JobStatus.COMPLETED:
                assert (self._home / "outbox" / f"{name}.json").exists()
            else:
                told = (self._home / "outbox" / f"{name}.error.json").exists()
                assert told or job.unpublished_error, "its error is forgotten"


@pytest.fixture(scope="module")
def restarts(trace: Trace) -> Restarts:
    return Restarts(trace, trace.home.parent / "restarts")


def moments(trace: Trace, *, synced: bool = True) -> Iterator[tuple[int, str, State, dict[str, set[str]]]]:
    """Return each state that a power cut can leave, once, with what had been acknowledged by then."""
    disk = Disk(trace.before, relevant)
    acknowledged: dict[str, set[str]] = {"answered": set(), "ended": set()}
    seen: set[int] = set()
    for number, operation in enumerate(trace.done):
        if synced or operation.kind != "sync":
            disk.carry_out(operation)
        if operation.kind == "said":
            for found in ACKNOWLEDGED.finditer(operation.data.decode()):
                for kind, job_id in found.groupdict().items():
                    acknowledged[kind] |= {job_id} - {None}
        for how, state in disk.states().items():
            key = hash((state, len(acknowledged["answered"]), len(acknowledged["ended"])))
            if key not in seen:
                seen.add(key)
                yield number, how, state, acknowledged


def problem(restarts: Restarts, state: State, acknowledged: dict[str, set[str]]) -> str | None:
    try:
        restarts.try_out(state, acknowledged)
    except Exception as error:
        return f"{type(error).__name__} {error}".splitlines()[0]
    return None


@pytest.mark.timeout(900)
def test_from_every_moment_a_start_comes_to_a_good_end(trace: Trace, restarts: Restarts) -> None:
    tried = Counter[str]()
    problems = []
    for number, how, state, acknowledged in moments(trace):
        tried[how] += 1
        if found := problem(restarts, state, acknowledged):
            done = trace.done[number]
            problems.append(f"after {number} ({done.kind} {done.path}), {how}: {found}")
    print(sum(tried.values()), "states:", dict(tried))
    assert not problems, "\n".join(problems)
    assert all(tried[how] >= 5 for how in Disk({}, relevant).states())


def test_without_a_sync_it_would_not_be_so(trace: Trace, restarts: Restarts) -> None:
    """The test above sees it when nothing is ever synced."""
    lost = (problem(restarts, state, acknowledged) for _, _, state, acknowledged in moments(trace, synced=False))
    assert any(lost)
