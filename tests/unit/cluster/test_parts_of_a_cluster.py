"""What a cluster's slots are made of: room, cores, the shared folder, and places in the driver."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.cluster.actor import Share
from daemon.cluster.capacity import Capacity
from daemon.cluster.check import check_cluster, require_ray
from daemon.cluster.cores import Cores
from daemon.cluster.placement import Placement
from daemon.cluster.share import MARK, put_mark, require_share
from daemon.errors import MachineError, NodeLost, PipelineDied, ResourceUnavailable, SettingsError
from daemon.pipeline.client import Ready
from daemon.pipeline.machine import abilities
from daemon.settings import Settings
from tests.system.running import wait_for


@pytest.mark.parametrize(
    ("machines", "device", "slots", "share"),
    [
        ([], "auto", 0, Share(2)),
        ([{"CPU": 1.0}, {"CPU": 1.0}], "auto", 2, Share(1)),
        ([{"CPU": 4.0}, {"CPU": 7.0}, {}], "auto", 5, Share(2)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0}], "auto", 2, Share(1, gpu=True)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0}], "cpu", 12, Share(2)),
        ([{"CPU": 8.0}], "cuda:0", 0, Share(1, gpu=True)),
    ],
)
def test_a_cluster_has_room_for_what_its_machines_have(
    machines: list[Mapping[str, float]], device: str, slots: int, share: Share
) -> None:
    assert Capacity.of(machines, device) == Capacity(slots, share)


def test_two_slots_of_a_machine_never_hold_the_same_core_and_a_killed_one_gives_it_back(tmp_path: Path) -> None:
    there = sorted(os.sched_getaffinity(0))
    code = (
        "import sys, time; from pathlib import Path; from daemon.cluster.cores import Cores; "
        "print(Cores(1, Path(sys.argv[1])).numbers[0], flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        mine = Cores(len(there) - 1, tmp_path)
        assert theirs not in mine.numbers
        assert len(mine.numbers) == len(there) - 1
        mine.close()
        more = Cores(len(there), tmp_path)
        assert more.numbers == tuple(there), "a slower slot is better than none"
        assert len(more._held) == len(there) - 1
        more.close()
    finally:
        other.kill()
        other.communicate()
    held = Cores(len(there), tmp_path)
    assert held.numbers == tuple(there)
    assert len(held._held) == len(there)
    held.close()


def test_a_machine_without_the_shared_folder_is_named_and_no_video_is_to_blame(tmp_path: Path) -> None:
    ours, theirs = Settings.load(home=tmp_path / "ours"), Settings.load(home=tmp_path / "theirs")
    mark = put_mark(ours)
    require_share(ours, mark)
    assert [path.name for path in ours.videos_dir.iterdir()] == [MARK]
    with pytest.raises(ResourceUnavailable, match=r"cannot be used on .*: No such file"):
        require_share(theirs, mark)
    (theirs.videos_dir.parent).mkdir(parents=True)
    theirs.videos_dir.symlink_to(ours.videos_dir)  # as one of two mounts
    with pytest.raises(ResourceUnavailable, match=r"/models cannot be used on .*: No such file"):
        require_share(theirs, mark)
    theirs.videos_dir.unlink()
    put_mark(theirs)
    with pytest.raises(ResourceUnavailable, match="another folder"):
        require_share(theirs, mark)


def test_processors_of_other_abilities_do_not_share_a_document(tmp_path: Path) -> None:
    (old, new) = tmp_path / "old", tmp_path / "new"
    old.write_text("model name\t: A\nflags\t\t: fpu sse2 avx2 fma\n")
    new.write_text("model name\t: B\nflags\t\t: fpu sse2 avx2 fma amx_bf16\n")
    kinds = {Ready("cpu", [], abilities=abilities(path, {})).kind for path in (old, new)}
    assert len(kinds) == 2
    assert abilities(old, {}) != abilities(old, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert Ready("cpu", [], node="a").kind == Ready("cpu", [], node="b").kind


def test_who_asks_for_a_cluster_without_ray_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_ray(Settings.load(home=tmp_path))
    asked = Settings.load(home=tmp_path, executor="cluster")
    with pytest.raises(MachineError, match=r"pip install 'dropframe\[cluster\]'"):
        require_ray(asked)
    assert [(ok, "dropframe[cluster]" in text) for _, ok, text in check_cluster(asked)] == [(False, True)]


@pytest.mark.parametrize(
    ("says", "ok", "text"),
    [
        (["checked"], True, "no machine with cores just now"),
        (["check", "checked"], True, "127.0.0.1:1 answers"),
        ([], False, "Nothing answers"),
    ],
)
def test_the_doctor_tells_a_cluster_without_machines_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: list[str], ok: bool, text: str
) -> None:
    code = (
        "import json, os, sys, time\n"
        "for kind in sys.argv[1:]: print(json.dumps({'kind': kind, 'name': 'a', 'ok': True, 'sentence': 'b'}))\n"
        "sys.stdout.flush(); os.close(1); time.sleep(60)  # as one that takes its time to leave the cluster"
    )

    def start(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, *says]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("daemon.cluster.check.start_driver", start)
    found = list(check_cluster(Settings.load(home=tmp_path, executor="cluster", cluster_address="127.0.0.1:1")))
    assert [name for name, *_ in found] == ["a"] * says.count("check") + ["cluster"]
    assert found[-1][1] is ok
    assert text in found[-1][2]


def test_nothing_of_ray_is_loaded_with_the_daemon_or_doctor() -> None:
    code = "import daemon.service, daemon.preflight, daemon.cluster.pool, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "daemon.cluster.pool" in done.stdout.split()
    assert "ray" not in done.stdout.split()


def test_a_slot_goes_by_what_it_is_told_whatever_its_own_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(home=tmp_path)
    (tmp_path / "dropframe.toml").write_text('weights = "theirs.pt"\n')
    monkeypatch.setenv("DROPFRAME_WEIGHTS", "/theirs.pt")
    assert Settings.told(settings.model_dump(mode="json")) == settings
    with pytest.raises(SettingsError, match="odd is not a setting"):
        Settings.told({"odd": 1})


class PlayedActor:
    """An actor that says what it is told to."""

    def __init__(self) -> None:
        self.placed = threading.Event()
        self.asked: list[Mapping[str, Any]] = []
        self.says: Callable[[], list[dict[str, Any]]] = self.done
        self.killed = False

    def done(self) -> list[dict[str, Any]]:
        said = [{"turn": each["turn"], "kind": "done", "report": {}, "ready": None} for each in self.asked]
        self.asked = []
        return said

    def wait_up(self, should_stop: Callable[[], bool]) -> bool:
        wait_for(lambda: should_stop() or self.placed.is_set(), 10)
        return not should_stop()

    def send(self, request: Mapping[str, Any]) -> None:
        self.asked.append(request)

    def stop(self, turn: int) -> None:
        self.asked.append({"turn": turn})

    def answers(self, seconds: float, silent_seconds: float) -> Mapping[str, Any]:
        return {"answers": self.says(), "memory_bytes": 7}

    def kill(self) -> None:
        self.killed = True


class Bench:
    """A place, its actors, and what it tells."""

    def __init__(self) -> None:
        self.actors: list[PlayedActor] = []
        self.told: list[dict[str, Any]] = []
        self.share = Share(2)
        self.place = Placement(
            3, self._make, lambda: self.share, lambda kind, **said: self.told.append({"kind": kind, **said}), 8
        )
        self.place._idle_seconds = 0.02

    def _make(self, share: Share) -> PlayedActor:
        self.actors.append(PlayedActor())
        return self.actors[-1]

    def start(self, turn: int) -> PlayedActor:
        before = len(self.actors)
        self.place.put({"kind": "start", "turn": turn})
        wait_for(lambda: len(self.actors) > before, 10)
        actor = self.actors[-1]
        actor.placed.set()
        wait_for(lambda: self.answer(turn), 10)
        return actor

    def answer(self, turn: int) -> dict[str, Any] | None:
        return next((said for said in self.told if said.get("turn") == turn), None)


@pytest.mark.expects_error_log
@pytest.mark.parametrize("error", [PipelineDied("gone"), NodeLost("away"), ValueError("odd")])
def test_an_actor_that_is_lost_ends_its_turn_once_and_another_is_placed_for_the_next(error: Exception) -> None:
    bench = Bench()
    bench.place._idle_seconds = 60
    first = bench.start(1)

    def fail() -> list[dict[str, Any]]:
        raise error

    first.says = fail
    bench.place.put({"kind": "part", "turn": 3})
    said = wait_for(lambda: bench.answer(3), 10)
    assert (said["kind"], said["ready"]) == ("error", None)
    assert said["error"] == ("NodeLost" if isinstance(error, NodeLost) else "PipelineDied")
    assert first.killed
    bench.place.put({"kind": "part", "turn": 4})  # the daemon does not know yet
    assert wait_for(lambda: bench.answer(4), 10)["error"] == "NodeLost", "which costs no try"
    assert len(bench.actors) == 1
    assert bench.start(5) is not first
    bench.place.close()


@pytest.mark.parametrize("how", ["raised", "answered"])
def test_a_run_in_one_piece_is_given_back_only_when_who_had_it_has_ended_itself(how: str) -> None:
    bench = Bench()
    bench.place._silent_seconds = 1.0
    bench.place._idle_seconds = 60
    actor, asked = bench.start(1), []

    def fail() -> list[dict[str, Any]]:
        asked.append(time.monotonic())
        if how == "raised":
            raise NodeLost("away")
        return [{"turn": 3, "kind": "error", "error": "NodeLost", "message": "away", "ready": None}]

    actor.says = fail
    bench.place.put({"kind": "run", "turn": 3})
    said = wait_for(lambda: bench.answer(3), 10)
    assert time.monotonic() - asked[-1] > 0.5, "LEASE_PART of silent_seconds"
    assert (said["error"], said["message"], said["ready"]) == ("NodeLost", "away", None)
    assert actor.killed
    bench.place.close()


@pytest.mark.parametrize("error", [PipelineDied("gone"), ValueError("odd")])
def test_an_idle_actor_that_is_lost_is_told_of(error: Exception) -> None:
    bench = Bench()
    actor = bench.start(1)

    def fail() -> list[dict[str, Any]]:
        raise error

    actor.says = fail
    assert wait_for(lambda: next((s for s in bench.told if s["kind"] == "gone"), None), 10) == {
        "kind": "gone",
        "slot": 3,
    }
    assert actor.killed
    assert {"kind": "memory", "slot": 3, "memory_bytes": 7} in bench.told
    assert bench.start(2) is not actor
    bench.place.close()


def test_a_place_whose_actor_cannot_be_reached_is_closed_all_the_same() -> None:
    bench = Bench()
    actor = bench.start(1)

    def fail(turn: int = 0) -> None:
        raise ValueError("The cluster is gone.")

    actor.kill = actor.stop = fail  # type: ignore[method-assign]
    bench.place.stop(1)
    bench.place.close()


def test_a_place_that_waits_for_a_machine_can_be_given_up() -> None:
    bench = Bench()
    bench.place.put({"kind": "start", "turn": 1})
    wait_for(lambda: bench.actors, 10)
    bench.place.close()
    wait_for(lambda: bench.actors[0].killed, 10)
    assert bench.answer(1) is None


def test_what_waits_for_more_than_machines_have_is_placed_anew() -> None:
    bench = Bench()
    bench.place.put({"kind": "start", "turn": 1})
    wait_for(lambda: bench.actors, 10)
    bench.share = Share(1)  # the first machine has come, and has one core
    wait_for(lambda: len(bench.actors) == 2, 10)
    bench.actors[1].placed.set()
    assert wait_for(lambda: bench.answer(1), 10)["kind"] == "done"
    assert [actor.killed for actor in bench.actors] == [True, False]
    bench.place.close()
