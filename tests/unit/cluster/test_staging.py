"""A slot on a machine that shares no folder with the daemon, and the daemon's end of the storage between them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.cluster import exchange as exchange_module
from daemon.cluster import transfers
from daemon.cluster.exchange import Exchange
from daemon.cluster.node_folder import NodeFolder, node_folder, settings_on_node
from daemon.cluster.remote import StagedProcess
from daemon.cluster.staging import Staging
from daemon.errors import (
    BadVideo,
    Interrupted,
    MachineError,
    NodeLost,
    ObjectChanged,
    ObjectRefused,
    ObjectStoreError,
    ResourceUnavailable,
)
from daemon.jobs import Job, JobSource, JobStatus, Options, new_job_id, output_key
from daemon.objects import ranges
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.objects.entries import Entry
from daemon.pipeline.client import Ready
from daemon.pipeline.parts import join
from daemon.pipeline.plans import PartPlan
from daemon.pipeline.records import Progress, RunReport
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.seams import NotExact
from daemon.s3_address import S3Address
from daemon.settings import Settings
from tests.clips import make_clip
from tests.object_storage import KEY_ID, SECRET, Service, running_service
from tests.picture_stage import Bench as Pictures
from tests.picture_stage import counted
from tests.range_clips import SIZE

pytest.importorskip("obstore")
pytestmark = pytest.mark.needs("moto")

HOME = "s3://shared/dropframe/home-1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("moto") / "log") as service:
        service.make("shared")
        yield service


class Played:
    """A pipeline process of the machine, whose work is done in this one."""

    starts_for_work = True

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.ready: Ready | None = None
        self.videos: list[tuple[int, int]] = []
        """Bytes that each video took on the disk, and its size."""
        self.plans = 0
        """Those that it has made."""
        self.told_of: list[Any] = []
        """For each part the bytes that it was told are there."""
        self.refuses_holes: Exception | None = None

    @property
    def is_up(self) -> bool:
        return self.ready is not None

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> Ready:
        self.ready = Ready("cpu", [])
        return self.ready

    def plan(
        self, request: RunRequest, path: Path, should_stop: Callable[[], bool] = lambda: False, least_parts: int = 1
    ) -> bool:
        self._seen(request.file_path)
        if path.exists():
            return True
        options = Options(request.frame_stride, request.max_frames)
        plan = self.pictures.service.parts.plan(
            request.file_path, "pictures", options, group_seconds=0.01, source_name=request.source_name
        )
        assert plan is not None
        plan.save(path)
        self.plans += 1
        return True

    def run_part(
        self,
        request: PartRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        has_holes = self._seen(request.file_path)
        self.told_of.append(request.spans)
        if self.refuses_holes is not None and has_holes:
            raise self.refuses_holes
        parts, plan = self.pictures.service.parts, PartPlan.load(request.plan_path)
        return parts.run_part(plan, request.number, request.file_path, request.output_path, spans=request.spans)

    def run(
        self,
        request: RunRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        self._seen(request.file_path)
        return self.pictures.service.run_on_file(
            request.file_path, "pictures", output_path=request.output_path, source_name=request.source_name
        )

    def _seen(self, video: Path) -> bool:
        status = video.stat()
        self.videos.append((status.st_blocks * 512, status.st_size))
        return status.st_blocks * 512 < status.st_size

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.ready = None


class Machine:
    """A machine with one slot, which its daemon reaches as through a driver process."""

    def __init__(self, settings: Settings, pictures: Pictures) -> None:
        self.process = Played(pictures)
        self.staging = Staging(settings)
        self.before: Callable[[], None] = lambda: None

    def ready(self, slot: int) -> Ready | None:
        return self.process.ready

    def release(self, slot: int) -> None:
        self.process.close()

    def call(
        self,
        slot: int,
        kind: str,
        wanted: Mapping[str, Any],
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Mapping[str, Any]:
        self.before()
        said = json.loads(json.dumps({"kind": kind, **wanted}))
        report: Mapping[str, Any] = json.loads(json.dumps(self.staging(self.process, said, on_progress, should_stop)))
        return report


class Bench:
    """A daemon with a job, a bucket, and a machine that has a folder of its own."""

    def __init__(self, home: Path, service: Service, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.service = service
        self.pictures = Pictures(home, monkeypatch)
        self.settings = Settings.load(
            home=home, s3_endpoint=service.url, cluster_store=HOME, inbox_store="s3://shared/in", **settings
        )
        self.settings.videos_dir.mkdir(parents=True, exist_ok=True)
        self.jobs: dict[str, Job] = {}
        self.entries: dict[str, Entry] = {}
        self.exchange = self.new_exchange()
        self.machine = Machine(self.settings, self.pictures)
        self.remote = StagedProcess(self.machine, 0, self.exchange)  # type: ignore[arg-type]

    def new_exchange(self) -> Exchange:
        return Exchange(self.settings, self.jobs.get, self.entries.get)

    def job(self, clip: Path) -> RunRequest:
        """Take in a video."""
        job = Job(job_id=new_job_id(), source_name=clip.name, source=JobSource.HTTP, pipeline_id="pictures", sequence=1)
        self.jobs[job.job_id] = replace(job, status=JobStatus.RUNNING)
        video = self.settings.videos_dir / f"{job.job_id}.mp4"
        shutil.copy(clip, video)
        output = self.settings.data_dir / output_key(job.job_id)
        return RunRequest(video, "pictures", 1, None, output, clip.name)

    def end(self, request: RunRequest) -> None:
        job_id = request.file_path.stem
        self.jobs[job_id] = replace(self.jobs[job_id], status=JobStatus.COMPLETED)

    def plan(self, request: RunRequest) -> PartPlan:
        request.parts.mkdir(exist_ok=True)
        assert self.remote.plan(request, request.parts / "plan")
        return PartPlan.load(request.parts / "plan")

    def part(self, request: RunRequest, number: int) -> Path:
        path = request.parts / f"{number:06}"
        self.remote.run_part(PartRequest(request.parts / "plan", number, request.file_path, path))
        return path

    def objects(self) -> list[str]:
        return [key.removeprefix("dropframe/home-1/") for key in self.service.keys("shared")]

    def scratch(self) -> list[str]:
        [slot] = (node_folder(self.settings) / "slots").iterdir()
        return sorted(path.name for path in slot.iterdir() if path.name != ".lock")


@pytest.fixture
def bench(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(ranges, "HEAD_BYTES", 2000)
    monkeypatch.setattr(ranges, "AHEAD_BYTES", 2000)
    monkeypatch.setattr(transfers, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 0.05)
    bench = Bench(tmp_path / "home", service, monkeypatch, min_free_bytes=0)
    bench.remote.start()
    yield bench
    for key in service.keys("shared"):
        service.delete("shared", key)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "a.mp4", frames=500, size=SIZE, gop=25, b_frames=2, crf=10)


def test_parts_of_ranges_are_joined_to_the_document_of_the_whole_and_nothing_stays(bench: Bench, clip: Path) -> None:
    expected = bench.pictures.document(clip)
    request = bench.job(clip)
    plan = bench.plan(request)
    bench.remote._due = 0
    bench.remote.start()  # an idle slot keeps no video
    assert bench.scratch() == []
    paths = [bench.part(request, number) for number in range(len(plan))]
    join(plan, paths, request.output_path)
    assert request.output_path.read_bytes() == expected
    whole, *parts = bench.machine.process.videos
    assert whole[0] >= whole[1]
    assert len(parts) == len(plan) > 10
    assert max(taken for taken, size in parts) < clip.stat().st_size / 3
    told = [sum(end - start for start, end in spans) for spans in bench.machine.process.told_of]
    assert max(told) < clip.stat().st_size / 3
    assert [name.split("-")[0] for name in bench.scratch()] == ["plan"]
    job_id = request.file_path.stem
    assert [key.split("-")[-2].rpartition("/")[2] for key in bench.objects()] == ["plan", "source"]
    bench.exchange.tidy()
    assert all(job_id in key for key in bench.objects())
    bench.end(request)
    bench.exchange.tidy()
    assert bench.objects() == []


def test_a_video_in_one_piece_is_fetched_once_and_nothing_of_an_earlier_attempt_stays(bench: Bench, clip: Path) -> None:
    expected = bench.pictures.document(clip)
    request = bench.job(clip)
    checkpoint = Path(f"{request.output_path}.checkpoint")
    checkpoint.write_text("of the time before the cluster")
    bench.plan(request)
    report = bench.remote.run(request)
    assert request.output_path.read_bytes() == expected
    assert report.frames_processed == 500
    assert bench.machine.staging._fetched == 0, "it was there from the plan"
    assert not checkpoint.exists()


@pytest.mark.parametrize("error", [NotExact("a hole"), BadVideo("It has no pictures.")])
def test_what_a_range_is_not_enough_for_is_made_of_the_whole(bench: Bench, clip: Path, error: Exception) -> None:
    request = bench.job(clip)
    bench.plan(request)
    bench.remote._due = 0
    bench.remote.start()
    bench.machine.process.refuses_holes = error
    made = bench.part(request, 3).read_bytes()
    assert [taken < size for taken, size in bench.machine.process.videos[1:]] == [True, False]
    bench.machine.process.refuses_holes = None
    (request.parts / "000003").unlink()
    assert bench.part(request, 3).read_bytes() == made
    assert bench.machine.staging._fetched == 0, "the whole is kept as long as the slot is busy"


def test_a_video_whose_parts_need_all_of_it_is_fetched_once(bench: Bench, tmp_path: Path) -> None:
    request = bench.job(make_clip(tmp_path / "b.mp4", frames=150, size=SIZE, gop=25, fragmented=True))
    plan = bench.plan(request)
    bench.remote._due = 0
    bench.remote.start()
    fetched = []
    for number in range(len(plan)):
        bench.part(request, number)
        fetched.append(bench.machine.staging._fetched)
    size = request.file_path.stat().st_size
    assert [bytes_ >= size for bytes_ in fetched] == [True] + [False] * (len(plan) - 1)
    assert [taken >= size for taken, _ in bench.machine.process.videos] == [True] * (len(plan) + 1)


def test_a_video_that_is_not_exact_as_a_whole_either_is_told_as_such(bench: Bench, clip: Path) -> None:
    request = bench.job(clip)
    bench.plan(request)
    other = bench.settings.home / "other.mp4"
    make_clip(other, frames=300, size=SIZE, gop=25)
    shutil.copy(other, request.file_path)
    with pytest.raises(NotExact):
        bench.part(request, 3)


def test_a_plan_that_an_earlier_process_made_is_gone_on_with(bench: Bench, clip: Path) -> None:
    request = bench.job(clip)
    bench.plan(request)
    before = (request.parts / "plan").read_bytes()
    bench.plan(request)
    assert (request.parts / "plan").read_bytes() == before
    assert bench.machine.process.plans == 1


def test_a_source_is_put_once_and_anew_if_it_is_gone_or_another(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = bench.job(clip)
    with counted(Bucket, "put", monkeypatch) as puts:
        first = bench.exchange.source(request.file_path, lambda: False)
        assert bench.exchange.source(request.file_path, lambda: False) == first
    assert len(puts) == 1
    bench.service.delete("shared", f"dropframe/home-1/{first.key}")
    bench.machine.before = lambda: bench.service.delete("shared", f"dropframe/home-1/{first.key}")
    with pytest.raises(ResourceUnavailable, match="There is no object"):
        bench.plan(request)
    bench.machine.before = lambda: None
    bench.plan(request)
    os.utime(request.file_path, ns=(1, 1))
    assert bench.exchange.source(request.file_path, lambda: False).key != first.key


def test_an_object_of_the_inbox_store_is_the_source_as_long_as_it_is_the_same(bench: Bench, clip: Path) -> None:
    request = bench.job(clip)
    job_id = request.file_path.stem
    bench.service.put("shared", "in/a.mp4", clip.read_bytes())
    found = Bucket(S3Address.of("s3://shared/in"), bench.settings).find("a.mp4")
    assert found is not None
    bench.entries[job_id] = replace(Entry.of("s3://shared/in", found), job_id=job_id)
    assert bench.exchange.source(request.file_path, lambda: False).address == "s3://shared/in"
    bench.plan(request)
    bench.part(request, 0)
    bench.end(request)
    bench.exchange.tidy()
    assert bench.service.keys("shared") == ["in/a.mp4"]
    bench.service.put("shared", "in/a.mp4", b"another")
    assert bench.exchange.source(request.file_path, lambda: False).address == HOME


def test_a_start_deletes_what_ended_jobs_have_left_and_nothing_of_others(bench: Bench, clip: Path) -> None:
    waiting, ended = bench.job(clip), bench.job(clip)
    for request in (waiting, ended):
        bench.exchange.source(request.file_path, lambda: False)
    bench.end(ended)
    other = bench.new_exchange()
    bench.service.put("shared", "dropframe/home-2/jobs/x/source-1", b"1")
    bench.service.put("shared", "dropframe/home-1/jobs/deleted-job/made-1", b"1")
    bench.service.put("shared", "dropframe/home-1/models/1234", b"1")
    other.tidy()
    left = bench.service.keys("shared")
    assert [key for key in left if "home-2" in key] == ["dropframe/home-2/jobs/x/source-1"]
    assert [key.split("/")[3] for key in left if "home-1" in key] == [waiting.file_path.stem]


def test_what_a_slot_puts_too_late_is_deleted_once_it_must_have_ended(bench: Bench, clip: Path) -> None:
    request = bench.job(clip)
    job_id = request.file_path.stem
    bench.exchange.source(request.file_path, lambda: False)
    bench.end(request)
    bench.exchange.tidy()
    bench.service.put("shared", f"dropframe/home-1/jobs/{job_id}/made-late", b"1")
    bench.exchange.tidy()
    assert len(bench.objects()) == 1
    bench.exchange._held[job_id] = time.monotonic() - bench.settings.silent_seconds
    bench.exchange.tidy()
    assert bench.objects() == []
    assert not bench.exchange._held


def test_weights_reach_a_machine_by_checksum_and_others_take_their_place(bench: Bench) -> None:
    models, there = bench.settings.models_dir, settings_on_node(bench.settings).models_dir
    (models / "text").mkdir(parents=True)
    (models / "first.pt").write_bytes(b"first weights")
    (models / "text" / "cyrillic.onnx").write_bytes(b"letters")

    def start() -> dict[str, bytes]:
        bench.remote._due = 0
        bench.remote.start()
        return {str(path.relative_to(there)): path.read_bytes() for path in there.rglob("*.*") if path.is_file()}

    assert start() == {"first.pt": b"first weights", "text/cyrillic.onnx": b"letters"}
    inode = (there / "first.pt").stat().st_ino
    assert start()
    assert (there / "first.pt").stat().st_ino == inode
    (there / "first.pt").write_bytes(b"damaged")
    bench.machine.staging._models = ()  # as of a slot that starts
    assert start()["first.pt"] == b"first weights"
    (models / "first.pt").unlink()
    assert "first.pt" in start(), "what was taken away is not missed"
    shutil.copy(make_archive(models / "second"), models / "second.pt")
    assert sorted(start()) == ["second.pt", "text/cyrillic.onnx"]
    bench.machine.process.close()
    for key in bench.service.keys("shared"):
        bench.service.delete("shared", key)
    shutil.rmtree(there)
    assert sorted(start()) == ["second.pt", "text/cyrillic.onnx"], "they are put again"


def make_archive(path: Path) -> str:
    (path / "model").mkdir(parents=True)
    return shutil.make_archive(str(path), "zip", path)


def test_no_video_is_to_blame_for_a_machine_without_room_or_without_the_bucket(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = bench.job(clip)
    monkeypatch.setattr(bench.machine.staging._disk, "least", 1 << 60)
    with pytest.raises(NodeLost, match="has no room for a video"):
        bench.plan(request)
    assert not bench.machine.process.is_up, "another machine may have"
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def fail(*_: Any) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.remote._due = 0
    bench.remote.start()
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "read", fail)
        with pytest.raises(NodeLost, match="No space left on device"):
            bench.plan(request)
    bench.machine.process.close()
    bench.machine.staging._disk.least = 1 << 60
    bench.remote._due = 0
    with pytest.raises(NodeLost, match="has no room"):
        bench.remote.start()
    away = bench.settings.model_copy(update={"cluster_store": "s3://no-such-bucket"})
    start = {"kind": "start", "models": [], "probe": "jobs/starts/made-1"}
    with pytest.raises(NodeLost, match="no bucket"):
        Staging(away)(bench.machine.process, start, lambda p: None, lambda: False)


def test_a_machine_that_may_not_put_anything_gets_no_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.machine.process.close()
    bench.remote._due = 0
    bench.remote.start()
    assert bench.objects() == [], "what it has put to see whether it can is deleted"
    bench.machine.process.close()
    bench.remote._due = 0

    def refuse(*_: Any) -> None:
        raise ObjectRefused("Access to s3://shared/dropframe is denied.")

    monkeypatch.setattr(Bucket, "put", refuse)
    with pytest.raises(NodeLost, match="is denied"):
        bench.remote.start()
    assert not bench.machine.process.is_up


def test_a_transfer_ends_when_it_is_to_and_nothing_is_left_of_it(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = bench.job(clip)
    with pytest.raises(Interrupted):
        bench.exchange.source(request.file_path, lambda: True)
    assert bench.objects() == []
    bench.plan(request)
    bench.service.put("shared", "dropframe/home-1/jobs/x/made-1", b"torn")
    target = bench.settings.home / "target"
    with pytest.raises(Interrupted):
        bench.exchange.take("jobs/x/made-1", "0" * 64, target, lambda: True)
    with pytest.raises(ObjectChanged):
        bench.exchange.take("jobs/x/made-1", "0" * 64, target, lambda: False)
    assert not target.exists()


class Clock:
    """Goes on by as much as each try takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(transfers, "time", self)
        monkeypatch.setattr(transfers, "PATIENCE_SECONDS", 60.0)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("seconds", [0.0, 59.0, 120.0])
