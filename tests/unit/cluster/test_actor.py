"""What runs on a machine of a cluster, with a pipeline process that is played."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon import __version__
from daemon.cluster import actor as actor_module
from daemon.cluster.actor import Share, SlotActor
from daemon.cluster.share import put_mark
from daemon.errors import BadVideo, Interrupted
from daemon.pipeline.client import Ready
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import PartRequest
from daemon.pipeline.seams import NotExact
from daemon.settings import Settings
from tests.system.running import wait_for


class Played:
    """A pipeline process that does what ``act`` says."""

    act: Callable[..., dict[str, float]] = staticmethod(lambda tell, stop: {"text": 1.5})
    made: list[Played] = []  # noqa: RUF012

    def __init__(self, settings: Settings, cores: tuple[int, ...], memory_limit: int) -> None:
        self.settings, self.cores, self.memory_limit = settings, cores, memory_limit
        self.ready = Ready("cpu", [])
        self.is_up = True
        self.made.append(self)

    def start(self, should_stop: Callable[[], bool]) -> Ready:
        return self.ready

    def run_part(
        self, request: PartRequest, tell: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> dict[str, float]:
        return type(self).act(tell, should_stop)

    def resident_bytes(self) -> int:
        return 9


class Quiet(SlotActor):
    """One that does not end our own process."""

    def __init__(self, *arguments: Any) -> None:
        self.expired = threading.Event()
        super().__init__(*arguments)

    def _expire(self) -> None:
        self.expired.set()


class Bench:
    """An actor, asked as a driver does."""

    def __init__(self, home: Path, silent_seconds: float = 100, version: str = __version__) -> None:
        self.settings = Settings.load(home=home, executor="cluster", silent_seconds=silent_seconds)
        mark = put_mark(self.settings)
        self.actor = Quiet(self.settings.model_dump(mode="json"), Share(1), mark, version)
        self.turn = 0

    def ask(self, kind: str) -> list[dict[str, Any]]:
        """Return all answers to a request."""
        self.turn += 1
        self.actor.send({"kind": kind, "turn": self.turn, "request": self.request()})
        return self.rest()

    def request(self) -> dict[str, Any]:
        """Return that of a part."""
        paths = {name: str(self.settings.home / "x") for name in ("plan_path", "file_path", "output_path")}
        return {"number": 0, **paths}

    def rest(self) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        while not said or said[-1]["kind"] == "progress":
            said += self.actor.answers(5)["answers"]
        assert {each["turn"] for each in said} == {self.turn}
        return said


@pytest.fixture
def shared_threads() -> frozenset[str]:
    return frozenset({"slot", "lease"})  # an actor ends with its process


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(actor_module, "PipelineProcess", Played)
    return Bench(tmp_path)


def test_what_is_asked_for_is_done_and_progress_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(tell: Callable[[Progress], None], stop: Callable[[], bool]) -> dict[str, float]:
        tell(Progress(3, 5, 8))
        return {"text": 1.5}

    monkeypatch.setattr(Played, "act", staticmethod(act))
    assert bench.ask("start")[-1]["ready"]["node"]
    progress, done = bench.ask("part")
    assert (progress["frames_processed"], progress["steps"]) == (3, 8)
    assert done["report"] == {"not_exact": None, "stage_seconds": {"text": 1.5}}
    assert bench.actor.answers(0) == {"answers": [], "memory_bytes": 9}
    process = Played.made[-1]
    assert (process.settings.device, len(process.cores)) == ("cpu", 1)


@pytest.mark.expects_error_log
@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (BadVideo("It is no video."), "BadVideo", "It is no video."),
        (ZeroDivisionError("oh"), "PipelineDied", "ZeroDivisionError: oh"),
    ],
)
def test_errors_cross_as_data(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, text: str
) -> None:
    def act(tell: object, stop: object) -> dict[str, float]:
        raise error

    monkeypatch.setattr(Played, "act", staticmethod(act))
    answer = bench.ask("part")[-1]
    assert (answer["kind"], answer["error"]) == ("error", kind)
    assert text in answer["message"]


def test_a_part_that_is_not_exact_is_told_as_such(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(tell: object, stop: object) -> dict[str, float]:
        raise NotExact("odd times")

    monkeypatch.setattr(Played, "act", staticmethod(act))
    assert bench.ask("part")[-1]["report"] == {"not_exact": "odd times"}


def test_a_turn_is_stopped_and_the_next_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(tell: object, stop: Callable[[], bool]) -> dict[str, float]:
        threading.Timer(0.05, bench.actor.stop, (1,)).start()
        wait_for(stop, 10)
        raise Interrupted("stopped")

    monkeypatch.setattr(Played, "act", staticmethod(act))
    assert bench.ask("part")[-1]["error"] == "Interrupted"
    monkeypatch.undo()
    assert bench.ask("part")[-1]["kind"] == "done"


def test_a_machine_that_has_lost_the_shared_folder_is_lost_and_cannot_be_started(bench: Bench) -> None:
    assert bench.ask("part")[-1]["kind"] == "done"
    shutil.rmtree(bench.settings.videos_dir)
    answer = bench.ask("part")[-1]
    assert answer["error"] == "NodeLost"
    assert "Mount Dropframe's data folder there" in answer["message"]
    assert bench.ask("start")[-1]["error"] == "ResourceUnavailable"


def test_a_machine_with_another_version_gets_nothing_to_do(tmp_path: Path) -> None:
    said = Bench(tmp_path, version="0.0.1").ask("start")[-1]
    assert (said["error"], said["ready"]) == ("MachineError", None)
    assert said["message"].startswith(
        f"On {socket.gethostname()}: it has Dropframe {__version__}, and the daemon 0.0.1"
    )


def test_a_slot_that_stands_still_on_its_machine_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, at_work = threading.Event(), threading.Event()

    def act(tell: object, should_stop: Callable[[], bool]) -> dict[str, float]:
        bench.actor._still = 1000
        should_stop()
        at_work.set()
        hangs.wait(30)
        return {}

    monkeypatch.setattr(Played, "act", staticmethod(act))
    bench.actor.send({"kind": "part", "turn": 1, "request": bench.request()})
    assert at_work.wait(10)
    assert bench.actor.answers(0)["answers"] == [], "the process was heard of"
    bench.actor._still = 99
    assert bench.actor.answers(0)["answers"] == []
    bench.actor._still = 101
    (said,) = bench.actor.answers(0)["answers"]
    assert (said["turn"], said["error"], said["ready"]) == (1, "NodeLost", None)
    assert "stands still" in said["message"]
    hangs.set()


@pytest.mark.slow
def test_an_actor_that_nobody_asks_any_more_ends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "PipelineProcess", Played)
    bench = Bench(tmp_path, silent_seconds=4)
    asked_until = time.monotonic() + 2.5
    while time.monotonic() < asked_until:
        bench.actor.answers(0)
        time.sleep(0.01)
    assert not bench.actor.expired.is_set(), "it was asked"
    assert bench.actor.expired.wait(10)
