"""An agent beside a real daemon: from a video on the disk to what is in it, through the program that it starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.clips import make_clip
from tests.integration.test_agent import call, served_environment
from tests.integration.test_http_daemon import running_daemon

SENTENCE = "HOME 2 - 1 AWAY"


@pytest.mark.slow
def test_an_agent_submits_a_video_waits_for_it_and_finds_what_it_shows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("inbox", "outbox", "data"):
        (home / name).mkdir(parents=True)
    clip = make_clip(tmp_path / "match.mp4", frames=20, size=(320, 240), text=SENTENCE)
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "daemon", "mcp", "--home", str(home)], env=served_environment()
    )

    async def work(client: Client) -> None:
        submitted = await call(client, "submit", path=str(clip), pipeline="ocr_only")
        job: dict[str, Any] = {}
        with anyio.fail_after(240):
            while job.get("status") not in ("completed", "failed"):
                [job] = (await call(client, "status", job=submitted["job_id"], wait_s=20))["jobs"]
        assert job["status"] == "completed", job["error_message"]
        [text] = (await call(client, "texts", job="match.mp4"))["texts"]  # made by the daemon meanwhile, or now
        assert (text["text"], text["start_s"], text["end_s"]) == (SENTENCE, 0.0, 0.8)
        assert (await call(client, "tracks", job="match.mp4"))["tracks"] == []
        hits: list[dict[str, Any]] = []
        with anyio.fail_after(60):
            while not hits:
                hits = (await call(client, "search", query="home 2"))["hits"]
                await anyio.sleep(0.2)
        assert [(hit["job_id"], hit["text"]) for hit in hits] == [(submitted["job_id"], SENTENCE)]
        target = tmp_path / "match.srt"
        await call(client, "export", job=submitted["job_id"], format="srt", path=str(target))
        assert SENTENCE in target.read_text()

    async def do() -> None:
        with (home / "agent.log").open("w") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                await work(client)

    with running_daemon(home):
        anyio.run(do)