def test_storage_that_fails_is_given_up_however_long_each_try_takes(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock, tries = Clock(monkeypatch), 0

    def work() -> None:
        nonlocal tries
        tries += 1
        assert tries < 100_000, "it is tried for ever"
        clock.now += seconds
        raise ObjectStoreError("It is away.")

    with pytest.raises(ObjectStoreError):
        transfers.keep_trying(work, lambda: False)
    assert tries > 1
    assert clock.now <= 3 * max(seconds, 60.0)


def test_a_transfer_that_gets_on_between_two_failures_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, have = Clock(monkeypatch), 0

    def work() -> None:
        nonlocal have
        clock.now += 120
        have += 1
        if have < 10:
            raise ObjectStoreError("The line is cut.")

    transfers.keep_trying(work, lambda: False, lambda: have)
    assert have == 10


def test_a_slot_that_is_never_idle_keeps_no_plan_of_an_earlier_video_and_no_part_of_one(
    bench: Bench, clip: Path, tmp_path: Path
) -> None:
    jobs = [bench.job(clip), bench.job(Path(shutil.copy(clip, tmp_path / "b.mp4")))]
    for request in jobs:
        bench.plan(request)
    bench.machine.staging._clear("*")
    part = PartRequest(jobs[0].parts / "plan", 5, jobs[0].file_path, jobs[0].parts / "5")

    def is_begun() -> bool:
        return any(name.startswith("sparse-") for name in bench.scratch())

    with pytest.raises(Interrupted):
        bench.remote.run_part(part, should_stop=is_begun)
    assert is_begun()
    bench.part(jobs[1], 3)
    assert [name.split("-")[0] for name in bench.scratch()] == ["plan"]


def test_a_line_that_is_cut_again_and_again_brings_a_video_in_the_end_and_no_byte_twice(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, come = Bucket.read, []

    def cut(self: Bucket, wanted: RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        if "source-" not in wanted.key:
            yield from read(self, wanted, start, end)
            return
        content = clip.read_bytes()[start : start + clip.stat().st_size // 20]
        come.append(len(content))
        yield content
        if start + len(content) < wanted.size:
            raise ObjectStoreError("The line is cut.")

    monkeypatch.setattr(Bucket, "read", cut)
    bench.plan(bench.job(clip))
    assert len(come) > 20
    assert sum(come) == clip.stat().st_size


def test_a_slot_that_is_never_idle_gets_other_weights_between_two_jobs(bench: Bench, clip: Path) -> None:
    there = settings_on_node(bench.settings).models_dir
    bench.settings.models_dir.mkdir(parents=True, exist_ok=True)
    (bench.settings.models_dir / "first.pt").write_bytes(b"first weights")
    bench.plan(bench.job(clip))
    assert not (there / "first.pt").exists(), "it has looked just now"
    bench.remote._due = 0
    bench.plan(bench.job(clip))
    assert (there / "first.pt").read_bytes() == b"first weights"


def test_two_jobs_of_one_object_have_a_video_each(bench: Bench, clip: Path) -> None:
    bench.service.put("shared", "in/a.mp4", clip.read_bytes())
    found = Bucket(S3Address.of("s3://shared/in"), bench.settings).find("a.mp4")
    assert found is not None
    for request in (bench.job(clip), bench.job(clip)):
        job_id = request.file_path.stem
        bench.entries[job_id] = replace(Entry.of("s3://shared/in", found), job_id=job_id)
        bench.plan(request)
    assert len(bench.machine.process.videos) == 2


def test_weights_that_are_written_to_while_they_are_put_are_not_kept_under_a_wrong_checksum(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings.models_dir.mkdir(parents=True, exist_ok=True)
    weights = bench.settings.models_dir / "first.pt"
    weights.write_bytes(b"first weights")
    put = Bucket.put

    def exchange(self: Bucket, key: str, content: Any, media_type: str) -> None:
        put(self, key, b"other weights", media_type)
        weights.write_bytes(b"other weights")

    monkeypatch.setattr(Bucket, "put", exchange)
    with pytest.raises(ObjectChanged):
        bench.exchange.models.offered(check=False)
    assert bench.objects() == []
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert [model.name for model in bench.exchange.models.offered(check=False)] == ["first.pt"]


def test_a_large_source_is_sent_in_no_more_parts_than_a_service_takes(
    bench: Bench, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def put(self: Bucket, key: str, content: Iterator[bytes], media_type: str, part_bytes: int) -> None:
        asked.append(part_bytes)

    monkeypatch.setattr(Bucket, "put", put)
    monkeypatch.setattr(Bucket, "find", lambda self, key: RemoteObject(key, "", 90_000, None) if asked else None)
    monkeypatch.setattr(exchange_module, "PART_BYTES", 5)
    bench.exchange._put_once("key", 90_000, lambda: iter([]))
    assert asked == [10]


def test_the_scratch_of_a_slot_that_ended_is_removed_and_that_of_others_is_not(bench: Bench) -> None:
    slots = node_folder(bench.settings) / "slots"
    (slots / "dead").mkdir()
    (slots / "dead" / "whole-a.mp4").write_bytes(b"1")
    [alive] = {path.name for path in slots.iterdir()} - {"dead"}
    second = NodeFolder(bench.settings)
    assert {path.name for path in slots.iterdir()} == {alive, second.scratch.name}


def test_the_folder_of_a_home_is_the_same_whatever_the_address(bench: Bench) -> None:
    other = bench.settings.model_copy(update={"cluster_store": "s3://other/bucket/home-1"})
    assert node_folder(other) == node_folder(bench.settings)
    assert node_folder(other) != node_folder(other.model_copy(update={"cluster_store": "s3://other/bucket/home-2"}))


def test_a_folder_that_another_user_has_made_is_not_used(bench: Bench, tmp_path: Path) -> None:
    settings = bench.settings.model_copy(update={"cluster_store": "s3://shared/else"})
    node_folder(settings).symlink_to(tmp_path)
    with pytest.raises(MachineError, match="another user's"):
        NodeFolder(settings)


def test_slots_of_a_machine_prepare_models_one_after_the_other(bench: Bench) -> None:
    other = NodeFolder(bench.settings)
    with other.only_one() as had:
        assert had
        bench.remote._due = 0
        bench.remote.start()  # it is up, and looks for weights another time
        bench.machine.process.close()
        bench.remote._due = 0
        asked = iter([False, True])
        with pytest.raises(Interrupted):
            bench.remote.start(lambda: next(asked))
    bench.remote._due = 0
    bench.remote.start()
    assert bench.machine.process.is_up


def test_settings_of_a_process_there_name_nothing_of_the_daemons_machine(bench: Bench) -> None:
    told = bench.settings.model_copy(update={"weights": Path("/models/a.pt")})
    there = settings_on_node(told)
    assert there.weights is None
    assert there.models_dir.is_relative_to(node_folder(bench.settings))
