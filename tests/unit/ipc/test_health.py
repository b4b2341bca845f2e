"""The heartbeat, what the daemon says of itself; and the verdict on it, which is the same at every door."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from daemon import preflight
from daemon.cli import main as cli
from daemon.fs.space import DiskGuard
from daemon.ipc import health
from daemon.ipc.health import NAME, Heartbeat, InboxBeat, OutboxBeat, Part, RunningBeat, WaitingBeat
from daemon.ipc.receivers import ReceiverBeat
from daemon.jobs import timestamp, utc_now
from daemon.preflight import Check
from daemon.settings import Settings
from sidecar.app import make_app

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
BEAT = Heartbeat(
    updated_at="2026-11-21T09:00:10.000000+00:00",
    state="running",
    pid=7,
    version="0.1.0",
    started_at="2026-11-21T09:00:00.000000+00:00",
    device="cpu",
    models=({"name": "m"},),
    inbox=InboxBeat(
        mode="events",
        file_system="ext4",
        online=True,
        last_good_scan_age_s=5.0,
        canary_age_s=1.5,
        waiting_count=1,
        waiting=(WaitingBeat("ü.mp4", 3, 1.0, "It grows."),),
        overflows=2,
        problem=None,
    ),
    outbox=OutboxBeat(online=True),
    paused=None,
    queue_length=3,
    running=RunningBeat("a", 1, None, 2.5),
    free_bytes=10,
    min_free_bytes=5,
    counters={"frames": 2},
    stage_seconds_total={"text": 0.5},
)
WRITTEN_BEFORE = """{"pid": 7, "version": "0.1.0", "started_at": "2026-11-21T09:00:00.000000+00:00",
"updated_at": "2026-11-21T09:00:10.000000+00:00", "state": "running", "device": "cpu", "models": [{"name": "m"}],
"inbox": {"mode": "events", "file_system": "ext4", "online": true, "last_good_scan_age_s": 5.0, "canary_age_s": 1.5,
"waiting_count": 1, "waiting": [{"name": "ü.mp4", "size_bytes": 3, "age_s": 1.0, "why": "It grows."}], "overflows": 2,
"problem": null}, "paused": null, "queue_length": 3, "oldest_wait_s": 1.5, "running": {"job_id": "a",
"frames_processed": 1, "frames_total": null, "frames_per_second": 2.5}, "free_bytes": 10, "min_free_bytes": 5,
"counters": {"frames": 2}, "stage_seconds_total": {"text": 0.5}}"""


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


def test_the_heartbeat_of_the_version_before_is_read_and_says_nothing_of_the_outbox(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(WRITTEN_BEFORE)
    assert health.read(tmp_path) == replace(BEAT, outbox=OutboxBeat())


def test_what_an_earlier_version_reads_is_still_there(tmp_path: Path) -> None:
    health.write(tmp_path, BEAT)
    gone = {"oldest_wait_s"}
    since = {"inbox_store", "outbox", "receivers", "result_store", "weights_note", "weights_percent"}
    since |= {"running_besides", "slots"}
    before, now = json.loads(WRITTEN_BEFORE), json.loads((tmp_path / NAME).read_text())
    assert {name: value for name, value in before.items() if name not in gone} == {
        name: value for name, value in now.items() if name not in since
    }


WRONG: tuple[dict[str, object], ...] = (
    {"updated_at": "yesterday"},
    {"updated_at": "2026-11-21T09:00:10"},
    {"inbox": 5},
    {"running": {}},
)
NOT_HEARTBEATS = [
    *("", "{", "[]", "null", "{}", '{"pid": 1}', "\0\0", "\xff"),
    *(
        json.dumps({"pid": 1, "state": "running", "updated_at": "2026-11-21T09:00:10+00:00", **wrong})
        for wrong in WRONG
    ),
]


@pytest.mark.parametrize("content", NOT_HEARTBEATS)
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
    assert BEAT.age_seconds(written + timedelta(seconds=3)) == 3.0
    assert BEAT.age_seconds(written - timedelta(hours=1)) == 0.0


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        health.write(tmp_path / "missing", BEAT)


def judge(beat: Heartbeat | None, home: Path, seconds: float = 1.0) -> str:
    """What is not well that long after the heartbeat; nothing if all is."""
    now = datetime.fromisoformat(BEAT.updated_at) + timedelta(seconds=seconds)
    parts = health.judge(beat, Settings(home=home, min_free_bytes=0), now, disk=DiskGuard(home, 0))
    return health.explain(parts, beat, now)


def with_inbox(**changes: Any) -> Heartbeat:
    return replace(BEAT, inbox=replace(BEAT.inbox, **changes))


@pytest.mark.parametrize(
    ("beat", "after_seconds", "said"),
    [
        (None, 1, "The daemon has never run here; start it with: dropframe daemon."),
        (BEAT, 60, "The daemon's last heartbeat is 60 s old; start it with: dropframe daemon."),
        (replace(BEAT, state="starting"), 1, "The daemon is starting."),
        (with_inbox(online=False), 1, "The inbox cannot be reached; mount it again or check its folder."),
        (with_inbox(online=None), 1, "The inbox has not been scanned yet."),
        (with_inbox(last_good_scan_age_s=None), 1, "The inbox has not been scanned yet."),
        (with_inbox(last_good_scan_age_s=191.0), 1, "The last good scan of the inbox is 192 s old (events)."),
        (replace(BEAT, outbox=OutboxBeat()), 1, "The outbox has not been looked at yet."),
    ],
)
def test_a_daemon_that_does_not_do_its_work_says_why(
    beat: Heartbeat | None, after_seconds: float, said: str, tmp_path: Path
) -> None:
    assert judge(beat, tmp_path, after_seconds) == said


def test_a_daemon_that_does_its_work_has_no_problem(tmp_path: Path) -> None:
    assert judge(BEAT, tmp_path) == ""


@pytest.mark.parametrize(
    "beat",
    [
        replace(BEAT, paused="No room in /srv."),
        with_inbox(problem="No room in /srv."),
        replace(BEAT, outbox=OutboxBeat(False, "No room in /srv.")),
    ],
)
def test_the_daemons_own_words_are_in_the_explanation_and_in_no_part(beat: Heartbeat, tmp_path: Path) -> None:
    parts = health.judge(beat, Settings(home=tmp_path), datetime.fromisoformat(BEAT.updated_at))
    assert "/srv" not in " ".join(part.detail for part in parts.values())
    assert judge(beat, tmp_path).endswith("No room in /srv.")
    assert "/srv" not in judge(beat, tmp_path, seconds=60), "a daemon that is gone says nothing any more"


def test_the_explanation_does_not_point_to_itself(tmp_path: Path) -> None:
    said = judge(replace(BEAT, paused="No room in /srv."), tmp_path)
    assert said == "The daemon has paused intake and running jobs. No room in /srv."


def test_a_store_that_cannot_be_read_is_a_part_that_is_not_well(tmp_path: Path) -> None:
    parts = health.judge(BEAT, Settings(home=tmp_path), datetime.now(UTC), store_problem="It is damaged.")
    assert parts["store"] == Part(False, "It is damaged.")


# The same verdict at every door.

WELL: dict[str, Any] = {
    "state": "running",
    "age": 0.0,
    "online": True,
    "problem": None,
    "scan_age": 5.0,
    "published": True,
    "paused": None,
    "room": True,
}
"""Dropframe works: the daemon's state, the heartbeat's age in seconds, whether the inbox is online, its problem, the
age of its last good scan, whether the outbox is online, why the daemon has paused, and whether the disk has room."""
FAULTS: list[tuple[str, Any]] = [
    *(("state", "starting"), ("state", "stopping"), ("age", 60.0), ("online", False), ("online", None)),
    *(("problem", "It is polled."), ("scan_age", None), ("scan_age", 999.0), ("published", False), ("published", None)),
    *(("paused", "Paused."), ("room", False)),
]
CASES = [WELL, *({**WELL, **dict(faults)} for faults in combinations_with_replacement(FAULTS, 2))]
"""Every fault alone and every two together."""


def written(case: dict[str, Any]) -> str:
    """The heartbeat's file; what is None of online and published is not in it."""
    inbox = {
        "mode": "events",
        "last_good_scan_age_s": case["scan_age"],
        "problem": case["problem"],
        "online": case["online"],
    }
    beat = {
        "pid": 7,
        "version": "",
        "started_at": utc_now(),
        "device": None,
        "models": [],
        "queue_length": 0,
        "oldest_wait_s": None,
        "running": None,
        "free_bytes": 0,
        "min_free_bytes": 0,
        "counters": {},
        "updated_at": (datetime.now(UTC) - timedelta(seconds=case["age"])).isoformat(),
        "state": case["state"],
        "inbox": {name: value for name, value in inbox.items() if (name, value) != ("online", None)},
        "outbox": {} if case["published"] is None else {"online": case["published"]},
        "paused": case["paused"],
        "stage_seconds_total": {},
    }
    return json.dumps(beat)


