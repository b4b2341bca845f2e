"""What becomes of an object before it is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import BadVideo
from daemon.objects.entries import Entry
from daemon.objects.submissions import ObjectSubmissions
from daemon.settings import Settings
from daemon.store.job_store import JobStore


@pytest.fixture
def submissions(tmp_path: Path) -> Iterator[ObjectSubmissions]:
    (tmp_path / "data").mkdir()
    with JobStore.open(tmp_path / "data") as store:
        yield ObjectSubmissions(Settings(home=tmp_path), store, frozenset({"yolo_ocr"}))


def entry(key: str) -> Entry:
    return Entry("s3://footage", key, '"1"', 1000, "00000000-0000-4000-8000-000000000000", "2027-01-15T12:00:00+00:00")


def test_a_ticket_has_options_that_older_releases_read(submissions: ObjectSubmissions) -> None:
    assert submissions.ticket(entry("a.mp4"), None).options == {"frame_stride": 1, "max_frames": None}
    with_exports = submissions.ticket(entry("a.mp4"), b'{"exports": ["csv"]}')
    assert with_exports.options == {"frame_stride": 1, "max_frames": None, "exports": ["csv"]}


@pytest.mark.parametrize("folder", ["f" * 255, "é" * 128, "f" * 300])
def test_a_folder_that_the_outbox_cannot_have_is_refused(folder: str, submissions: ObjectSubmissions) -> None:
    with pytest.raises(BadVideo, match="A folder in its key has 255 bytes or more"):
        submissions.ticket(entry(f"day/{folder}/a.mp4"), None)
    assert submissions.ticket(entry(f"day/{'f' * 254}/{'a' * 300}.mp4"), None)
