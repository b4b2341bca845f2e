"""Faults of results (group E), with real processes: consumers that take them away, equal names, exchanges, links."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from daemon.jobs import Job, JobSource, JobStatus, new_job_id, output_key
from daemon.store.job_store import JobStore
from tests.clips import make_clip
from tests.sidecar_process import running_sidecar
from tests.system.running import running, wait_for

pytestmark = pytest.mark.slow

COMPLETED = JobStatus.COMPLETED


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=3, text="GOAL 42")


def test_a_consumer_that_takes_every_result_away_at_once_gets_each_exactly_once(tmp_path: Path, clip: Path) -> None:
    taken: list[str] = []
    stop = threading.Event()
    names = ["a.mp4", "b.mp4", "ocr_only/c.mp4"]

    def consume(outbox: Path) -> None:
        while not stop.is_set():
            for path in outbox.rglob("*.json"):
                if not path.name.startswith("."):
                    assert json.loads(path.read_bytes())["schema"] == "dropframe.results/1"
                    taken.append(str(path.relative_to(outbox)))
                    path.unlink()

    with running(tmp_path) as daemon:
        consumer = threading.Thread(target=consume, args=(daemon.outbox,))
        consumer.start()
        try:
            for name in names:
                daemon.drop(clip, name)
            for name in names:
                assert daemon.wait_job(name).status is COMPLETED
            wait_for(lambda: len(taken) == len(names), 10)
            daemon.stop()
            daemon.start()  # a new start publishes nothing again
            daemon.wait_ready()
            daemon.drop(clip, "d.mp4")
            assert daemon.wait_job("d.mp4").status is COMPLETED
            wait_for(lambda: "d.mp4.json" in taken, 10)
        finally:
            stop.set()
            consumer.join()
        assert sorted(taken) == ["a.mp4.json", "b.mp4.json", "d.mp4.json", "ocr_only/c.mp4.json"]
        assert [job.status for job in daemon.jobs()] == [COMPLETED] * 4
        assert len(list((daemon.data / "video_jobs").glob("*_results.json"))) == 4, "the record stays"


def test_names_that_differ_in_nothing_but_case_or_spelling_give_a_result_each(tmp_path: Path, clip: Path) -> None:
    names = ["Match.mp4", "match.mp4", "MATCH.MP4", "Ka\u0308se.mp4", "K\u00e4se.mp4"]
    with running(tmp_path) as daemon:
        for name in names:
            daemon.drop(clip, name)
        for name in names:
            assert daemon.wait_job(name).status is COMPLETED
        assert sorted(daemon.results()) == sorted(f"{name}.json" for name in names)
        for name in names:
            assert json.loads(daemon.results()[f"{name}.json"])["source"]["name"] == name


def test_a_result_that_is_exchanged_while_it_is_served_is_served_as_it_was(tmp_path: Path) -> None:
    job_id = new_job_id()
    document = tmp_path / "data" / output_key(job_id)
    document.parent.mkdir(parents=True)
    frames = ",\n".join(f'{{"frame_index": {n}, "result": {{"text": "{n:0>2000}"}}}}' for n in range(20_000))
    whole = (
        '{"models": [],\n"options": {},\n"pipeline_id": "yolo_ocr",\n"results": [\n'
        + frames
        + '\n],\n"schema": "dropframe.results/1",\n"source": {},\n"summary": {},\n"video": {}\n}\n'
    )
    document.write_text(whole)
    with JobStore.open(tmp_path / "data") as store:
        store.create([Job(job_id, status=COMPLETED, source=JobSource.HTTP, output_path=output_key(job_id))])
    with running_sidecar(tmp_path) as sidecar:
        asked = f"GET /v1/video/results/{job_id} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
        with sidecar.connect() as connection:
            connection.sendall(asked.encode())
            received = bytearray(connection.recv(4096))  # the rest of 40 MB does not fit between us
            other = document.with_name(".other")
            other.write_text("{}")
            other.replace(document)
            while data := connection.recv(1 << 16):
                received += data
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    assert int(length) == len(body)
    told = json.loads(body)
    assert told["job_id"] == job_id
    texts = [frame["result"]["text"] for frame in told["results"]]
    assert hashlib.sha256("".join(texts).encode()).hexdigest() == (
        hashlib.sha256("".join(f"{n:0>2000}" for n in range(20_000)).encode()).hexdigest()
    )


def test_a_link_planted_in_the_outbox_of_a_running_daemon_is_replaced_not_written_through(
    tmp_path: Path, clip: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    with running(tmp_path) as daemon:
        (daemon.outbox / "a.mp4.json").symlink_to(canary)
        (daemon.outbox / "a.mp4.error.json").symlink_to(canary)
        daemon.drop(clip, "a.mp4")
        assert daemon.wait_job("a.mp4").status is COMPLETED
        assert not (daemon.outbox / "a.mp4.json").is_symlink()
        assert list(daemon.results()) == ["a.mp4.json"]
    assert canary.read_text() == "alive"
    assert os.listdir(daemon.outbox) == ["a.mp4.json"]
