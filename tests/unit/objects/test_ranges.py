"""A part is the same, to the byte, from a file that holds no more of an object than the part needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import av
import pytest

from daemon.errors import Interrupted
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
from tests.range_clips import LONG, SIZE, STRUCTURES, Maker, coded

pytest.importorskip("obstore")


class Folder(Bucket):
    """One whose object is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = S3Address.of("s3://bucket")
        self.asked: list[tuple[int, int]] = []

    def read(self, wanted: RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        stop = wanted.size if end is None else end
        self.asked.append((start, stop))
        with self.path.open("rb") as file:
            file.seek(start)
            yield file.read(stop - start)


def fetched(clip: Path, plan: PartPlan, number: int, target: Path) -> list[tuple[int, int]] | None:
    """Fetch what a part needs; return what is there then."""
    spans = fetch_range(Folder(clip), remote(clip), plan, number, target)
    return None if spans is None else [(span.start, span.end) for span in spans]


def remote(path: Path) -> RemoteObject:
    return RemoteObject(path.name, '"etag"', path.stat().st_size, datetime.now(UTC))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The clips of tests are small, and so is what is fetched of them besides their parts."""
    monkeypatch.setattr(ranges, "HEAD_BYTES", 2000)
    monkeypatch.setattr(ranges, "AHEAD_BYTES", 2000)
    monkeypatch.setattr(ranges, "MOST_SHARE", 0.95)
    return Bench(tmp_path / "home", monkeypatch)


def made(
    bench: Bench, plan: PartPlan, number: int, clip: Path, spans: Sequence[tuple[int, int]] | None = None
) -> bytes | None:
    """Return a part; None if the video is not as the plan says."""
    output = clip.with_name("part")
    try:
        bench.service.parts.run_part(plan, number, clip, output, spans=spans)
    except NotExact:
        return None
    return output.read_bytes()


FAST = ("b-frames", "index first", "open groups", "edited at both ends", "damaged")


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
        spans = fetched(clip, plan, number, sparse)
        assert sparse.stat().st_size == clip.stat().st_size
        if spans is not None:
            assert made(bench, plan, number, sparse, spans) == made(bench, plan, number, clip)


@pytest.mark.parametrize(
    "make", [STRUCTURES["fragments"], STRUCTURES["mkv"], lambda path: coded(path, "mpeg1video", {"g": "12"})]
)
def test_all_of_a_file_is_needed_whose_frames_are_not_in_one_index(tmp_path: Path, bench: Bench, make: Maker) -> None:
    clip = make(tmp_path / "a.mp4")
    plan = bench.plan(clip)
    assert plan is not None
    assert fetched(clip, plan, 0, tmp_path / "sparse") is None
    assert (tmp_path / "sparse").stat().st_blocks * 512 < clip.stat().st_size


def test_all_is_fetched_once_of_a_file_whose_parts_would_each_need_most_of_it(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25)
    size = clip.stat().st_size
    with clip.open("ab") as file:
        file.write((2 * size).to_bytes(4) + b"free" + bytes(2 * size - 8))
    plan = bench.plan(clip)
    assert plan is not None
    monkeypatch.undo()
    bucket = Folder(clip)
    assert fetch_range(bucket, remote(clip), plan, 1, tmp_path / "sparse") is None
    assert sum(end - start for start, end in bucket.asked) < size + ranges.HEAD_BYTES


def test_of_a_long_video_little_is_fetched_and_nothing_twice(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    bucket, number = Folder(clip), len(plan) // 2
    announced: list[int] = []
    sparse = tmp_path / "sparse"
    spans = fetch_range(bucket, remote(clip), plan, number, sparse, require_room=announced.append)
    assert spans is not None
    there = [byte for span in spans for byte in range(span.start, span.end)]
    assert len(there) < clip.stat().st_size / 5
    assert announced == [len(there)]
    assert sorted(byte for start, end in bucket.asked for byte in range(start, end)) == there
    whole, part = clip.read_bytes(), sparse.read_bytes()
    assert all(part[span.start : span.end] == whole[span.start : span.end] for span in spans)
    assert (tmp_path / "sparse").stat().st_blocks * 512 < clip.stat().st_size / 2


def test_a_part_whose_bytes_were_not_fetched_is_refused_and_not_made_up(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=20 * LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    spans = fetched(clip, plan, 1, tmp_path / "sparse")
    assert made(bench, plan, len(plan) - 2, tmp_path / "sparse", spans) is None


def test_a_frame_of_which_some_is_missing_is_refused_though_the_decoder_takes_zeros(
    tmp_path: Path, bench: Bench
) -> None:
    """As in a file whose index has a frame of the part at the edge of what is fetched."""
    clip = STRUCTURES["vp9"](tmp_path / "a.mp4")
    plan = bench.plan(clip)
    assert plan is not None
    with av.open(clip) as container:
        places = [(packet.pos or 0, packet.size) for packet in container.demux(video=0)]
    sparse, content = tmp_path / "sparse", bytearray(clip.read_bytes())
    end = sum(places[30])
    hole = end - places[30][1] // 2
    content[hole:end] = bytes(end - hole)
    sparse.write_bytes(content)
    there = [(0, hole), (end, len(content))]
    assert made(bench, plan, 1, sparse) not in (None, made(bench, plan, 1, clip)), "a picture that was never taken"
    assert made(bench, plan, 1, sparse, there) is None
    assert made(bench, plan, 2, sparse, there) == made(bench, plan, 2, clip)


def test_what_a_decoder_still_holds_at_the_end_of_what_is_there_is_enough(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE, gop=25, b_frames=2)
    plan = bench.plan(clip)
    assert plan is not None
    end = int(plan.index.entries[2, 2] + plan.index.entries[2, 3])  # of the entry behind the part
    begin = clip.read_bytes().index(b"moov")
    assert made(bench, plan, 1, clip, [(0, end), (begin, clip.stat().st_size)]) == made(bench, plan, 1, clip)


def test_places_that_make_no_sense_are_not_fetched(tmp_path: Path, bench: Bench) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE, gop=25)
    plan = bench.plan(clip)
    assert plan is not None
    size = clip.stat().st_size
    for place in (-(1 << 62), -1, size, 1 << 62):
        entries = plan.index.entries.copy()
        entries[:, 2] = place
        odd, sparse = replace(plan, index=replace(plan.index, entries=entries)), tmp_path / f"sparse-{place}"
        spans = fetched(clip, odd, 1, sparse)
        assert spans is not None
        assert all(0 <= start < end <= size for start, end in spans)
        assert made(bench, plan, 1, sparse, spans) is None


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
        spans = fetch_range(bucket, found, plan, len(plan) - 2, tmp_path / "sparse")
    assert spans is not None
    there = [(span.start, span.end) for span in spans]
    assert sum(end - start for start, end in there) < clip.stat().st_size / 4
    assert made(bench, plan, len(plan) - 2, tmp_path / "sparse", there) == made(bench, plan, len(plan) - 2, clip)
