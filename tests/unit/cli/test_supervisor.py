"""Processes side by side: started again when they die, ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.supervisor import FINAL, LONGEST_WAIT_SECONDS, STABLE_SECONDS, Supervised


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def started() -> Iterator[list[Supervised]]:
    made: list[Supervised] = []
    yield made
    for process in made:
        process.terminate()
        process.wait(5)


def a_process(started: list[Supervised], code: str) -> Supervised:
    started.append(Supervised("thing", command(code)))
    return started[-1]


def end(process: Supervised, now: float) -> int | None:
    """Step once after the process has ended."""
    assert process._process is not None
    process._process.wait(10)
    return process.step(now)


@pytest.mark.parametrize("code", sorted(FINAL))
def test_an_exit_that_another_start_would_not_change_ends_it(started: list[Supervised], code: int) -> None:
    process = a_process(started, f"raise SystemExit({code})")
    assert process.step(0.0) is None
    assert end(process, 1.0) == code


def test_one_that_dies_is_started_again_after_a_wait_that_doubles(started: list[Supervised]) -> None:
    process = a_process(started, "raise SystemExit(1)")
    now = 100.0
    waits: list[float] = []
    for _ in range(7):
        assert process.step(now) is None
        assert process._process is not None
        assert end(process, now) is None
        assert process._process is None
        waits.append(process._due - now)
        assert process.step(process._due - 0.01) is None
        assert process._process is None, "it was started before it was due"
        now = process._due
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS]


def test_one_that_cannot_be_started_is_tried_again_after_a_wait_that_doubles(
    started: list[Supervised], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program"  # the kernel refuses to run what is not there, as it does when it can't fork
    process = Supervised("thing", [str(program)])
    started.append(process)
    now, waits = 100.0, []
    for _ in range(3):
        assert process.step(now) is None
        waits.append(process._due - now)
        assert process.step(process._due - 0.01) is None
        now = process._due
    assert waits == [1, 2, 4]
    assert "thing could not be started (No such file or directory); restarting in 4 s" in caplog.text
    program.symlink_to("/bin/true")
    assert process.step(now) is None
    assert end(process, now) == 0


def test_one_that_ran_for_long_is_started_again_soon(started: list[Supervised]) -> None:
    process = a_process(started, "raise SystemExit(1)")
    now = 0.0
    for _ in range(4):
        process.step(now)
        end(process, now)
        now = process._due
    process.step(now)
    end(process, now + STABLE_SECONDS + 1)
    assert process._due - (now + STABLE_SECONDS + 1) == 1.0


@pytest.mark.parametrize(("code", "final"), [(0, True), (2, False), (5, False)])
def test_one_that_has_run_well_is_not_given_up_for_a_folder_or_port_that_is_away(
    started: list[Supervised], code: int, final: bool
) -> None:
    process = a_process(started, f"raise SystemExit({code})")
    process.step(0.0)
    assert (end(process, STABLE_SECONDS + 1) == code) is final
    if not final:
        process.step(process._due)
        assert end(process, process._due + 1) is None
        assert process._due > 0


def test_one_that_was_killed_is_started_again(started: list[Supervised]) -> None:
    process = a_process(started, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    process.step(0.0)
    assert end(process, 0.0) is None
    assert process._due == 1.0


def test_one_that_does_not_end_is_killed(started: list[Supervised]) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = a_process(started, code)
    process.step(0.0)
    assert process._process is not None
    child = process._process
    time.sleep(0.3)  # until it ignores the signal
    process.terminate()
    process.wait(0.3)
    assert child.returncode in (-signal.SIGKILL, -signal.SIGTERM)


# Whole.

NOTE_PID = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "


class Whole:
    """A program that supervises two processes."""

    def __init__(self, folder: Path, one: str, two: str) -> None:
        self._files = [folder / "one", folder / "two"]
        commands = {
            path.name: [*command(NOTE_PID + code), str(path)]
            for path, code in zip(self._files, (one, two), strict=True)
        }
        code = (
            "import json, sys; from daemon.cli.supervisor import supervise;sys.exit(supervise(json.loads(sys.argv[1])))"
        )
        self.process = subprocess.Popen([*command(code), json.dumps(commands)], stderr=subprocess.DEVNULL)

    def pids(self, number: int, least: int = 1) -> list[int]:
        path = self._files[number]
        deadline = time.monotonic() + 15
        while not path.exists() or path.read_text().count("\n") < least:
            assert time.monotonic() < deadline, f"{path.name} was not started {least} times"
            time.sleep(0.02)
        return [int(line) for line in path.read_text().split()]

    def all_gone(self, seconds: float = 3.0) -> bool:
        deadline = time.monotonic() + seconds
        while any(alive(pid) for number in (0, 1) for pid in self.pids(number)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both(tmp_path: Path, number: int) -> None:
    whole = Whole(tmp_path, "time.sleep(60)", "time.sleep(60)")
    whole.pids(0), whole.pids(1)
    begun = time.monotonic()
    whole.process.send_signal(number)
    assert whole.process.wait(10) == 0
    assert time.monotonic() - begun < 5
    assert whole.all_gone()


def test_one_that_dies_comes_back_while_the_other_goes_on(tmp_path: Path) -> None:
    whole = Whole(tmp_path, "time.sleep(60)", "time.sleep(60)")
    [one], [two] = whole.pids(0), whole.pids(1)
    os.kill(one, signal.SIGKILL)
    assert len(whole.pids(0, least=2)) == 2
    assert whole.pids(1) == [two]
    assert alive(two)
    whole.process.terminate()
    assert whole.process.wait(10) == 0
    assert whole.all_gone()


def test_one_that_gives_up_ends_the_other_and_its_code_is_passed_on(tmp_path: Path) -> None:
    whole = Whole(tmp_path, "time.sleep(0.5); sys.exit(5)", "time.sleep(60)")
    assert whole.process.wait(10) == 5
    assert whole.all_gone()


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    whole = Whole(tmp_path, "time.sleep(60)", "time.sleep(60)")
    whole.pids(0), whole.pids(1)
    whole.process.kill()
    whole.process.wait()
    assert whole.all_gone()
