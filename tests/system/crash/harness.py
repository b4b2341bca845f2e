"""Harness: real processes, real videos, and kill -9 at seeded moments and at every failpoint."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from daemon.ipc import spool
from daemon.jobs import JobSource, Options
from daemon.store.job_reader import JobReader
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.crash.ledger import Entry, Ledger, Recipe, free_box
from tests.system.crash.reader import Reader
from tests.system.running import ROOT, Daemon, alive, running, wait_for

POINTS = {
    "intake.recorded": "drop",
    "intake.moved": "drop",
    "intake.one_moved": "drop",
    "intake.options": "options",
    "move.copied": "second name",
    "tickets.recorded": "submit",
    "worker.running": "segments",
    "worker.analysed": "segments",
    "worker.published": "segments",
    "worker.completed": "segments",
    "worker.failed": "sound",
    "put_back.options": "change",
    "put_back.moved": "change",
    "results.saved": "segments",
    "results.finished": "segments",
    "storage.written": "segments",
    "storage.renamed": "segments",
    "journal.written": "segments",
    "journal.created": "segments",
    "spool.renamed": "upload",
}
"""What must happen for each failpoint to be passed. The sidecar passes those of ``upload``."""
KILLED_ELSEWHERE = {
    "deletion.removed": "system/test_requests",
    "deletion.unlinked": "system/test_requests",
    "deletion.withdrawn": "system/test_requests",
    "tickets.ended": "system/test_requests",
    "tickets.freed": "system/test_requests",
    "requests.freed": "system/test_requests",
    "intake.copied": "unit/ingest/test_kept",
    "kept.forgotten": "unit/ingest/test_kept",
    "kept.noted": "unit/ingest/test_kept",
    "export.drawn": "unit/export/test_annotated",
    "export.written": "unit/export/test_exports",
    "outbox_exports.published": "unit/worker/test_outbox_exports",
    "rejections.told": "unit/test_rejections",
    "pool.planned": "system/test_pool",
    "pool.made": "system/test_pool",
    "pool.joined": "system/test_pool",
    **dict.fromkeys(
        (
            "inbox_store.block",
            "inbox_store.copied",
            "inbox_store.entered",
            "inbox_store.fetched",
            "inbox_store.mark",
            "inbox_store.moved",
            "inbox_store.promised",
            "inbox_store.rejected",
            "inbox_store.submitted",
            "result_store.put",
        ),
        "integration/test_object_storage",
    ),
}
"""The module that kills at a failpoint of which nothing is passed here: no job is deleted, no disk is full, no file
stays in the inbox, nothing is exported or in object storage, nobody is told of events, and there is no pool."""
SIDECAR_POINTS = ("spool.renamed", "storage.written", "storage.renamed")
OFTEN = {"storage.written": 2, "storage.renamed": 2, "journal.written": 5, "results.saved": 4}
"""A point that is passed often is the end at one of its first so many passings."""
SETTINGS = {
    # A kill is not the video's fault here, however many meet the same job.
    "DROPFRAME_MAX_ATTEMPTS": "1000000",
    "DROPFRAME_RETRY_SECONDS": "0",
}
END_SECONDS = 600.0


def points_in_code() -> set[str]:
    """Return the name of every failpoint in the product."""
    files = [p for package in ("daemon", "sidecar") for p in (ROOT / package).rglob("*.py")]
    return {name for p in files for name in re.findall(r'failpoint\("([^"]+)"\)', p.read_text())}


def recipes() -> list[Recipe]:
    """Return the videos that are dropped, all small and all analysed by the real models but one."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    path = folder / f"dropframe-crash-{os.getpid()}.mp4"

    def clip(frames: int, text: str | None, **more: Any) -> bytes:
        try:
            return make_clip(path, frames=frames, size=(320, 240), text=text, **more).read_bytes()
        finally:
            path.unlink(missing_ok=True)

    return [
        Recipe("short", clip(6, "AWAY 3")),
        Recipe("segments", clip(40, "HOME 2")),
        Recipe("text", clip(12, "GOAL 42"), "ocr_only"),
        Recipe("stride", clip(20, "CORNER"), frame_stride=2),
        Recipe("sound", clip(10, None, audio=True, video=False), fails=True),
    ]


