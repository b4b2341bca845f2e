"""Submits a video, follows its job and reads the result, by the client that openapi-python-client makes.

Run by the interpreter that has the maker's libraries, in the folder that has the package ``dropframe_client``.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from pathlib import Path

from dropframe_client import Client
from dropframe_client.api.jobs import get_results, get_status, list_jobs, submit_video
from dropframe_client.models import Job, JobPage, JobStatus, Problem, Result, SubmittedJob, SubmitVideoBody
from dropframe_client.types import File


def main() -> None:
    """Print what was seen."""
    base_url, video = sys.argv[1:]
    client = Client(base_url=base_url, timeout=60)
    with Path(video).open("rb") as opened:
        file = File(payload=opened, file_name="clip.mp4", mime_type="video/mp4")
        body = SubmitVideoBody(file=file, pipeline_id="ocr_only", frame_stride=2)
        submitted = submit_video.sync(client=client, body=body)
    assert isinstance(submitted, SubmittedJob), submitted
    while True:
        job = get_status.sync(submitted.job_id, client=client, wait=10)
        assert isinstance(job, Job), job
        if job.progress == 1:
            break
    result = get_results.sync(submitted.job_id, client=client)
    assert isinstance(result, Result), result
    page = list_jobs.sync(client=client, status=JobStatus.COMPLETED, limit=1)
    assert isinstance(page, JobPage), page
    nobody = get_status.sync("nobody", client=client)
    assert isinstance(nobody, Problem), nobody
    seen = {
        "job_id": submitted.job_id,
        "status": job.status,
        "frames": len(result.results),
        "texts": sorted({block.text for frame in result.results for block in frame.result.text_blocks or []}),
        "newest": page.jobs[0].job_id,
        "refusal": nobody.type_,
    }
    sys.stdout.write(json.dumps(seen, default=str))


if __name__ == "__main__":
    main()
