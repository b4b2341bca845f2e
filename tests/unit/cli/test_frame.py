"""``dropframe frame``."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner, Result

from daemon.cli.main import app
from daemon.errors import IllegalMove, SettingsError, StoredFileMissing
from daemon.jobs import Job, input_key, new_job_id
from daemon.stills.files import NoStill
from daemon.store.job_store import JobStore
from tests.clips import make_clip


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    job_id = new_job_id()
    make_clip(tmp_path / "data" / input_key(job_id), frames=20, size=(160, 120))
    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(job_id, source_name="match.mp4", input_path=input_key(job_id))])
    return job_id


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["frame", *arguments, "--home", str(home)])


def test_a_picture_is_saved(tmp_path: Path, job_id: str) -> None:
    saved = tmp_path / "x.jpg"
    for how in (["--time", "0.3"], ["--index", "7"], []):
        done = run(tmp_path, "match.mp4", *how, "-o", str(saved), "--width", "80")
        assert (done.exit_code, done.output) == (0, "")
        image = cv2.imread(str(saved))
        assert image is not None
        assert image.shape == (60, 80, 3)
        saved.unlink()
    assert run(tmp_path, job_id, "-o", "-").stdout_bytes[:2] == b"\xff\xd8"


def test_what_is_wrong_is_said(tmp_path: Path, job_id: str) -> None:
    def wrong(*arguments: str) -> BaseException | None:
        return run(tmp_path, "match.mp4", "-o", str(tmp_path / "x.jpg"), *arguments).exception

    assert isinstance(wrong("--time", "1", "--index", "1"), SettingsError)
    for seconds in ("nan", "-1", "1e9"):
        assert run(tmp_path, "match.mp4", "-o", "x.jpg", "--time", seconds).exit_code == 2
    assert isinstance(wrong("--boxes"), IllegalMove)
    error = wrong("--index", "20")
    assert (type(error), str(error)) == (NoStill, "The video has 20 frames, from 0 to 19.")
    (tmp_path / "data" / input_key(job_id)).unlink()
    assert isinstance(wrong(), StoredFileMissing)
    with JobStore.open(tmp_path / "data") as store:
        store.note(job_id, source_removed_at="2026-01-31T12:00:00+00:00")
    assert "removed by retention" in str(wrong())
    assert not (tmp_path / "x.jpg").exists()
