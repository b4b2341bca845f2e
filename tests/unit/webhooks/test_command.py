"""A program of the operator's is run for each job that completes, and ended with all that it started."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from daemon.jobs import Job, JobStatus, new_job_id
from daemon.webhooks.command import TRY_AGAIN, CompletedCommand
from daemon.webhooks.delivery import Delivery, DeliveryEnd
from daemon.webhooks.event import Event
from tests.webhook_receiver import wait_until

JOB = Job(new_job_id(), status=JobStatus.COMPLETED, finished_at="2027-01-15T12:00:00.000000+00:00")
RECORD = {"job_id": JOB.job_id, "source_name": "Grüße.mp4", "summary": {"text": "x" * 300_000}}


def run(tmp_path: Path, *command: str, seconds: float = 20.0, record: dict[str, Any] | None = RECORD) -> Delivery:
    return CompletedCommand(command, seconds, tmp_path, lambda job_id: record).deliver(Event.of_job(JOB))


def test_it_reads_the_jobs_record_and_runs_in_the_home(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "cat > told.json") == Delivery(DeliveryEnd.DONE)
    assert json.loads((tmp_path / "told.json").read_text()) == RECORD


def test_it_need_not_read_anything(tmp_path: Path) -> None:
    assert run(tmp_path, "true") == Delivery(DeliveryEnd.DONE)


def test_it_is_no_line_of_a_shell(tmp_path: Path) -> None:
    assert run(tmp_path, "touch", "a; touch b", "$(touch c)") == Delivery(DeliveryEnd.DONE)
    assert sorted(os.listdir(tmp_path)) == ["$(touch c)", "a; touch b"]


def test_its_failure_is_told_with_the_end_of_what_it_said_and_not_repeated(tmp_path: Path) -> None:
    count = "i=0; while [ $i != 10000 ]; do echo $((i += 1)); done >&2"
    delivery = run(tmp_path, "sh", "-c", f"{count}; echo 'the NAS is\n away' >&2; exit 3")
    assert delivery.end is DeliveryEnd.FINAL
    assert delivery.problem.startswith("sh ended with code 3: ")
    assert delivery.problem.endswith("10000 the NAS is away")
    assert len(delivery.problem) < 600
    assert run(tmp_path, "sh", "-c", "kill -9 $$") == Delivery(DeliveryEnd.FINAL, "sh was ended by SIGKILL.")


def test_it_can_ask_to_be_run_again_later(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", f"exit {TRY_AGAIN}") == Delivery(DeliveryEnd.AGAIN, "sh ended with code 75.")


def test_a_program_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path, str(tmp_path / "none")) == Delivery(
        DeliveryEnd.AGAIN, f"{tmp_path}/none cannot be run: No such file or directory."
    )
    (tmp_path / "plain").write_text("x")
    assert "Permission denied" in run(tmp_path, str(tmp_path / "plain")).problem


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


STARTS_ANOTHER = "sleep 300 & echo $! > other; trap '' TERM; sleep 300"


def test_it_is_ended_after_its_time_with_all_that_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    delivery = run(tmp_path, "sh", "-c", STARTS_ANOTHER, seconds=0.3)
    assert time.monotonic() - begun < 10
    assert delivery == Delivery(DeliveryEnd.FINAL, "sh took longer than 0.3 s (on_completed_seconds) and was ended.")
    other = int((tmp_path / "other").read_text())
    wait_until(lambda: not alive(other))


def test_what_it_leaves_running_is_ended(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "sleep 300 & echo $! > other").end is DeliveryEnd.DONE
    other = int((tmp_path / "other").read_text())
    wait_until(lambda: not alive(other))


def test_it_is_ended_when_dropframe_ends_and_then_run_again(tmp_path: Path) -> None:
    command = CompletedCommand(["sh", "-c", STARTS_ANOTHER], 60.0, tmp_path, lambda job_id: RECORD)
    found: list[Delivery] = []
    thread = threading.Thread(target=lambda: found.append(command.deliver(Event.of_job(JOB))))
    thread.start()
    wait_until(lambda: (tmp_path / "other").exists() and (tmp_path / "other").read_text())
    command.abort()
    thread.join(10)
    assert found == [Delivery(DeliveryEnd.AGAIN, "Dropframe is stopping.")]
    other = int((tmp_path / "other").read_text())
    wait_until(lambda: not alive(other))


def test_one_that_says_no_end_of_things_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.webhooks.command.MOST_ERROR_BYTES", 100_000)
    assert "wrote more than 100000 bytes" in run(tmp_path, "sh", "-c", "while :; do echo y; done >&2").problem


def test_a_job_that_was_deleted_meanwhile_is_nobodys_business(tmp_path: Path) -> None:
    assert run(tmp_path, "touch", "ran", record=None) == Delivery(DeliveryEnd.DONE)
    assert os.listdir(tmp_path) == []


def test_it_leads_a_process_group_of_its_own(tmp_path: Path) -> None:
    show = "import os; open('group', 'w').write(f'{os.getpgrp()} {os.getpid()} {os.getsid(0)}')"
    assert run(tmp_path, sys.executable, "-c", show).end is DeliveryEnd.DONE
    group, pid, session = (tmp_path / "group").read_text().split()
    assert group == pid == session
    assert int(group) != os.getpgrp()


def test_its_arguments_are_not_shown(tmp_path: Path) -> None:
    delivery = run(tmp_path, "sh", "-c", "exit 1", "--password=hunter2")
    assert "hunter2" not in delivery.problem


@pytest.mark.parametrize("code", [1, 2, 74, 76, 255])
def test_any_other_code_is_final(tmp_path: Path, code: int) -> None:
    assert run(tmp_path, "sh", "-c", f"exit {code}").end is DeliveryEnd.FINAL
