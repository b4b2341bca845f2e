"""A real daemon between two prefixes of a bucket, over a kill -9 and a line that is cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import BEGINNING, make_clip
from tests.object_storage import KEY_ID, SECRET, Line, Service, line_to, running_service
from tests.system.running import Daemon, as_json, dropframe, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("moto")]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path / "moto.log") as service:
        service.make("footage")
        yield service


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    with line_to(service) as bad:
        yield bad


def test_videos_go_from_a_bucket_to_results_in_a_bucket_once_each(tmp_path: Path, service: Service, line: Line) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = {
        "DROPFRAME_RESULT_STORE": "s3://footage/results",
        "DROPFRAME_INBOX_STORE": "s3://footage/in",
        "DROPFRAME_INBOX_STORE_AFTER": "move",
        "DROPFRAME_INBOX_STORE_SECONDS": "0.5",
        "DROPFRAME_S3_ENDPOINT": line.url,
        "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
        "DROPFRAME_EXPORTS": '["csv"]',
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    clip = make_clip(tmp_path / "a.mp4", frames=6, text="BUCKET 7")
    service.put("footage", "in/day/a.mp4", clip.read_bytes())
    service.put("footage", "in/bad.mp4", BEGINNING + bytes(range(256)) * 4000)
    service.put("footage", "in/page.mp4", b"<html>" * 100)
    line.cut_after = 300_000
    daemon = Daemon(home, **settings)
    daemon.start()
    try:
        wait_for(lambda: any((home / "data" / "inbox_store").glob("*.part")) or daemon.jobs(), 120)
        daemon.kill()
        line.cut_after = None
        daemon.start()
        wanted = ["bad.mp4.error.json", "day/a.mp4.csv", "day/a.mp4.json"]
        wait_for(lambda: service.keys("footage")[-3:] == [f"results/{name}" for name in wanted], 120)
        [good] = [job for job in daemon.jobs() if job.status is JobStatus.COMPLETED]
        assert good.source_name == "day/a.mp4"
        assert len(daemon.jobs()) == 2
        for name in wanted:
            assert service.get("footage", f"results/{name}") == (home / "outbox" / name).read_bytes()
        wait_for(lambda: "in/done/day/a.mp4" in service.keys("footage"))
        wait_for(lambda: (home / "outbox" / "page.mp4.rejected.txt").exists())
        assert service.keys("footage")[:4] == [
            "in/done/bad.mp4",
            "in/done/day/a.mp4",
            "in/rejected/page.mp4",
            "in/rejected/page.mp4.reason.txt",
        ]
        wait_for(lambda: as_json(home, "health", **settings)["parts"]["result_store"]["ok"])
        assert "page.mp4: It is a text or web page" in dropframe(home, "jobs", **settings).stdout
        said = dropframe(home, "config", "show", **settings).stdout + daemon.log()
        assert "s3://footage/in" in said
        for path in home.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file():
                    said += path.read_bytes().decode("latin-1")
        assert KEY_ID not in said
        assert SECRET not in said
        line.answer = "expired"
        assert dropframe(home, "delete", "--yes", good.job_id, **settings).returncode == 0
        wait_for(lambda: f"deleted job {good.job_id} can be removed yet: The credentials" in daemon.log())
        line.answer = None
        wait_for(lambda: "results/day/a.mp4.json" not in service.keys("footage"), 60)
        assert SECRET not in daemon.log()
    finally:
        daemon.stop()