def readiness(home: Path) -> bool:
    """What ``/readyz`` says."""

    async def ask() -> bool:
        app = make_app(Settings.load(home=home))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client,
        ):
            while True:
                answer = await client.get("/readyz")
                if answer.json()["parts"]["store"]["ok"]:  # it has looked
                    return answer.status_code == 200
                await asyncio.sleep(0.001)

    return asyncio.run(ask())


def test_health_doctor_and_readyz_agree_in_every_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for slow in ("check_limits", "check_libraries", "check_models"):  # and not about the daemon
        monkeypatch.setattr(preflight, slow, lambda *_: iter(()))
    monkeypatch.setattr(preflight, "check_tesseract", lambda: Check("tesseract", True, ""))

    def exits_with_0(command: str) -> bool:
        return CliRunner().invoke(cli.app, [command, "--home", str(tmp_path)]).exit_code == 0

    wrong = []
    for case in CASES:
        monkeypatch.setenv("DROPFRAME_MIN_FREE_BYTES", "0" if case["room"] else str(10**18))
        (tmp_path / "data" / NAME).write_text(written(case))
        said = readiness(tmp_path), exits_with_0("health"), exits_with_0("doctor")
        well = case == WELL
        # A daemon that was stopped is nothing that a person has to mend; all else that is not well is.
        if said != (well, well, well or (case["state"] == "stopping" and case["room"])):
            wrong.append((case, said))
    assert wrong == []


