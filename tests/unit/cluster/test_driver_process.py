"""The daemon's end of a cluster's driver, which is played by a small program."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.cluster import driver_process
from daemon.cluster.driver_process import DriverProcess
from daemon.cluster.pool import ClusterPool
from daemon.cluster.remote import RemoteProcess
from daemon.errors import Interrupted, NodeLost, ResourceUnavailable
from daemon.settings import Settings
from tests.system.running import wait_for

PLAYED = """
import json, os, sys, time
ready = {"device": "cpu", "models": [], "gpu": None, "gpus": 0, "node": "n1", "abilities": "x"}
def say(kind, **more): print(json.dumps({"kind": kind, **more}), flush=True)
if os.path.exists(sys.argv[1] + "/away"):
    say("refused", message="Nobody answers.")
    sys.exit()
say("capacity", slots=int(open(sys.argv[1] + "/room").read()))
for line in sys.stdin:
    asked = json.loads(line)
    with open(sys.argv[1] + "/asked", "a") as file:
        file.write(asked["kind"] + "\\n")
    same = {name: asked[name] for name in ("slot", "turn") if name in asked}
    if asked["kind"] == "start" and os.path.exists(sys.argv[1] + "/slow-%d" % asked["slot"]):
        pass
    elif asked["kind"] == "start" and os.path.exists(sys.argv[1] + "/bad-%d" % asked["slot"]):
        error = open(sys.argv[1] + "/bad-%d" % asked["slot"]).read()
        say("error", error=error, message="Its machine is a bad one.", ready=None, **same)
    elif asked["kind"] == "start" and os.path.exists(sys.argv[1] + "/later"):
        say("done", report={}, ready={**ready, "colour": "green"}, **same)
    elif asked["kind"] == "start":
        say("done", report={}, ready=ready, **same)
    elif asked["kind"] == "plan" and asked["plan_path"] == "end":
        os._exit(3)
    elif asked["kind"] == "plan" and asked["plan_path"] == "lost":
        say("error", error="NodeLost", message="The machine is gone.", ready=None, **same)
    elif asked["kind"] == "plan" and asked["plan_path"] == "yes":
        say("done", report={"planned": True}, ready=ready, **same)
    elif asked["kind"] == "stop":
        say("error", error="Interrupted", message="stopped", ready=ready, **same)
