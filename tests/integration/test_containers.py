"""Every kind of video at every door: the folder, the command line, HTTP; and through a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from daemon.errors import BadVideo
from daemon.ingest import stability
from daemon.jobs import Job, JobStatus, input_key, new_job_id
from daemon.pipeline.records import Progress
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.clips import draw_frame, make_clip
from tests.container_clips import KINDS, OTHERS, in_container
from tests.unit.cli.test_main import run
from tests.unit.ingest.test_inbox import Bench
from tests.unit.sidecar.test_app import Client, call, check_problem

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "results.schema.json").read_text())
LINE = "ffmpeg -i IN -c copy OUT.mp4"
SETTING = 'the setting containers = "all"'
NAMES = ["a.mp4", "b.MOV", "c.insv", "d.LRV", "e.3gp", "f.qt", "g.360", "h.f4v", "i.3g2", "j.m4v", "k.mkv", "l.ts"]


def is_refusal(sentence: str | None) -> bool:
    """Whether a sentence names the setting and gives the line, and asks for nothing that is not needed."""
    words = sentence or ""
    return SETTING in words and LINE in words and "onvert" not in words and "ename" not in words


# The folder.


@pytest.mark.parametrize("containers", ["mp4", "all"])
def test_an_mp4_is_taken_from_the_folder_under_any_name_of_a_video(tmp_path: Path, containers: str) -> None:
    bench = Bench(tmp_path, containers=containers)
    for name in NAMES:
        make_clip(bench.folder / name, frames=2, size=(64, 48))
    found = bench.steps(10)
    assert {dropped.path for dropped in found if dropped.reason is None} == set(NAMES)
    bench.inbox.shutdown()


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["{kind}", "mp4"])
def test_the_folder_takes_another_container_under_all_and_refuses_it_under_mp4(
    tmp_path: Path, kind: str, name: str
) -> None:
    for containers in ("all", "mp4"):
        bench = Bench(tmp_path / containers, containers=containers)
        in_container(bench.folder / f"a.{name.format(kind=kind)}", kind, count=3)
        [dropped] = bench.steps(10)
        assert dropped.reason is None if containers == "all" else is_refusal(dropped.reason)
        bench.inbox.shutdown()


@pytest.mark.parametrize("kind", ["mkv", "avi", "flv", "wmv"])
def test_a_half_copied_file_waits_and_is_taken_after_the_timeout_for_what_is_in_it(tmp_path: Path, kind: str) -> None:
    bench = Bench(tmp_path, containers="all")
    path = in_container(bench.folder / f"a.{kind}", kind, count=50)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    assert bench.steps(590) == []
    assert bench.why()[path.name].startswith("It is not complete yet: ")
    [dropped] = bench.steps(20)
    assert dropped.reason is None
    bench.inbox.shutdown()


@pytest.mark.parametrize("kind", ["mkv", "avi", "flv", "wmv", "ts"])
def test_a_copy_that_goes_on_is_taken_once_and_whole(tmp_path: Path, kind: str) -> None:
    bench = Bench(tmp_path, containers="all")
    path = bench.folder / f"a.{kind}"
    whole = in_container(tmp_path / "source", kind, count=50).read_bytes()
    with path.open("wb") as file:
        for start in range(0, len(whole), len(whole) // 5 + 1):
            file.write(whole[start : start + len(whole) // 5 + 1])
            file.flush()
            assert bench.steps(20) == []
    [dropped] = bench.steps(10)
    assert (dropped.path, dropped.identity.size, dropped.reason) == (path.name, len(whole), None)
    bench.inbox.shutdown()


@pytest.mark.parametrize(("kind", "seconds"), [("mkv", 2), ("ts", 10), ("mpg", 10)])
def test_where_nobody_sees_the_writer_a_stream_without_an_end_is_given_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seconds: int
) -> None:
    monkeypatch.setattr(stability, "has_writer", lambda _: None)  # as on a share
    bench = Bench(tmp_path, containers="all", settle_seconds=2)
    in_container(bench.folder / f"a.{kind}", kind, count=50)
    assert bench.steps(seconds - 0.5) == []
    [dropped] = bench.steps(4)
    assert dropped.reason is None
    bench.inbox.shutdown()


# The command line.


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "ts", "m2ts", "mpg", "flv", "wmv", "mp4"])
def test_submit_takes_what_the_setting_says(tmp_path: Path, kind: str) -> None:
    for name in ("inbox", "outbox", "data"):
        (tmp_path / name).mkdir()
    clip = in_container(tmp_path / f"a.{kind}", kind, count=3)
    if kind != "mp4":
        with pytest.raises(BadVideo) as refused:
            run("submit", clip, "--home", tmp_path)
        assert is_refusal(str(refused.value))
    (tmp_path / "dropframe.toml").write_text('containers = "all"\n')
    assert run("submit", clip, "--home", tmp_path)[0] == 0
    assert len(list((tmp_path / "data" / "spool").glob("*.mp4"))) == 1


# HTTP.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("containers", ["mp4", "all"])
def test_uploads_go_by_the_setting_whatever_name_and_type_they_are_given(
    tmp_path: Path, kind: str, containers: str
) -> None:
    data = in_container(tmp_path / "source", kind, count=3).read_bytes()
    taken = containers == "all" or kind == "mp4"

    async def work(client: Client) -> None:
        answers = [
            await client.put("/v1/video/submit/a.mp4", content=data, headers={"content-type": "video/mp4"}),
            await client.put(f"/v1/video/submit/a.{kind}", content=data, headers={"content-type": "text/plain"}),
            await client.post("/v1/video/submit", files={"file": ("a.txt", data)}),
        ]
        for answer in answers:
            if taken:
                assert answer.status_code == 201, answer.text
                video = await client.get(f"/v1/jobs/{answer.json()['job_id']}/video")
                assert video.content == data
                assert (video.headers["content-type"] == "video/mp4") == (kind == "mp4")
            else:
                assert answer.status_code == 400
                assert is_refusal(check_problem(answer)["detail"])

    call(tmp_path, work, containers=containers, max_queue=100, min_free_bytes=0)


def test_a_video_is_sent_with_the_media_type_of_its_content(tmp_path: Path) -> None:
    expected = {"webm": "video/webm", "mkv": "video/matroska", "ts": "video/mp2t", "avi": "video/x-msvideo"}
    jobs = {kind: new_job_id() for kind in expected}
    with JobStore.open(tmp_path / "data") as store:
        for kind, job_id in jobs.items():
            path = tmp_path / "data" / input_key(job_id)
            path.parent.mkdir(exist_ok=True)
            in_container(path, kind, count=2)
            store.create([Job(job_id, input_path=input_key(job_id), source_name=f"a.{kind}")])
            assert store.get(job_id).status is JobStatus.PENDING

    async def work(client: Client) -> None:
        for kind, job_id in jobs.items():
            whole = await client.get(f"/v1/jobs/{job_id}/video")
            part = await client.get(f"/v1/jobs/{job_id}/video", headers={"range": "bytes=5-9"})
            assert (whole.headers["content-type"], part.headers["content-type"]) == (expected[kind],) * 2
            assert part.content == whole.content[5:10]

    call(tmp_path, work)


# A pipeline.


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> VideoFilePipelineService:
    home = tmp_path_factory.mktemp("home")
    return VideoFilePipelineService(Settings.load(home=home, segment_frames=20, containers="all"))


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "m2ts", "mpg", "flv", "wmv"])
def test_a_video_of_any_kind_becomes_a_document(service: VideoFilePipelineService, tmp_path: Path, kind: str) -> None:
    drawn = [draw_frame(index, (480, 320), "GATE 27 OPEN") for index in range(30)]
    clip = in_container(tmp_path / f"a.{kind}", kind, pictures=drawn, sound=True, options={"b": "2M"})
    told: list[Progress] = []
    report = service.run_on_file(clip, "ocr_only", frame_stride=10, on_progress=told.append)
    document: Any = json.loads(clip.with_name(f"{clip.name}.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert [frame["frame_index"] for frame in document["results"]] == [0, 10, 20]
    assert [frame["result"]["text"] for frame in document["results"]] == ["GATE 27 OPEN"] * 3
    summary = document["summary"]
    assert summary["warnings"] == []
    assert summary["frames_decoded"] == 30
    expected = 30 if kind == "avi" else None
    assert (summary["frames_expected"], document["video"]["frame_count"]) == (expected, expected)
    assert report.frames_total == (3 if kind == "avi" else None)
    assert all(p.frames_total is None or p.frames_processed <= p.frames_total for p in told)


@pytest.mark.slow
def test_a_job_that_was_taken_under_all_is_not_decoded_once_the_setting_is_mp4(tmp_path: Path) -> None:
    """Whoever switches a demuxer off means every file."""
    clip = in_container(tmp_path / "a.mp4", "mkv", count=3)
    narrow = VideoFilePipelineService(Settings.load(home=tmp_path, containers="mp4"))
    with pytest.raises(BadVideo) as refused:
        narrow.run_on_file(clip, "ocr_only")
    assert is_refusal(str(refused.value))
