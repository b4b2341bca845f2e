"""``dropframe mcp``, by the client of the library: in this process, and over standard input and output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent
from typer.testing import CliRunner

from daemon.cli import agent_tools
from daemon.cli.agent import server_of
from daemon.cli.agent_answers import MOST_LETTERS
from daemon.cli.main import app
from daemon.errors import MachineError, SettingsError
from daemon.ipc import spool
from daemon.search.index import SearchIndex
from daemon.search.reader import FoundKind
from daemon.settings import Settings
from tests.clips import make_clip
from tests.exported import HOSTILE, derived_job, finished_job, frames
from tests.system.running import environment

TOOLS = ["status", "texts", "tracks", "search", "submit", "export"]


def with_client(home: Path, work: Callable[[Client], Awaitable[None]]) -> None:
    """Have a client in this process do something."""

    async def do() -> None:
        async with Client(server_of(Settings.load(home=home))) as client:
            await work(client)

    anyio.run(do)


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert isinstance(answer, CallToolResult)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    assert json.loads(said(answer)) == answer.structured_content  # for clients that read text alone
    return dict(answer.structured_content)


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert isinstance(answer, CallToolResult)
    assert answer.is_error
    return said(answer)


def said(answer: CallToolResult) -> str:
    [content] = answer.content
    assert isinstance(content, TextContent)
    return content.text


def served_environment() -> dict[str, str]:
    """The environment of a server, which may find the library where this process does."""
    own = environment()
    return {**own, "PYTHONPATH": os.pathsep.join([own["PYTHONPATH"], os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("inbox", "outbox", "data"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_an_agent_is_told_what_there_is_with_schemas_of_all_that_goes_in_and_comes_out(home: Path) -> None:
    async def work(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == TOOLS
        for tool in tools:
            assert tool.description
            assert tool.input_schema["additionalProperties"] is False
            assert all("description" in about for about in tool.input_schema["properties"].values()), tool.name
            assert tool.output_schema is not None
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint is (tool.name not in ("submit", "export"))
        assert "srt" in tools[-1].input_schema["properties"]["format"]["enum"]

    with_client(home, work)


def test_an_agent_reads_texts_and_objects_a_page_at_a_time(home: Path) -> None:
    job_id = derived_job(home)

    async def work(client: Client) -> None:
        all_texts = await call(client, "texts", job=job_id)
        assert [(text["text"], text["start_s"]) for text in all_texts["texts"]] == [
            ("GATE B12", 0.0),
            ("Where have you been?", 1.0),
        ]
        assert (all_texts["total"], all_texts["next_offset"], all_texts["source_name"]) == (2, None, "match.mp4")
        first = await call(client, "texts", job="match.mp4", limit=1)
        assert (len(first["texts"]), first["total"], first["next_offset"]) == (1, 2, 1)
        second = await call(client, "texts", job=job_id[:8], limit=1, offset=1)
        assert [*first["texts"], *second["texts"]] == all_texts["texts"]
        found = await call(client, "texts", job=job_id, contains="gate")
        assert [text["text"] for text in found["texts"]] == ["GATE B12"]
        assert (await call(client, "texts", job=job_id, to_s=1.0))["total"] == 1
        seen = await call(client, "tracks", job=job_id)
        assert [(track["class"], track["start_s"]) for track in seen["tracks"]] == [("cat", 0.0), ("dog", 1.2)]
        assert (await call(client, "tracks", job=job_id, classes=["dog"]))["total"] == 1
        assert (await call(client, "tracks", job=job_id, from_s=0, to_s=0.5))["total"] == 1
        listed = await call(client, "status")
        assert [(job["job_id"], job["status"]) for job in listed["jobs"]] == [(job_id, "completed")]
        assert (listed["counts"]["completed"], listed["daemon_running"]) == (1, False)

    with_client(home, work)


def test_texts_are_made_where_they_are_missing_and_no_daemon_runs(home: Path) -> None:
    job_id = finished_job(home)

    async def work(client: Client) -> None:
        assert (await call(client, "texts", job=job_id))["total"] == 2
        assert (await call(client, "tracks", job=job_id))["total"] == 2

    with_client(home, work)


def test_whatever_was_read_an_answer_can_be_sent_and_is_bounded(home: Path) -> None:
    job_id = derived_job(home, records=frames(cat="c\ud800" + "x" * 1000, texts=HOSTILE))

    async def work(client: Client) -> None:
        answer = await call(client, "texts", job=job_id)
        assert answer["total"] >= len(HOSTILE) - 1
        assert max(len(text["text"]) for text in answer["texts"]) == MOST_LETTERS
        assert len((await call(client, "tracks", job=job_id))["tracks"][0]["class"]) == MOST_LETTERS

    with_client(home, work)


def test_an_agent_searches_all_videos(home: Path) -> None:
    job_id = derived_job(home)
    index = SearchIndex(home / "data")
    spans = [(FoundKind.TEXT, f"GATE B{n}", float(n), n + 1.0, n, [0.0] * 4, 0.9, 25) for n in range(30)]
    index.put(1, job_id, "", spans)
    index.set_complete(True)
    index.close()

    async def work(client: Client) -> None:
        first = await call(client, "search", query="gate")
        assert (len(first["hits"]), first["complete"]) == (20, True)
        rest = await call(client, "search", query="gate", cursor=first["next_cursor"])
        assert (len(rest["hits"]), rest["next_cursor"]) == (10, None)
        [hit] = (await call(client, "search", query="b12", kind="text"))["hits"]
        assert (hit["text"], hit["start_s"], hit["source_name"]) == ("GATE B12", 12.0, "match.mp4")
        assert "cursor must be" in await refusal(client, "search", query="gate", cursor="x")

    with_client(home, work)


def test_an_agent_submits_a_video_and_follows_it(home: Path) -> None:
    clip = make_clip(home / "clip.mp4", frames=4)

    async def work(client: Client) -> None:
        submitted = await call(client, "submit", path=str(clip), pipeline="ocr_only", frame_stride=2)
        [ticket] = spool.pending_submissions(home / "data" / "spool")
        assert (ticket.job_id, ticket.pipeline_id) == (submitted["job_id"], "ocr_only")
        assert (ticket.options["frame_stride"], submitted["daemon_running"]) == (2, False)
        [job] = (await call(client, "status", job=submitted["job_id"], wait_s=0.5))["jobs"]
        assert (job["status"], job["queue_position"], job["source_name"]) == ("pending", 0, "clip.mp4")
        for path, words in (
            ("clip.mp4", "not an absolute path"),
            ("/a\0b.mp4", "not an absolute path"),
            (str(home / "none.mp4"), "no such file"),
            (str(home), "It is a folder"),
            ("/etc/passwd", "passwd was not submitted"),
        ):
            assert words in await refusal(client, "submit", path=path)
        assert "did you mean yolo?" in await refusal(client, "submit", path=str(clip), pipeline="yollo")
        assert len(spool.pending_submissions(home / "data" / "spool")) == 1

    with_client(home, work)


def test_an_agent_exports_to_a_file_and_overwrites_none(home: Path, tmp_path: Path) -> None:
    job_id = finished_job(home)
    target = tmp_path / "out.srt"

    async def work(client: Client) -> None:
        written = await call(client, "export", job=job_id, format="srt", path=str(target))
        assert "GATE B12" in target.read_text()
        assert written == {"path": str(target), "size_bytes": target.stat().st_size, "format": "srt"}
        before = target.read_bytes()
        assert "is there already" in await refusal(client, "export", job=job_id, format="csv", path=str(target))
        assert target.read_bytes() == before
        nowhere = str(tmp_path / "none" / "out.csv")
        assert "does not exist" in await refusal(client, "export", job=job_id, format="csv", path=nowhere)
        other = str(tmp_path / "other")
        assert "did you mean" in await refusal(client, "export", job=job_id, format="csvv", path=other)
        unsuited = await refusal(client, "export", job=job_id, format="srt", path=other, classes=["cat"])
        assert "no classes" in unsuited
        assert not Path(other).exists()

    with_client(home, work)


def test_an_agent_plants_no_file_where_one_has_a_meaning(home: Path, tmp_path: Path) -> None:
    job_id = finished_job(home)
    (tmp_path / "link").symlink_to(home / "inbox")

    async def work(client: Client) -> None:
        for path, words in (
            (tmp_path / ".bashrc", "does not end in .csv"),
            (tmp_path / "video.mp4", "does not end in .csv"),
            (home / "data" / "out.csv", "Dropframe's own"),
            (home / "inbox" / "out.csv", "Dropframe's own"),
            (tmp_path / "link" / "out.csv", "Dropframe's own"),
        ):
            assert words in await refusal(client, "export", job=job_id, format="csv", path=str(path))
            assert not path.exists()
        drawn = str(tmp_path / "out.mp4")
        assert "in exports instead" in await refusal(client, "export", job=job_id, format="annotated", path=drawn)
        assert "annotated" not in (await client.list_tools()).tools[-1].input_schema["properties"]["format"]["enum"]

    with_client(home, work)


def test_an_export_never_goes_over_what_has_come_meanwhile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, target = finished_job(home), home / "out.csv"
    made = agent_tools.made

    def made_slowly(*arguments: Any) -> Any:
        target.write_text("mine")
        return made(*arguments)

    monkeypatch.setattr(agent_tools, "made", made_slowly)

    async def work(client: Client) -> None:
        assert "is there already" in await refusal(client, "export", job=job_id, format="csv", path=str(target))

    with_client(home, work)
    assert target.read_text() == "mine"


def test_an_agent_asks_for_exports_as_it_submits(home: Path) -> None:
    clip = make_clip(home / "clip.mp4", frames=4)

    async def work(client: Client) -> None:
        await call(client, "submit", path=str(clip), exports=["srt", "annotated"])
        [ticket] = spool.pending_submissions(home / "data" / "spool")
        assert ticket.options["exports"] == ["srt", "annotated"]
        assert "did you mean srt?" in await refusal(client, "submit", path=str(clip), exports=["srtt"])

    with_client(home, work)


def test_what_an_agent_gets_wrong_it_is_told(home: Path) -> None:
    async def work(client: Client) -> None:
        assert "No job is named 'nobody'" in await refusal(client, "texts", job="nobody")
        assert "Extra inputs are not permitted" in await refusal(client, "texts", job="x", stride=5)
        assert "less than or equal to 200" in await refusal(client, "texts", job="x", limit=10_000)
        assert "less than or equal to 50" in await refusal(client, "status", job="x", wait_s=3600)
        job_id = finished_job(home)
        (home / "data" / "video_jobs" / f"{job_id}_results.json").unlink()
        assert "has been deleted" in await refusal(client, "texts", job=job_id)

    with_client(home, work)


@pytest.mark.slow
def test_it_speaks_over_standard_input_and_output_and_ends_with_its_client(home: Path) -> None:
    job_id = finished_job(home)
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "daemon", "mcp", "--home", str(home)],
        env=served_environment(),
    )

    async def do() -> None:
        with (home / "log").open("w") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                assert client.server_info is not None
                assert client.server_info.name == "dropframe"
                assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
                # What the commands say beside their output must not get between the messages.
                assert (await call(client, "texts", job=job_id))["total"] == 2
                assert "No job is named" in await refusal(client, "status", job="nobody")

    anyio.run(do)
    assert "Traceback" not in (home / "log").read_text()


def test_without_the_library_a_sentence_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    failed = CliRunner().invoke(app, ["mcp", "--home", str(home)])
    assert isinstance(failed.exception, MachineError)
    assert "pip install 'dropframe[mcp]'" in str(failed.exception)


def test_a_home_that_is_not_there_is_named(tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, ["mcp", "--home", str(tmp_path / "none")])
    assert isinstance(failed.exception, SettingsError)
