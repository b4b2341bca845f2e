"""Webhooks and the command with a real daemon and a real video, over a kill while the receiver hangs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from daemon.ipc import health
from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.sidecar_process import running_sidecar
from tests.system.running import Daemon, as_json, dropframe, wait_for
from tests.webhook_receiver import SECRET, EventReceiver, Sent, receiving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def configure(home: Path, receiver: EventReceiver) -> None:
    (home / "dropframe.toml").write_text(
        f"""on_completed = ["sh", "-c", "cat > record.new && mv record.new record.json"]
[[webhooks]]
url = "http://127.0.0.1:{receiver.port}/T0K3N?key=hidden"
secret = "{SECRET}"
allow_private = true
"""
    )


def told(receiver: EventReceiver) -> dict[str, Sent]:
    return {str(Webhook(SECRET).verify(sent.body, dict(sent.headers))["type"]): sent for sent in receiver.sent}


def test_what_happens_is_told_though_the_receiver_hung_and_the_daemon_was_killed(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(sent: Sent) -> tuple[int, dict[str, str]]:
        release.wait(60)
        return 204, {}

    with receiving() as receiver:
        receiver.answer = hang
        configure(tmp_path, receiver)
        daemon = Daemon(tmp_path, DROPFRAME_DEFAULT_PIPELINE="ocr_only", DROPFRAME_INCOMPLETE_TIMEOUT_SECONDS="1")
        clip = make_clip(tmp_path / "clip.mp4", frames=10, text="GATE B12")
        text = tmp_path / "text"
        text.write_text("This is a text.\n" * 100)
        try:
            daemon.start()
            daemon.wait_ready()
            daemon.drop(clip, "match.mp4")
            job = daemon.wait_job("match.mp4", JobStatus.COMPLETED)
            wait_for((tmp_path / "record.json").exists, 30, "the command has not run")
            record = json.loads((tmp_path / "record.json").read_text())
            assert (record["job_id"], record["status"]) == (job.job_id, "completed")
            assert json.loads(Path(record["outbox_path"]).read_text()) == json.loads(
                Path(record["result_path"]).read_text()
            )
            daemon.drop(text, "text.mp4")
            wait_for(lambda: _beat(tmp_path).receivers[0].waiting == 2, 60, "two events do not wait")
            daemon.kill()
            release.set()
            daemon.start()
            wait_for(lambda: {"job.completed", "job.rejected"} <= set(told(receiver)), 60, "it was not told")
            told_of = told(receiver)
            assert told_of["job.completed"].told["data"]["job_id"] == job.job_id
            assert told_of["job.rejected"].told["data"]["name"] == "text.mp4"
            assert len(set(receiver.ids)) == 2
            assert dropframe(tmp_path, "webhooks", "test").returncode == 0
            daemon.wait_ready()
            assert dropframe(tmp_path, "webhooks", "resend", "match.mp4").returncode == 0
            wait_for(lambda: receiver.ids.count(told_of["job.completed"].event_id) >= 2, 30, "it was not sent again")
            wait_for(lambda: _beat(tmp_path).receivers[0].waiting == 0, 30, "something waits")
            with running_sidecar(tmp_path) as sidecar:
                page = httpx.get(f"{sidecar.url}/metrics", timeout=30).text
            key = _beat(tmp_path).receivers[0].key
            assert f'dropframe_events_waiting{{receiver="{key}"}} 0.0' in page
            assert "dropframe_daemon_events_delivered_total" in page
            shown = json.dumps(as_json(tmp_path, "config", "show"))
        finally:
            daemon.stop()
            release.set()
    kept = [path.read_text(errors="replace") for path in (tmp_path / "data").rglob("*.j*") if path.is_file()]
    everything = "".join((shown, page, daemon.log(), *kept))
    assert "127.0.0.1" in everything
    for secret in (SECRET, SECRET.removeprefix("whsec_"), "T0K3N", "hidden"):
        assert secret not in everything


def _beat(home: Path) -> health.Heartbeat:
    return wait_for(lambda: health.read(home / "data"), 30, "there is no heartbeat")