@dataclass
class Report:
    """What a run did and what was wrong."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    """By what was killed, and by failpoint."""
    videos: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)
    """How often the reader read what."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cycles(self) -> int:
        """Kills at moments and at points."""
        return self.kills.total()

    def shortcomings(self, cycles: int) -> list[str]:
        """Return what was wrong, and why a run that found nothing wrong would prove nothing."""
        unreached = set(POINTS) - {kind.rpartition(" ")[2] for kind in self.kills}
        looked = {
            "documents": self.looks["documents"] >= self.videos.total(),
            "stores": self.looks["stores"] > self.cycles,
            "statuses": self.looks["statuses"] > self.cycles,
        }
        return [
            *self.problems,
            *(["there were too few kills"] if self.cycles < cycles else []),
            *(f"nothing was killed at {point}" for point in sorted(unreached)),
            *(f"the reader saw too few {name}" for name, enough in looked.items() if not enough),
        ]

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))

        return (
            f"seed {self.seed}: {self.cycles} kills in {self.seconds:.0f} s ({listed(self.kills)});\n"
            f"{self.videos.total()} videos ({listed(self.videos)});\nread whole: {listed(self.looks)};\n"
            f"{len(self.problems)} problems" + "".join(f"\n  {problem}" for problem in self.problems)
        )


