"""A part is the same, to the byte, from a file that holds no more of an object than the part needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.errors import Interrupted, ObjectStoreError
from daemon.objects import ranges
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.objects.ranges import fetch_range
from daemon.pipeline.frame_index import NotExact
from daemon.pipeline.plans import PartPlan
from daemon.s3_address import S3Address
from daemon.settings import Settings
from tests.clips import make_clip
from tests.object_storage import KEY_ID, SECRET, running_service
from tests.picture_stage import Bench
from tests.range_clips import LONG, SIZE, STRUCTURES

pytest.importorskip("obstore")


class Folder(Bucket):
    """One whose object is a file."""

    def __init__(self, path: Path, cut_short: int = 0) -> None:
        self.path, self.cut_short = path, cut_short
        self.address = S3Address.of("s3://bucket")
        self.asked: list[tuple[int, int]] = []

    def read(self, wanted: RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        stop = wanted.size if end is None else end
        self.asked.append((start, stop))
        with self.path.open("rb") as file:
            file.seek(start)
            yield file.read(stop - start - self.cut_short)


def remote(path: Path) -> RemoteObject:
    return RemoteObject(path.name, '"etag"', path.stat().st_size, datetime.now(UTC))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The clips of tests are small, and so is what is fetched of them besides their parts."""
    monkeypatch.setattr(ranges, "HEAD_BYTES", 2000)
    monkeypatch.setattr(ranges, "AHEAD_BYTES", 2000)
    return Bench(tmp_path / "home", monkeypatch)


def made(bench: Bench, plan: PartPlan, number: int, clip: Path) -> bytes | None:
    """Return a part; None if the video is not as the plan says."""
    output = clip.with_name("part")
    try:
        bench.service.parts.run_part(plan, number, clip, output)
    except NotExact:
        return None
    return output.read_bytes()


FAST = ("b-frames", "index first", "fragments", "open groups", "edited at both ends", "damaged", "mkv")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in STRUCTURES]
)
def test_every_part_is_that_of_the_whole_file(tmp_path: Path, bench: Bench, name: str) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    plan = bench.plan(clip)
    if plan is None:
        return
    for number in range(len(plan)):
        sparse = tmp_path / f"sparse-{number}"
        fetch_range(Folder(clip), remote(clip), plan, number, sparse)
        assert sparse.stat().st_size == clip.stat().st_size
        assert made(bench, plan, number, sparse) == made(bench, plan, number, clip)


def test_of_a_long_video_little_is_fetched_and_nothing_twice(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    bucket, number = Folder(clip), len(plan) // 2
    fetched = fetch_range(bucket, remote(clip), plan, number, tmp_path / "sparse")
    assert fetched < clip.stat().st_size / 5
    assert fetched == sum(end - start for start, end in bucket.asked)
    taken = [byte for start, end in bucket.asked for byte in range(start, end)]
    assert len(set(taken)) == len(taken)
    assert (tmp_path / "sparse").stat().st_blocks * 512 < clip.stat().st_size / 2


def test_a_part_whose_bytes_were_not_fetched_is_refused_and_not_made_up(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    fetch_range(Folder(clip), remote(clip), plan, 1, tmp_path / "sparse")
    assert made(bench, plan, len(plan) - 2, tmp_path / "sparse") is None


def test_an_object_that_ends_too_early_is_not_taken_for_whole(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE)
    plan = bench.plan(clip)
    assert plan is not None
    with pytest.raises(ObjectStoreError, match="ends too early"):
        fetch_range(Folder(clip, cut_short=1), remote(clip), plan, 1, tmp_path / "sparse")


def test_fetching_ends_when_it_is_to(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE)
    plan = bench.plan(clip)
    assert plan is not None
    with pytest.raises(Interrupted):
        fetch_range(Folder(clip), remote(clip), plan, 1, tmp_path / "sparse", lambda: True)


@pytest.mark.needs("moto")
def test_ranges_come_from_a_service_that_speaks_s3(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    with running_service(tmp_path / "log") as service:
        service.make("footage")
        service.put("footage", "in/a.mp4", clip.read_bytes())
        bucket = Bucket(S3Address.of("s3://footage/in"), Settings(home=tmp_path, s3_endpoint=service.url))
        found = bucket.find("a.mp4")
        assert found is not None
        fetched = fetch_range(bucket, found, plan, len(plan) - 2, tmp_path / "sparse")
    assert fetched < os.stat(clip).st_size / 4
    assert made(bench, plan, len(plan) - 2, tmp_path / "sparse") == made(bench, plan, len(plan) - 2, clip)