def test_on_a_disk_without_a_byte_free_it_is_the_disk_that_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    old = replace(BEAT, updated_at=(now - timedelta(seconds=90)).isoformat())
    for free, to_blame in ((0, True), (4096, True), (10_000_000, False)):
        monkeypatch.setattr("daemon.fs.space.free_bytes", lambda _, free=free: free)
        part = health.judge(old, Settings(home=tmp_path), now)["daemon"]
        assert not part.ok
        assert ("the disk is too full to write another" in part.detail) == to_blame
        assert ("start it with" in part.detail) != to_blame
    monkeypatch.setattr("daemon.fs.space.free_bytes", lambda _: 0)
    ended = health.judge(replace(old, state="stopping"), Settings(home=tmp_path), now)["daemon"]
    assert "start it with" in ended.detail


ILL = ReceiverBeat(
    "3f9a2c71", "https://example.org/…", 5, timestamp(NOW - timedelta(hours=2)), problem="It answered 500."
)


@pytest.mark.parametrize(
    ("receiver", "well"),
    [
        (ILL, False),
        (replace(ILL, problem=None), True),
        (replace(ILL, oldest=timestamp(NOW - timedelta(minutes=50))), True),
        (replace(ILL, waiting=0, oldest=None), True),
        (replace(ILL, waiting=0, oldest=None, given_up=1), False),
        (replace(ILL, problem=None, given_up=1), True),
        (ReceiverBeat("3f9a2c71", "https://example.org/…", off_since=timestamp(NOW)), False),
    ],
)
def test_a_receiver_that_cannot_be_told_is_shown_and_keeps_dropframe_from_nothing(
    receiver: ReceiverBeat, well: bool, tmp_path: Path
) -> None:
    beat = replace(BEAT, updated_at=timestamp(NOW), receivers=(receiver, ReceiverBeat("other", "sync")))
    without = health.judge(replace(beat, receivers=()), Settings(home=tmp_path), NOW)
    parts = health.judge(beat, Settings(home=tmp_path), NOW)
    assert "webhooks" not in without
    assert parts["webhooks"].ok is well
    assert ("1 of 2 receivers" in parts["webhooks"].detail) is not well
    assert "example.org" not in parts["webhooks"].detail
    assert health.works(parts) is health.works(without)


@pytest.mark.parametrize("store", health.STORES)
def test_a_bucket_that_cannot_be_used_is_shown_and_keeps_dropframe_from_nothing(store: str, tmp_path: Path) -> None:
    beat = replace(BEAT, updated_at=timestamp(NOW))
    without = health.judge(beat, Settings(home=tmp_path), NOW)
    away = replace(beat, **{store: health.StoreBeat("s3://footage answers 503.")})
    parts = health.judge(away, Settings(home=tmp_path, **{store: "s3://footage"}), NOW)
    assert not parts[store].ok
    assert health.works(parts) is health.works(without)
    assert "s3://footage answers 503." in health.explain(parts, away, NOW)


def test_health_says_why_a_bucket_cannot_be_used_and_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFRAME_MIN_FREE_BYTES", "0")
    monkeypatch.setenv("DROPFRAME_RESULT_STORE", "s3://footage")
    (tmp_path / "data").mkdir()
    away = health.StoreBeat("s3://footage answers 503.")
    health.write(tmp_path / "data", replace(health.parse(written(WELL)), result_store=away))
    said = CliRunner().invoke(cli.app, ["health", "--home", str(tmp_path)])
    assert said.exit_code == 0
    assert said.output.startswith("Dropframe works. result_store cannot be used as it should")
    assert said.output.count("s3://footage answers 503.") == 1


def test_health_shows_such_a_receiver_and_succeeds_and_doctor_has_it_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DROPFRAME_MIN_FREE_BYTES", "0")
    (tmp_path / "data").mkdir()
    ill = replace(ILL, oldest=timestamp(datetime.now(UTC) - timedelta(hours=2)))
    health.write(tmp_path / "data", replace(health.parse(written(WELL)), receivers=(ill,)))
    sentence = "Events cannot be told to 1 of 1 receivers; dropframe webhooks list says why."
    said = CliRunner().invoke(cli.app, ["health", "--home", str(tmp_path)])
    assert (said.exit_code, said.output.strip()) == (0, f"Dropframe works. {sentence}")
    assert readiness(tmp_path)
    assert preflight.check_daemon(Settings(home=tmp_path)) == Check("daemon", False, sentence)
