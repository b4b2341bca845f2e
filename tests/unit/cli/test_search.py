"""``dropframe search``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from daemon.cli.main import app
from daemon.errors import SettingsError
from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.search.index import SearchIndex
from daemon.search.reader import FoundKind
from daemon.store.job_store import JobStore


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="match.mp4")])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    index = SearchIndex(tmp_path / "data")
    texts = ["GATE B12", "[bold]\u202eGATE B13"]
    spans = [(FoundKind.TEXT, text, 60.5 + n, 62.0, 7, [0.0] * 4, 0.9, 25) for n, text in enumerate(texts)]
    index.put(job.sequence, job.job_id, "", spans)
    index.set_complete(True)
    index.close()
    return job.job_id


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["search", *arguments, "--home", str(home)])


def test_hits_are_shown(tmp_path: Path, job_id: str) -> None:
    shown = run(tmp_path, "gate", "b1")
    assert (shown.exit_code, shown.stderr) == (0, "")
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[1] == ["match.mp4", job_id[:8], "0:01:00.50", "0:01:02.00", "text", "GATE", "B12"]
    assert "\u202e" not in shown.stdout  # a terminal would turn the line around
    assert "[bold]" in shown.stdout
    assert run(tmp_path, "gate b12").stdout == run(tmp_path, "B12", "--kind", "text").stdout
    assert run(tmp_path, "b12", "--kind", "object").stdout == "Nothing was found.\n"


def test_programs_get_pages(tmp_path: Path, job_id: str) -> None:
    first = json.loads(run(tmp_path, "gate", "--limit", "1", "--json").stdout)
    assert [(hit["job_id"], hit["text"]) for hit in first["hits"]] == [(job_id, "GATE B12")]
    assert first["complete"] is True
    second = json.loads(run(tmp_path, "gate", "--json", "--cursor", first["next_cursor"]).stdout)
    assert [hit["text"] for hit in second["hits"]] == ["[bold]\u202eGATE B13"]
    assert second["next_cursor"] is None


def test_what_is_wrong_is_said(tmp_path: Path, job_id: str) -> None:
    for wrong in (["\x01"], ["a" * 201], ["gate", "--cursor", "x"]):
        failed = run(tmp_path, *wrong)
        assert isinstance(failed.exception, SettingsError), wrong
    (tmp_path / "data" / "index" / "search.db").unlink()
    shown = run(tmp_path, "gate")
    assert shown.stdout == "Nothing was found.\n"
    assert "still making the index" in shown.stderr
