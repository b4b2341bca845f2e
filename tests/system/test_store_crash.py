"""The store under kill -9: what was acknowledged is there, and the job file is whole at every moment."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from daemon.jobs import JobStatus
from daemon.store.job_reader import JobReader
from daemon.store.job_store import JobStore

pytestmark = pytest.mark.slow

KILLS = 110
COMMITS = 300
"""On a busy machine it takes more kills until the writer has made so many."""

WRITER = """
import os, random, signal, sys, time
from pathlib import Path
from daemon.store import journal
from daemon.errors import IllegalMove
from daemon.jobs import Job, JobStatus, new_job_id
from daemon.store.job_store import JobStore

def acknowledge(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def child(seed):
    rng = random.Random(seed)
    journal.COMPACT_BYTES = rng.choice([1, 2000, 20000])
    store = JobStore.open(Path(sys.argv[1]))
    assert store.recovered_from is None, store.recovered_from
    acknowledge("open")
    while True:
        jobs = store.jobs()
        job = rng.choice(jobs) if jobs else None
        action = rng.choice(["create", "move", "move", "note", "remove", "compact"])
        if action == "create" or job is None:
            new = [Job(new_job_id()) for _ in range(rng.choice([1, 1, 3]))]
            for made in store.create(new):
                acknowledge("create", made.job_id, made.sequence, made.status, 0)
        elif action == "move":
            try:
                job = store.move(job.job_id, rng.choice(list(JobStatus)))
            except IllegalMove:
                continue
            acknowledge("set", job.job_id, job.sequence, job.status, job.frames_processed)
        elif action == "note":
            job = store.note(job.job_id, durable=rng.random() < 0.5, frames_processed=rng.randrange(1, 1000))
            acknowledge("set", job.job_id, job.sequence, job.status, job.frames_processed)
        elif action == "remove" and len(jobs) > 20:
            acknowledge("removing", job.job_id)
            store.remove(job.job_id)
            acknowledge("removed", job.job_id)
        elif action == "compact":
            store.compact_if_worthwhile()

# Imports take long and kills come often, so each life is a fork of this process.
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            child(int(line))
        finally:
            os._exit(1)
    acknowledge("pid", pid)
    _, status = os.waitpid(pid, 0)
    acknowledge("ended", -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


class Ledger:
    """What the writer acknowledged, kept outside of it."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[int, str, int]] = {}
        self.in_doubt: set[str] = set()
        self.highest = 0
        self.commits = 0

    def note(self, words: list[str]) -> None:
        if words[0] in ("create", "set"):
            job_id, sequence, status, frames = words[1], int(words[2]), words[3], int(words[4])
            if words[0] == "create":
                assert sequence > self.highest, "a number was given twice"
                self.highest = sequence
            self.jobs[job_id] = sequence, status, frames
            self.commits += 1
        elif words[0] == "removing":
            self.in_doubt.add(words[1])
        elif words[0] == "removed":
            self.in_doubt.discard(words[1])
            del self.jobs[words[1]]
            self.commits += 1

    def check(self, found: dict[str, tuple[int, str, int]]) -> None:
        """Compare with the store after a kill; one change may have been made and not yet acknowledged."""
        missing = {job_id for job_id in self.jobs if job_id not in found}
        assert missing <= self.in_doubt, f"lost: {missing - self.in_doubt}"
        differing = {j for j, known in self.jobs.items() if j in found and found[j] != known}
        added = set(found) - set(self.jobs)
        assert len(differing) + len(missing) + bool(added) <= 1, (differing, missing, added)
        assert len(added) <= 3
        assert all(found[job_id][0] > self.highest for job_id in added)
        assert len({sequence for sequence, _, _ in found.values()}) == len(found)
        self.jobs = found
        self.in_doubt.clear()
        self.highest = max([self.highest, *(sequence for sequence, _, _ in found.values())])


class Watcher(threading.Thread):
    """Reads the job file as fast as it can, follows the store, and makes copies of the folder."""

    def __init__(self, folder: Path, copies: Path) -> None:
        super().__init__()
        self.folder, self.copies = folder, copies
        self.stop = threading.Event()
        self.errors: list[str] = []
        self.reads = self.copied = 0

    def run(self) -> None:
        with JobReader(self.folder) as reader:
            while not self.stop.is_set():
                try:
                    self.look(reader)
                except Exception as error:
                    self.errors.append(repr(error))

    def look(self, reader: JobReader) -> None:
        try:
            data = (self.folder / "jobs.json").read_bytes()
        except FileNotFoundError:
            if self.reads:
                raise
            return
        assert isinstance(json.loads(data)["jobs"], dict)
        reader.refresh()
        assert sum(reader.counts().values()) == len(reader.jobs())
        self.reads += 1
        if self.reads % 20 == 0:
            before = {job.job_id for job in reader.jobs()}
            self.copy(before, reader)
        time.sleep(0.001)

    def copy(self, before: set[str], reader: JobReader) -> None:
        """Copy as ``cp`` does: list the folder, then take file by file what is still there."""
        target = self.copies / str(self.copied)
        target.mkdir()
        for name in sorted(os.listdir(self.folder), key=lambda _: random.random()):
            try:
                shutil.copyfile(self.folder / name, target / name)
            except FileNotFoundError:
                assert not name.startswith("jobs."), f"{name} was removed within a copy"
        with JobReader(target) as copy:
            copy.refresh()
            found = {job.job_id for job in copy.jobs()}
        reader.refresh()
        still = {job.job_id for job in reader.jobs()}
        assert before & still <= found, "a backup lacks jobs that were there all the time"
        self.copied += 1
        shutil.rmtree(target)


def test_every_acknowledged_change_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    folder, copies = tmp_path / "data", tmp_path / "copies"
    copies.mkdir()
    rng = random.Random(20261121)
    ledger = Ledger()
    watcher = Watcher(folder, copies)
    watcher.start()
    arguments: list[Any] = [sys.executable, "-c", WRITER, str(folder)]
    try:
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            for life in itertools.count():
                if life >= KILLS and ledger.commits > COMMITS:
                    break
                writer.stdin.write(f"{life}\n")
                writer.stdin.flush()
                pid = 0
                while True:
                    words = writer.stdout.readline().split()
                    if words[0] == "pid":
                        pid = int(words[1])
                    elif words[0] == "ended":
                        assert words[1] == "-9", "the writer ended by itself"
                        break
                    elif words[0] != "open":
                        ledger.note(words)
                    # A quarter of the lives end around the moment of opening.
                    if words[0] == ("pid" if life % 4 == 0 else "open"):
                        delay = rng.uniform(0, 0.02 if life % 4 == 0 else 0.08)
                        threading.Timer(delay, os.kill, (pid, 9)).start()
                with JobReader(folder) as reader:
                    reader.refresh()
                    found = {j.job_id: (j.sequence, str(j.status), j.frames_processed) for j in reader.jobs()}
                ledger.check(found)
            writer.stdin.close()
    finally:
        watcher.stop.set()
        watcher.join()
    assert watcher.errors == []
    assert watcher.reads > 100
    assert watcher.copied > 5
    assert ledger.commits > COMMITS
    with JobStore.open(folder) as store:
        assert store.recovered_from is None
        assert {j.job_id for j in store.jobs()} == set(ledger.jobs)
        assert store.counts() == {status: len(store.jobs(status)) for status in JobStatus}