"""


class Request:
    """Stands for a run."""

    @staticmethod
    def to_record() -> dict[str, Any]:
        return {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "room").write_text("2")

    def start(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PLAYED, str(tmp_path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    monkeypatch.setattr(driver_process, "start_driver", start)
    monkeypatch.setattr(driver_process, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(driver_process, "LEASE_PART", 0.01)
    return tmp_path


@pytest.fixture
def driver(home: Path) -> Iterator[DriverProcess]:
    driver = DriverProcess(Settings.load(home=home))
    driver.start()
    wait_for(lambda: driver.slots is not None, 20)
    yield driver
    driver.close()


def plan(process: RemoteProcess, what: str, **more: Any) -> bool:
    return process.plan(Request(), Path(what), **more)  # type: ignore[arg-type]


def test_a_slot_is_up_until_its_driver_ends_and_then_with_the_next(driver: DriverProcess) -> None:
    process = RemoteProcess(driver, 0)
    with pytest.raises(NodeLost):
        plan(process, "yes")
    assert process.start().node == "n1"
    assert plan(process, "yes")
    with pytest.raises(ResourceUnavailable, match="goes on when it is back"):
        plan(process, "end")
    assert not process.is_up
    wait_for(lambda: driver.slots is not None, 20)
    process._due = 0
    process.start()
    assert plan(process, "yes")


def test_what_another_version_says_of_its_models_is_not_taken_for_a_slot(driver: DriverProcess, home: Path) -> None:
    (home / "later").touch()
    process = RemoteProcess(driver, 0)
    with pytest.raises(ResourceUnavailable):
        process.start()
    (home / "later").unlink()
    process._due = 0
    assert process.start().node == "n1", "the driver lives"


def test_a_slot_whose_machine_is_gone_is_given_back(driver: DriverProcess, home: Path) -> None:
    process = RemoteProcess(driver, 0)
    process.start()
    with pytest.raises(NodeLost, match="The machine is gone"):
        plan(process, "lost")
    assert not process.is_up
    wait_for(lambda: "close" in (home / "asked").read_text(), 10)


def test_a_slot_that_is_given_up_just_as_it_gets_work_hands_it_back(driver: DriverProcess) -> None:
    process = RemoteProcess(driver, 0)
    process.start()
    given_up = threading.Timer(0.3, process.close)
    given_up.start()
    with pytest.raises(NodeLost, match="has ended"):
        plan(process, "never")
    given_up.join()


def test_a_turn_is_asked_to_stop_and_its_slot_stays_up(driver: DriverProcess) -> None:
    process, stop = RemoteProcess(driver, 0), threading.Event()
    process.start()
    stop.set()
    with pytest.raises(Interrupted):
        plan(process, "never", should_stop=stop.is_set)
    assert process.is_up


@pytest.mark.expects_error_log
def test_a_driver_that_is_silent_is_ended_and_another_started(driver: DriverProcess) -> None:
    child = driver._child
    driver._heard -= 1000
    driver.check()
    wait_for(lambda: driver.slots is not None and driver._child not in (None, child), 20)


def test_slots_come_and_go_with_the_machines_and_one_always_waits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.cluster.pool.RESIZE_SECONDS", 0.05)
    pool = ClusterPool(Settings.load(home=home, executor="cluster"))
    try:
        assert pool.start().node == "n1"
        wait_for(lambda: [slot.node for slot in pool.slots()] == ["n1", "n1"], 20)
        assert pool._driver is not None
        pool._driver.slots = 3
        wait_for(lambda: [slot.node for slot in pool.slots()] == ["n1"] * 3, 20)
        pool._driver._up.pop(1)
        pool._driver.slots = 2
        wait_for(lambda: [slot.number for slot in pool.slots()] in ([0, 2], [0, 1]), 20)
    finally:
        pool.close()


@pytest.mark.parametrize("error", ["MachineError", "ModelError"])
def test_one_bad_machine_keeps_no_other_from_work_and_never_ends_the_daemon(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr("daemon.cluster.pool.RESIZE_SECONDS", 0.05)
    (home / "bad-0").write_text(error)
    pool = ClusterPool(Settings.load(home=home, executor="cluster"))
    try:
        with pytest.raises(ResourceUnavailable, match="a bad one"):
            pool.start()
        wait_for(lambda: [slot.node for slot in pool.slots()] == [None, "n1"], 20)
        wait_for(pool.has_room, 20)
    finally:
        pool.close()


@pytest.mark.parametrize(("room", "seconds"), [("0", 600), ("1", 0.1)])
def test_nobody_waits_for_the_first_machine(home: Path, room: str, seconds: float) -> None:
    (home / "room").write_text(room)
    (home / "slow-0").touch()
    pool = ClusterPool(Settings.load(home=home, executor="cluster", start_seconds=seconds))
    try:
        with pytest.raises(ResourceUnavailable, match="jobs wait for one"):
            pool.start()
        assert not pool.has_room()
    finally:
        pool.close()


def test_a_cluster_that_is_away_is_waited_for(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "away").touch()
    pool = ClusterPool(Settings.load(home=home, executor="cluster"))
    try:
        with pytest.raises(ResourceUnavailable):
            pool.start()
        assert not pool.has_room()
        assert "Nobody answers." in caplog.text
        (home / "away").unlink()
        wait_for(lambda: pool.ready, 20)
        wait_for(pool.has_room, 20)
    finally:
        pool.close()
