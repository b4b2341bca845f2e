"""The commands about those who are told of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner, Result

from daemon.cli.main import app, exit_code
from daemon.errors import DropframeError, IllegalMove, SettingsError, UnknownJob
from daemon.ipc import health
from daemon.ipc.health import Heartbeat
from daemon.ipc.receivers import ReceiverBeat
from daemon.jobs import Job, new_job_id
from daemon.store.job_store import JobStore
from daemon.webhook_settings import secret_bytes
from daemon.webhooks.resend import ResendRequest, asked_for
from tests.webhook_receiver import SECRET, EventReceiver, ended_job, receiving


@pytest.fixture
def receiver() -> Iterator[EventReceiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, receiver: EventReceiver) -> Path:
    (tmp_path / "dropframe.toml").write_text(
        f'on_completed = ["sync"]\n[[webhooks]]\nurl = "{receiver.url}"\nsecret = "{SECRET}"\nallow_private = true\n'
    )
    return tmp_path


def webhooks(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["webhooks", *arguments, "--home", str(home)])


def error_of(result: Result, kind: type[DropframeError]) -> str:
    assert isinstance(result.exception, kind)
    return str(result.exception)


def beat(home: Path, **values: Any) -> None:
    now = datetime.now(UTC).isoformat()
    (home / "data").mkdir(exist_ok=True)
    health.write(home / "data", Heartbeat(now, "running", 1, **values))


def test_a_test_event_is_sent_signed_and_its_answer_said(home: Path, receiver: EventReceiver) -> None:
    done = webhooks(home, "test")
    assert (done.exit_code, "ok" in done.output) == (0, True)
    [sent] = receiver.sent
    assert Webhook(SECRET).verify(sent.body, dict(sent.headers))["type"] == "webhook.test"
    assert sent.headers["ce-source"].startswith("urn:dropframe:")
    receiver.answer = lambda sent: (500, {})
    failed = webhooks(home, "test", "--json")
    assert failed.exit_code == 1
    key = receiver.settings().key
    name = f"http://127.0.0.1:{receiver.port}/…"
    assert json.loads(failed.output) == [{"key": key, "name": name, "ok": False, "problem": "It answered 500."}]


def test_one_endpoint_can_be_tested(home: Path, receiver: EventReceiver) -> None:
    assert webhooks(home, "test", "--to", receiver.settings().key).exit_code == 0
    assert "No endpoint has the key 'other'" in error_of(webhooks(home, "test", "--to", "other"), SettingsError)
    assert len(receiver.sent) == 1


def test_the_list_says_how_it_goes_with_each(home: Path, receiver: EventReceiver) -> None:
    key = receiver.settings().key
    since = "2027-01-15T12:00:00.000000+00:00"
    beat(home, receivers=(ReceiverBeat(key, "x", 3, since, 2, "2027-01-16T12:00:00+00:00", "It answered 410."),))
    said = " ".join(webhooks(home, "list").output.split())
    assert "3 events wait, the oldest since 2027-01-15 12:00:00 UTC. 2 were given up." in said
    assert "switched off since 2027-01-16" in said
    assert "It answered 410." in said
    assert "on_completed sync job.completed 0 events wait." in said
    listed = json.loads(webhooks(home, "list", "--json").output)
    assert [(each["key"], each["waiting"]) for each in listed] == [(key, 3), ("on_completed", 0)]
    assert listed[0]["events"] == ["job.completed", "job.failed", "job.rejected"]


def test_without_anybody_to_be_told_the_list_says_so(tmp_path: Path) -> None:
    (tmp_path / "dropframe.toml").write_text("")
    assert "Nobody is told of events" in webhooks(tmp_path, "list").output
    assert "has no [[webhooks]]" in error_of(webhooks(tmp_path, "test"), SettingsError)
    assert "There is no receiver" in error_of(webhooks(tmp_path, "resend", "--undelivered"), SettingsError)


def test_events_are_asked_for_again_in_the_spool(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        job = ended_job(store, name="match.mp4")
        [waits] = store.create([Job(new_job_id(), source_name="waits.mp4")])
    assert webhooks(home, "resend", "match.mp4").exit_code == 0
    assert webhooks(home, "resend", "--undelivered", "--to", "on_completed").exit_code == 0
    spool = home / "data" / "spool"
    assert asked_for(spool) == [ResendRequest(job.job_id), ResendRequest("undelivered", "on_completed")]
    assert waits.job_id in error_of(webhooks(home, "resend", "waits.mp4"), IllegalMove)
    assert error_of(webhooks(home, "resend", "none.mp4"), UnknownJob)
    assert "There is no receiver 'x'" in error_of(webhooks(home, "resend", "match.mp4", "--to", "x"), SettingsError)
    both = webhooks(home, "resend", "match.mp4", "--undelivered")
    assert exit_code(SettingsError("")) == 2
    assert "Name at least one job" in error_of(both, SettingsError)
    assert len(asked_for(spool)) == 2


def test_a_secret_is_made_that_the_settings_take() -> None:
    made = [CliRunner().invoke(app, ["webhooks", "secret"]).output.strip() for _ in range(2)]
    assert made[0] != made[1]
    assert len(secret_bytes(made[0])) == 32
    assert Webhook(made[0])
