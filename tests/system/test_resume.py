"""A long job that is interrupted goes on where it was: at most one segment is worked on twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.running import running

pytestmark = pytest.mark.slow

FRAMES, SEGMENT, INTERRUPTIONS = 300, 30, 3
KEPT = re.compile(r"(\d+) frames are kept from an earlier attempt")


@pytest.mark.timeout(600)
def test_an_interrupted_job_repeats_at_most_one_segment_and_gives_the_same_bytes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "long.mp4", frames=FRAMES, text=tuple(f"SCORE {n // 7}" for n in range(FRAMES)))
    done_before: list[int] = []
    with running(tmp_path, DROPFRAME_SEGMENT_FRAMES=str(SEGMENT)) as daemon:
        daemon.drop(clip)
        for number in range(INTERRUPTIONS):
            least = (number + 1) * 2 * SEGMENT
            seen = daemon.wait_job("long.mp4", JobStatus.RUNNING, when=lambda job: job.frames_processed >= least)  # noqa: B023
            daemon.kill()
            done_before.append(seen.frames_processed)
            daemon.start()
        done = daemon.wait_job("long.mp4", seconds=240)
        assert (done.status, done.attempts) == (JobStatus.COMPLETED, INTERRUPTIONS + 1)
        result = daemon.results()["long.mp4.json"]
        gone_on = [int(found) for found in KEPT.findall(daemon.log())]
        daemon.drop(clip)
        daemon.wait_job("long.mp4", when=lambda job: job.job_id != done.job_id, seconds=240)
        assert daemon.results()["long.mp4.json"] == result
    # What had been seen to be done is not done again, but for the segment that had not ended.
    assert len(gone_on) == INTERRUPTIONS
    for before, after in zip(done_before, gone_on, strict=True):
        assert after % SEGMENT == 0
        assert before - after <= SEGMENT  # the last one may have been under way to the disk
