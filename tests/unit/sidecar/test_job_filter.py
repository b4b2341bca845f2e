from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.jobs import Job, JobSource, new_job_id
from daemon.settings import Settings
from daemon.store.migrations import JOBS
from sidecar.app import make_app
from sidecar.job_filter import JobFilter
from sidecar.job_view import JobView

JOB_COUNT = 100_000
LISTS = 12
"""Asked for at the same time."""


def record(**fields: Any) -> dict[str, Any]:
    return Job(new_job_id(), source=JobSource.INBOX, pipeline_id="yolo", **fields).to_record()


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (JobFilter(), True),
        (JobFilter(name="straße".casefold()), True),
        (JobFilter(name="street"), False),
        (JobFilter(source=JobSource.INBOX), True),
        (JobFilter(source=JobSource.HTTP), False),
        (JobFilter(pipeline_id="yolo"), True),
        (JobFilter(pipeline_id="yol"), False),
        (JobFilter(created_after="2026-01-01"), True),
        (JobFilter(created_after="2026-03-01"), False),
        (JobFilter(created_before="2026-03-01"), True),
        (JobFilter(created_before="2026-01-01"), False),
        (JobFilter(name="strasse", source=JobSource.INBOX, created_after="2026-01-01"), True),
        (JobFilter(name="strasse", source=JobSource.HTTP), False),
    ],
)
def test_a_job_is_shown_if_it_fits_every_part_of_a_filter(wanted: JobFilter, fits: bool) -> None:
    job = record(source_name="Lange STRASSE.mp4", created_at="2026-02-01T00:00:00.000000+00:00")
    assert wanted.select([job]) == ([job] if fits else [])
    assert wanted.shows_all == (wanted == JobFilter())


@pytest.fixture
def many_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every view of jobs shows a hundred thousand."""
    one = record(source_name="Holiday.mp4", created_at="2026-02-01T00:00:00.000000+00:00")
    rows = {str(n): {**one, "job_id": new_job_id(), "sequence": n} for n in range(1, JOB_COUNT + 1)}

    def refresh(view: JobView, force: bool = False) -> bool:
        if not view.order.all:
            view._journal.tables[JOBS] = rows
            view.order.rebuild(rows)
        return False

    monkeypatch.setattr(JobView, "refresh", refresh)
    yield
    gc.unfreeze()


@pytest.mark.parametrize("query", ["name=nobody", "name=holiday&source=http&created_after=2026-01-01T00:00:00Z"])
@pytest.mark.slow
@pytest.mark.usefixtures("many_jobs")
def test_a_filter_over_very_many_jobs_holds_up_nobody(tmp_path: Path, query: str) -> None:
    """Measured in processor time of the event loop, which other programs on the machine do not change."""

    async def main() -> tuple[float, float]:
        app = make_app(Settings(home=tmp_path))
        longest, last, listed = 0.0, time.thread_time(), False

        async def take_turns() -> None:
            nonlocal longest, last
            while not listed:
                await asyncio.sleep(0)
                longest, last = max(longest, time.thread_time() - last), time.thread_time()

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
        ):
            assert (await client.get("/v1/jobs")).json()["counts"]["pending"] == JOB_COUNT
            started = last = time.thread_time()
            turns = asyncio.create_task(take_turns())
            answers = await asyncio.gather(*(client.get(f"/v1/jobs?{query}") for _ in range(LISTS)))
            listed = True
            await turns
            assert {answer.status_code for answer in answers} == {200}
            assert all(answer.json()["jobs"] == [] for answer in answers)
            return longest, time.thread_time() - started

    longest, taken = asyncio.run(main())
    assert longest < taken / LISTS / 6