class Harness:
    """One home, in which processes are killed again and again.

    Args:
        home: Empty.
        seed: Of every choice and every moment.
        say: Is told of every cycle.
    """

    def __init__(self, home: Path, seed: int, say: Callable[[str], None] = lambda sentence: None) -> None:
        self._home = home / "home"
        self._home.mkdir()
        self._undisturbed_home = home / "undisturbed"
        self._undisturbed_home.mkdir()
        self._seed = seed
        self._say = say
        self._ledger = Ledger(recipes(), home / "ids")
        self._ids = home / "ids"
        self._report_path = home / "reader.json"
        self._daemon = Daemon(self._home, **SETTINGS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._answered = threading.Event()
        """Every upload was answered, and no sidecar is killed any more."""
        self._over = threading.Event()
        self._url = f"http://127.0.0.1:{self._port}"
        self.report = Report(seed)

    def run(self, cycles: int) -> Report:
        """Kill so many times, let all end well, and settle."""
        begun = time.monotonic()
        undisturbed = self._undisturbed()
        of_sidecar = cycles // 3
        with ThreadPoolExecutor(1) as other, self._reading(), ExitStack() as stack:
            stack.callback(self._end)
            sidecars = other.submit(self._kill_sidecars, of_sidecar)
            for number, kind in enumerate(self._plan(cycles - of_sidecar)):
                self._cycle(number, kind)
            if not self._running():
                self._daemon.start()
            wait_for(lambda: self._answered.is_set() or sidecars.done(), END_SECONDS, "uploads were not answered")
            self._let_all_end()
            self._over.set()
            sidecars.result()
            self._daemon.stop()
        with JobReader(self._home / "data") as reader:
            reader.refresh()
            account = self._ledger.settle(reader.jobs(), self._home, undisturbed)
        self.report.problems += account.problems()
        lines = self._daemon.log().splitlines()
        for number, line in enumerate(lines):
            if "Traceback" in line or "was moved to bad" in line or "damaged" in line:
                self.report.problems.append("the log says:\n" + "\n".join(lines[number - 3 : number + 40]))
        self.report.videos = self._ledger.counts()
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _end(self) -> None:
        self._over.set()
        self._daemon.kill()

    def _undisturbed(self) -> dict[str, bytes]:
        """Run each recipe once with nothing killed; return the documents."""
        with running(self._undisturbed_home, ready=False, **SETTINGS) as daemon:
            wait_for(daemon.inbox.is_dir)
            good = [recipe for recipe in self._ledger.recipes.values() if not recipe.fails]
            for recipe in good:
                write_options(daemon.inbox / f"{recipe.name}.mp4", recipe)
                source = self._undisturbed_home / f"{recipe.name}.mp4"
                source.write_bytes(recipe.clip)
                folder = "" if recipe.pipeline_id == "yolo_ocr" else f"{recipe.pipeline_id}/"
                daemon.drop(source, f"{folder}{recipe.name}.mp4")
            wait_for(lambda: len([r for r in daemon.results() if not r.endswith("error.json")]) == len(good), 120)
            return {Path(name).name.removesuffix(".mp4.json"): text for name, text in daemon.results().items()}

    def _plan(self, count: int) -> list[str]:
        """Return what is killed how: each failpoint about as often as a third allows, the rest at random."""
        chance = random.Random(self._seed)
        points = [point for point in POINTS if POINTS[point] != "upload"]
        chosen = points * max(1, count // 3 // len(points))
        moments = ["daemon", "daemon", "daemon", "pipeline", "pipeline"]
        plan = chosen[:count] + [chance.choice(moments) for _ in range(count - len(chosen))]
        chance.shuffle(plan)
        return plan

    def _cycle(self, number: int, kind: str) -> None:
        # One source of chance a cycle: what a slow machine changes in one cycle leaves the next as it was.
        chance = random.Random(f"{self._seed} {number}")
        begun = time.monotonic()
        if kind == "daemon":
            self._kill_daemon(chance)
        elif kind == "pipeline":
            self._kill_pipeline(chance)
        else:
            kind = self._kill_at(kind, chance)
        self.report.kills[kind] += 1
        self._say(f"{self.report.cycles}: {kind}, {time.monotonic() - begun:.1f} s")

    def _running(self) -> bool:
        process = self._daemon.process
        return process is not None and process.poll() is None

    def _kill_daemon(self, chance: random.Random) -> None:
        if not self._running():
            self._daemon.start()
        self._drop(chance)
        time.sleep(chance.uniform(0, chance.choice([0.3, 1.5, 6.0])))
        assert self._running(), f"it ended by itself:\n{self._daemon.log()[-3000:]}"
        self._daemon.kill()

    def _kill_pipeline(self, chance: random.Random) -> None:
        if not self._running():
            self._daemon.start()
        self._drop(chance)
        [pipeline, *_] = wait_for(self._daemon.pipelines, 60, "there was no pipeline process")
        time.sleep(chance.uniform(0, chance.choice([0.5, 6.0])))
        with suppress(ProcessLookupError):
            os.kill(pipeline, signal.SIGKILL)
        wait_for(lambda: not alive(pipeline), 10)

    def _kill_at(self, point: str, chance: random.Random) -> str:
        """Let a daemon or its pipeline process die at a failpoint; return who did where."""
        if self._running():
            self._daemon.kill()
        number = chance.randrange(OFTEN.get(point, 1)) + 1
        self._daemon.start(DROPFRAME_FAULT=f"{point}:{number}")
        provoke = POINTS[point]
        wait_for(lambda: (self._home / "inbox").is_dir() or not self._running(), 60)
        entry = self._submit(chance) if provoke == "submit" else self._drop(chance, provoke)
        seen: set[int] = set()

        def somebody_died() -> str | None:
            seen.update(self._daemon.pipelines() if self._running() else [])
            if provoke == "change":
                self._change(entry)
            assert self._daemon.process is not None
            if not self._running():
                code = self._daemon.process.returncode
                assert code == -signal.SIGKILL, f"it ended with {code}:\n{self._daemon.log()[-3000:]}"
                return "daemon"
            if not any(not alive(pid) for pid in seen):
                return None
            with suppress(subprocess.TimeoutExpired):  # or has it died with the daemon?
                self._daemon.process.wait(0.5)
                return "daemon"
            return "pipeline"

        who = wait_for(somebody_died, 120, f"{point} was not passed")
        self._daemon.kill()
        return f"{who} at {point}"

    # Ways of handing over a video.

    def _drop(self, chance: random.Random, how: str = "drop") -> Entry:
        """Put a video into the inbox in one of the ways that people and programs do."""
        inbox = self._home / "inbox"
        all_names = list(self._ledger.recipes)
        only = {"options": ["stride"], "segments": ["segments"], "sound": ["sound"], "drop": all_names}
        names = only.get(how, ["short"])
        entry = self._ledger.add(self._ledger.recipes[chance.choice(names)], JobSource.INBOX)
        target = inbox / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_options(target, entry.recipe)
        way = "second name" if how == "second name" else chance.choice(["rename", "write", "append"])
        if way == "rename":
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(entry.content)
            part.rename(target)
        elif way == "second name":
            elsewhere = self._home / f"kept-{len(self._ledger.entries)}.mp4"
            elsewhere.write_bytes(entry.content)
            target.hardlink_to(elsewhere)
        else:
            pieces = 1 if way == "write" else 4
            size = -(-len(entry.content) // pieces)
            with target.open("wb", buffering=0) as file:
                for start in range(0, len(entry.content), size):
                    file.write(entry.content[start : start + size])
                    time.sleep(0.02 if pieces > 1 else 0)
        return entry

    def _submit(self, chance: random.Random) -> Entry:
        """Hand over a video as ``dropframe submit`` does."""
        entry = self._ledger.add(self._ledger.recipes[chance.choice(["short", "text"])], JobSource.CLI)
        options = Options(frame_stride=entry.recipe.frame_stride)
        job_id = spool.submit(
            self._home / "data" / "spool",
            io.BytesIO(entry.content),
            source=JobSource.CLI,
            source_name=entry.name,
            pipeline_id=entry.recipe.pipeline_id,
            options=options,
        )
        self._ledger.answer(entry, job_id)
        return entry

    def _change(self, entry: Entry) -> None:
        """Write once to a video that has been taken in, as a writer does that was thought to be done."""
        if entry.changed:
            return
        job = self._daemon.job(entry.name)
        path = self._home / "data" / job.input_path if job else None
        if path is not None and path.exists():
            with path.open("ab", buffering=0) as file:
                file.write(free_box(b"changed"))
            entry.content = path.read_bytes()
            entry.changed = True

    # The sidecar, which is killed in a thread of its own.

    def _kill_sidecars(self, count: int) -> None:
        chance = random.Random(f"{self._seed} sidecar")
        unanswered: list[Entry] = []
        for number in range(count):
            point = SIDECAR_POINTS[number // 3 % len(SIDECAR_POINTS)] if number % 3 == 2 else None
            with self._sidecar(**({"fault": f"{point}:{chance.choice([1, 2])}"} if point else {})) as sidecar:
                if point is None:
                    threading.Timer(chance.uniform(0, 0.4), sidecar.process.kill).start()
                while sidecar.process.poll() is None:
                    entry = (
                        unanswered.pop()
                        if unanswered
                        else self._ledger.add(
                            self._ledger.recipes[chance.choice(["short", "text", "sound"])], JobSource.HTTP
                        )
                    )
                    if not self._upload(entry):
                        unanswered.append(entry)
            self.report.kills[f"sidecar at {point}" if point else "sidecar"] += 1
        with self._sidecar():
            assert all(self._upload(entry) for entry in unanswered)
            self._answered.set()
            self._over.wait()  # the reader goes on asking

    @contextmanager
    def _sidecar(self, **settings: str) -> Iterator[Sidecar]:
        with running_sidecar(self._home, "--port", str(self._port), min_free_bytes=0, **settings) as sidecar:
            yield sidecar

    def _upload(self, entry: Entry) -> bool:
        """Upload a video with a key of its own, as often as it takes; tell whether it was answered."""

        def pieces() -> Iterator[bytes]:
            size = -(-len(entry.content) // 4)
            for start in range(0, len(entry.content), size):
                yield entry.content[start : start + size]
                time.sleep(0.01)

        try:
            answer = httpx.put(
                f"{self._url}/v1/video/submit/{entry.name}?pipeline_id={entry.recipe.pipeline_id}",
                content=pieces(),
                headers={"Idempotency-Key": entry.name},
                timeout=60,
            )
        except httpx.TransportError:
            return False
        assert answer.status_code == 201, answer.text
        self._ledger.answer(entry, answer.json()["job_id"])
        return True

    # The end.

    def _let_all_end(self) -> None:
        """Give a daemon that nobody kills the time to do what is left."""
        self._daemon.wait_ready(120)

        def over() -> bool:
            names = {job.source_name for job in self._daemon.jobs() if job.ended}
            return names >= set(self._ledger.entries) and all(job.ended for job in self._daemon.jobs())

        deadline = time.monotonic() + END_SECONDS
        while not over() and time.monotonic() < deadline:  # what is not over by then is shown as lost
            time.sleep(0.1)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        command = [sys.executable, "-m", "tests.system.crash.reader"]
        arguments: list[Any] = [self._home, self._url, self._ids, self._report_path]
        with ExitStack() as stack:
            process = stack.enter_context(subprocess.Popen([*command, *arguments], cwd=ROOT, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            yield
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0
        found = Reader.report(self._report_path)
        self.report.looks, violations = found
        self.report.problems += violations


def write_options(video: Path, recipe: Recipe) -> None:
    """Put an options file beside a video that needs one."""
    if recipe.frame_stride != 1:
        path = video.with_name(f"{video.name}.options.json")
        part = path.with_name(f".{path.name}.part")
        part.write_text(f'{{"frame_stride": {recipe.frame_stride}}}')
        part.rename(path)
