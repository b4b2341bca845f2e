"""What docs/webhooks.md tells people to write works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from daemon.jobs import Job, JobStatus, new_job_id
from daemon.settings import Settings
from daemon.webhook_settings import SECRET_PREFIX, WebhookSettings, secret_bytes
from daemon.webhooks.command import TRY_AGAIN
from daemon.webhooks.courier import WAITS
from daemon.webhooks.event import JOB_FIELDS, REJECTED_FIELDS, Event
from daemon.webhooks.signing import headers
from tests.webhook_receiver import OTHER_SECRET, SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
JOB = Job(new_job_id(), status=JobStatus.COMPLETED, source_name="Grüße.mp4", finished_at="2027-01-15T12:00:00+00:00")


def block(language: str, holding: str) -> str:
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in text]
    return str(found)


def sent(now: float, *secrets: str) -> tuple[dict[str, str], bytes]:
    event = Event.of_job(JOB)
    return dict(headers(event, event.body(), [secret_bytes(s) for s in secrets], "urn:x", now)), event.body()


def verify_in_python(secret: str, told: dict[str, str], body: bytes) -> Any:
    names: dict[str, Any] = {}
    exec(block("python", "def verify"), names)
    return names["verify"](secret, told, body)


def verify_in_javascript(secret: str, told: dict[str, str], body: bytes) -> Any:
    code = block("js", "function verify") + (
        "const [secret, headers, body] = JSON.parse(require('fs').readFileSync(0));"
        "try { console.log(JSON.stringify(verify(secret, headers, Buffer.from(body)))) }"
        "catch (error) { console.log(JSON.stringify(error.message)); process.exit(3) }"
    )
    given = json.dumps([secret, told, body.decode()])
    run = subprocess.run(["node", "-e", code], input=given, capture_output=True, text=True, check=False)
    if run.returncode == 3:
        raise ValueError(json.loads(run.stdout))
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "verify", [verify_in_python, pytest.param(verify_in_javascript, marks=pytest.mark.needs("node"))]
)
def test_the_recipes_accept_what_is_signed_and_nothing_else(verify: Any) -> None:
    told, body = sent(time.time(), OTHER_SECRET, SECRET)
    for secret in (SECRET, OTHER_SECRET):
        assert verify(secret, told, body)["data"]["job_id"] == JOB.job_id
    with pytest.raises(ValueError, match="not signed"):
        verify(SECRET, told, body.replace(b"completed", b"Completed"))
    with pytest.raises(ValueError, match="not signed"):
        verify(SECRET, *sent(time.time(), OTHER_SECRET))
    with pytest.raises(ValueError, match="not signed"):
        verify(SECRET, {**told, "webhook-id": "evt_other"}, body)
    with pytest.raises(ValueError, match="not signed"):
        verify(SECRET, {**told, "webhook-signature": "v1, v2,x x"}, body)
    with pytest.raises(ValueError, match="too old"):
        verify(SECRET, *sent(time.time() - 400, SECRET))


def test_the_program_copies_a_result(tmp_path: Path) -> None:
    code = block("python", "outbox_path")
    (tmp_path / "program").write_text(code.replace("/usr/bin/python3", sys.executable))
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "match.mp4.json").write_text("{}")
    (tmp_path / "nas").mkdir()
    told = json.dumps({"outbox_path": str(tmp_path / "match.mp4.json")})
    subprocess.run([tmp_path / "program", tmp_path / "nas"], input=told, text=True, check=True)
    assert (tmp_path / "nas" / "match.mp4.json").exists()


def test_the_settings_are_settings(tmp_path: Path) -> None:
    text = block("toml", "[[webhooks]]").replace(f"{SECRET_PREFIX}…", SECRET) + block("toml", "on_completed_seconds")
    *_, command = text.partition("on_completed =")
    (tmp_path / "dropframe.toml").write_text("on_completed =" + command + text.partition("on_completed =")[0])
    settings = Settings.load(home=tmp_path)
    assert [webhook.allow_private for webhook in settings.webhooks] == [False]
    assert settings.on_completed == ["/usr/local/bin/copy-result", "/mnt/nas/results"]
    [both] = re.findall(r"`secret = (\[.*?\])`", PAGE)
    exchanged = tomllib.loads(f"secret = {both}".replace("whsec_NEW", OTHER_SECRET).replace("whsec_OLD", SECRET))
    assert len(WebhookSettings.model_validate({"url": "https://example.org/", **exchanged}).keys) == 2


def test_what_the_page_says_of_events_is_so() -> None:
    shown = json.loads(block("json", "job.completed"))
    assert set(shown) == set(json.loads(Event.of_job(JOB).body()))
    assert list(shown["data"]) == list(JOB_FIELDS)
    [names] = re.findall(r"The `data` of `job.rejected`\nhas (.*?)\.\n", PAGE)
    assert re.findall(r"`(\w+)`", names) == list(REJECTED_FIELDS)
    assert f"**{TRY_AGAIN}**" in PAGE
    said = "5 s, 30 s,\n  2 min, 10 min, 30 min, 1 h, 3 h, 6 h, 12 h and 24 h"
    assert said in PAGE
    units = {"s": 1, "min": 60, "h": 3600}
    assert [int(n) * units[unit] for n, unit in re.findall(r"(\d+) (s|min|h)\b", said)] == list(WAITS)
