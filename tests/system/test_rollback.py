"""docs/rollback.md, followed step by step: nothing that was given to Dropframe or made by it is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.jobs import Job, JobStatus, input_key, new_job_id
from daemon.store.job_store import JobStore
from tests.clips import BEGINNING, make_clip
from tests.system.documents import Session, blocks, session
from tests.system.running import ROOT, wait_for

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "rollback.md"


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has been at work: a dropped video, one of a pipeline's folder, a submitted one and a failed one."""
    folder = tmp_path_factory.mktemp("worked")
    with session(folder) as opened:
        opened.start()
        (opened.home / "inbox" / "ocr_only").mkdir()
        for name, text in (("match.mp4", "GOAL 1"), ("ocr_only/match.mp4", "GOAL 2")):
            clip = make_clip(folder / "made" / name, frames=6, text=text)
            clip.rename(opened.home / "inbox" / name)
        clip = make_clip(opened.home / "third.mp4", frames=5, text="GOAL 3")
        (opened.home / "broken.mp4").write_bytes(BEGINNING + bytes(1000))
        opened.call("dropframe submit third.mp4 broken.mp4")
        opened.wait_idle()
        assert sorted(job.status for job in opened.jobs()) == ["completed"] * 3 + ["failed"]
        wait_for(lambda: len(list((opened.home / "outbox").rglob("[!.]*.json"))) == 4)  # the error comes after the end
    return opened.home


@pytest.fixture
def used(worked: Path, tmp_path: Path) -> Iterator[Session]:
    """A copy of that home, with Dropframe stopped."""
    with session(tmp_path) as opened:
        for name in ("inbox", "outbox", "data"):
            shutil.copytree(worked / name, opened.home / name)
        shutil.copyfile(worked / "third.mp4", opened.home / "third.mp4")
        yield opened


def run(terminal: Session, section: str) -> list[str]:
    """Run the blocks of a section, and return what they say."""
    chosen = [block for block in blocks(PAGE) if block.section == section and block.not_run is None]
    assert chosen, f"the page has no section {section}"
    return [terminal.run(block) for block in chosen]


def digests(home: Path) -> dict[str, str]:
    """Return the checksum of every video and result, by path."""
    files = [p for top in ("data/video_jobs", "outbox") for p in (home / top).rglob("[!.]*") if p.is_file()]
    return {str(p.relative_to(home)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def schema(home: Path) -> int:
    version: int = json.loads((home / "data" / "jobs.json").read_bytes())["_meta"]["1"]["schema_version"]
    return version


def told(jobs: list[Job]) -> list[Job]:
    """Return jobs in order of arrival."""
    return sorted(jobs, key=lambda job: job.sequence)


def test_going_back_to_the_schema_before_and_forth_again_loses_nothing(used: Session) -> None:
    before, files = told(used.jobs()), digests(used.home)
    noted, downgraded, checked = [b for b in blocks(PAGE) if b.section == "Going back" and b.not_run is None]
    used.run(noted)
    used.call("dropframe submit street.mp4")  # waits over all of it
    assert "4 jobs now have schema version 1" in used.run(downgraded)
    assert schema(used.home) == 1
    old = json.loads((used.home / "data" / "jobs.json").read_bytes())["jobs"].values()
    assert {(r["job_id"], r["status"], r["filename"], r["error"]) for r in old} == {
        (job.job_id, job.status, job.source_name, job.error_message) for job in before
    }
    assert digests(used.home) == files
    used.start()  # a release that finds schema 1 and brings it to its own
    used.wait_idle()
    assert used.run(checked) == ""
    *same, last = told(used.jobs())
    assert same == before
    assert (last.source_name, last.status) == ("street.mp4", JobStatus.COMPLETED)
    assert files.items() <= digests(used.home).items()
    used.stop()
    assert schema(used.home) == 2


def test_a_changed_file_or_a_missing_job_is_noticed_by_the_check(used: Session) -> None:
    noted, _, checked = [b for b in blocks(PAGE) if b.section == "Going back" and b.not_run is None]
    used.run(noted)
    result = used.home / "outbox" / "match.mp4.json"
    kept = result.read_bytes()
    result.write_bytes(kept[:-1])
    with pytest.raises(AssertionError, match=r"match\.mp4\.json: FAILED"):
        used.run(checked)
    result.write_bytes(kept)
    used.call('echo \'"job_id": "0000dead"\' >> jobs-before.txt && sort -o jobs-before.txt jobs-before.txt')
    assert used.run(checked) == '"job_id": "0000dead"\n'


def test_the_store_from_before_an_upgrade_can_be_put_back_by_hand(used: Session) -> None:
    before, files = told(used.jobs()), digests(used.home)
    used.call("dropframe downgrade")
    used.start()  # the upgrade, which keeps the store as it was
    used.call("dropframe submit street.mp4 --wait")
    run(used, "If the newer release does not run at all")
    assert schema(used.home) == 1
    used.start()
    assert told(used.jobs()) == before
    assert files.items() <= digests(used.home).items()
    stored = {
        json.loads((used.home / name).read_text())["source"]["name"] for name in digests(used.home) if "_res" in name
    }
    assert "street.mp4" in stored
    used.stop()


def test_removing_it_leaves_every_video_and_result_under_its_name(used: Session) -> None:
    stored = {name: digest for name, digest in digests(used.home).items() if name.startswith("data/")}
    assert run(used, "Removing Dropframe")[1] == ""
    home = used.home / "taken-home"
    found = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
    assert found == {
        *("match.mp4", "match.mp4.json", "ocr_only/match.mp4", "ocr_only/match.mp4.json"),
        *("third.mp4", "third.mp4.json", "broken.mp4"),
    }
    texts = {name: json.loads((home / name).read_text())["summary"]["texts"] for name in found if name.endswith("json")}
    assert texts == {
        "match.mp4.json": ["GOAL 1"],
        "ocr_only/match.mp4.json": ["GOAL 2"],
        "third.mp4.json": ["GOAL 3"],
    }
    assert not (used.home / ".venv").exists()
    assert {n: d for n, d in digests(used.home).items() if n.startswith("data/")} == stored


def test_a_name_that_leads_out_of_the_folder_stays_in_it(used: Session) -> None:
    job_id = new_job_id()
    (used.data / input_key(job_id)).write_bytes(b"a video")
    with JobStore.open(used.data) as store:
        store.create([Job(job_id, JobStatus.FAILED, input_path=input_key(job_id), source_name="../../escape.mp4")])
    run(used, "Removing Dropframe")
    found = {path.relative_to(used.home) for path in used.home.parent.rglob("*escape.mp4*")}
    assert found == {Path("taken-home/escape.mp4")}
