"""``dropframe texts`` and ``dropframe tracks``: made if missing, as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from daemon.cli.derived import clock
from daemon.cli.main import app
from daemon.derive import files
from daemon.derive.derivation import derive
from daemon.errors import IllegalMove, StoredFileMissing
from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.store.job_store import JobStore
from tests.derived_documents import Clip, Shown, frame, frames_of, write_document


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="match.mp4")])
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    shown = [Shown("HOME 1 - 0 AWAY", 0, 49), Shown("[bold]\u202eHOME 2 - 0", 50, 99)]
    clip = Clip("", 100, shown, noise=0.0, missed=0.0)
    write_document(tmp_path / "data" / output_key(job.job_id), frames_of(clip))
    return job.job_id


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home)])


def test_texts_are_made_and_shown(tmp_path: Path, job_id: str) -> None:
    shown = run(tmp_path, "texts", job_id[:8])
    assert shown.exit_code == 0
    assert "has no texts yet" in " ".join(shown.stderr.split())
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[1][:3] == ["0:00:00.00", "0:00:02.00", "50"]
    assert rows[1][4:] == ["HOME", "1", "-", "0", "AWAY"]
    assert "\u202e" not in shown.stdout  # a terminal would turn the line around
    assert "[bold]" in shown.stdout
    again = run(tmp_path, "texts", "match.mp4", "--json")
    assert again.stderr == ""
    made = json.loads(again.stdout)
    assert [text["first_frame"] for text in made["texts"]] == [0, 50]


def test_tracks_are_shown(tmp_path: Path, job_id: str) -> None:
    cat = {"bbox": [5, 10, 55, 60], "class": "cat", "class_id": 15, "confidence": 0.9}
    document = tmp_path / "data" / output_key(job_id)
    write_document(document, (frame(n, n / 25, [], [cat]) for n in range(100)))
    derive(document, files.folder_of(tmp_path / "data", job_id))
    shown = run(tmp_path, "tracks", job_id)
    assert shown.stdout.splitlines()[1].split() == ["1", "cat", "0:00:00.00", "0:00:04.00", "100", "0.90"]
    assert len(json.loads(run(tmp_path, "tracks", job_id, "--json").stdout)["frames"]) == 100


def test_why_there_are_none_is_said(tmp_path: Path, job_id: str) -> None:
    document = tmp_path / "data" / output_key(job_id)
    document.write_bytes(document.read_bytes()[:3000])
    assert isinstance(run(tmp_path, "texts", job_id).exception, files.NothingDerived)
    document.unlink()
    assert isinstance(run(tmp_path, "texts", job_id).exception, StoredFileMissing)
    with JobStore.open(tmp_path / "data") as store:
        [job] = store.create([Job(new_job_id(), source_name="waits.mp4")])
    assert isinstance(run(tmp_path, "texts", job.job_id).exception, IllegalMove)


def test_times_are_written_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (0, 59.999, 61.25, 36_000)] == [
        "0:00:00.00",
        "0:01:00.00",
        "0:01:01.25",
        "10:00:00.00",
    ]
