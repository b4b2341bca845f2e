"""The heartbeat: what the daemon says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.ipc import health
from daemon.ipc.health import NAME, Heartbeat
from daemon.settings import Settings

BEAT = Heartbeat(
    pid=7,
    version="0.1.0",
    started_at="2026-11-21T09:00:00.000000+00:00",
    updated_at="2026-11-21T09:00:10.000000+00:00",
    state="running",
    device="cpu",
    models=[{"name": "m"}],
    inbox={"mode": "events", "waiting": [{"name": "ü.mp4"}]},
    paused=None,
    queue_length=3,
    oldest_wait_s=1.5,
    running={"job_id": "a"},
    free_bytes=10,
    min_free_bytes=5,
    counters={"frames": 2},
    stage_seconds_total={"text": 0.5},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    health.write(tmp_path, BEAT)
    assert health.read(tmp_path) == BEAT


def test_writing_again_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    health.write(tmp_path, BEAT)
    health.write(tmp_path, replace(BEAT, state="stopping"))
    later = health.read(tmp_path)
    assert later is not None
    assert later.state == "stopping"
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"pid": 1}', "\0\0"])
def test_a_file_that_is_no_heartbeat_reads_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    assert health.read(tmp_path) is None


def test_no_file_reads_as_none(tmp_path: Path) -> None:
    assert health.read(tmp_path) is None
    assert health.read(tmp_path / "missing") is None


def test_a_later_version_may_say_more(tmp_path: Path) -> None:
    health.write(tmp_path, BEAT)
    values = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**values, "mood": "good"}))
    assert health.read(tmp_path) == BEAT


def test_its_age_is_never_negative() -> None:
    written = datetime(2026, 11, 21, 9, 0, 10, tzinfo=UTC)
    assert health.age_seconds(BEAT, written + timedelta(seconds=3)) == 3.0
    assert health.age_seconds(BEAT, written - timedelta(hours=1)) == 0.0


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        health.write(tmp_path / "missing", BEAT)


NOW = datetime.fromisoformat(BEAT.updated_at) + timedelta(seconds=1)
SCANNED = {"online": True, "last_good_scan_age_s": 5.0}


@pytest.mark.parametrize(
    ("beat", "after_seconds", "said"),
    [
        (None, 1, "has never run here"),
        (replace(BEAT, inbox=SCANNED), 60, "last sign of life is 60 s old"),
        (replace(BEAT, state="starting"), 1, "is starting"),
        (replace(BEAT, inbox={"online": False, "last_good_scan_age_s": 5.0}), 1, "cannot be reached"),
        (replace(BEAT, inbox={"online": True, "last_good_scan_age_s": None}), 1, "not been scanned"),
        (replace(BEAT, inbox={"online": True, "last_good_scan_age_s": 191.0}), 1, "not been scanned"),
        (replace(BEAT, inbox=SCANNED, paused="The disk is too full."), 1, "The disk is too full."),
    ],
)
def test_a_daemon_that_does_not_do_its_work_says_why(
    beat: Heartbeat | None, after_seconds: float, said: str, tmp_path: Path
) -> None:
    now = datetime.fromisoformat(BEAT.updated_at) + timedelta(seconds=after_seconds)
    assert said in str(health.problem(beat, Settings(home=tmp_path), now))


def test_a_daemon_that_scans_has_no_problem(tmp_path: Path) -> None:
    assert health.problem(replace(BEAT, inbox=SCANNED), Settings(home=tmp_path), NOW) is None
