"""A video that is run in parts gives the document of one run, to the byte, or is said to need a run in one piece."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.errors import BadVideo, Interrupted, ModelError
from daemon.jobs import Options
from daemon.pipeline.frame_index import FrameIndex
from daemon.pipeline.parts import LINE_BYTES, PartDamaged, _last_line, join
from daemon.pipeline.plans import PartPlan, PlanDamaged, cut
from daemon.pipeline.records import Analysis, Frame, Progress, TextBlock
from daemon.pipeline.results import MOST_TEXTS, Summary, recorded_facts
from daemon.pipeline.seams import NotExact
from tests.clips import make_clip
from tests.picture_stage import Bench
from tests.range_clips import LONG, SIZE, STRUCTURES
from tests.system.hostile.mutations import mutations
from tests.unit.pipeline.test_video_ranges import MUTATED, REFUSED

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path / "home", monkeypatch)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", frames=LONG, size=SIZE, b_frames=2)


def planned(bench: Bench, clip: Path, **options: Any) -> PartPlan:
    plan = bench.plan(clip, **options)
    assert plan is not None
    return plan


KEPT_FAST = ("b-frames", "fragments", "edited at both ends", "hevc of open groups", "mpeg2.ts with b-frames", "damaged")


@pytest.mark.parametrize("name", KEPT_FAST)
def test_parts_give_the_document_of_one_run(bench: Bench, tmp_path: Path, name: str) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    assert bench.joined(clip) == (None if name in REFUSED else bench.document(clip))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STRUCTURES.keys() - set(KEPT_FAST)))
def test_parts_of_every_structure_give_the_document_of_one_run_or_are_refused(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    joined = bench.joined(clip)
    assert joined in (None, bench.document(clip))
    assert (joined is None) is (name in REFUSED)


@pytest.mark.slow
def test_damaged_files_give_the_document_of_one_run_or_are_refused(bench: Bench, tmp_path: Path) -> None:
    clips = [STRUCTURES[name](tmp_path / f"{number}.mp4").read_bytes() for number, name in enumerate(MUTATED)]
    path, seen = tmp_path / "mutated.mp4", Counter[bool]()
    for (name, data), _ in zip(mutations(clips, 9), range(60), strict=False):
        path.write_bytes(data)
        try:
            joined = bench.joined(path)
        except BadVideo:
            continue
        seen[joined is None] += 1
        assert joined in (None, bench.document(path)), name
    assert min(seen[True], seen[False]) > 5, seen


@pytest.mark.parametrize(
    "options",
    [
        {"frame_stride": 2},
        {"max_frames": 60},
        {"max_frames": 75},
        {"max_frames": LONG},
        {"max_frames": LONG + 1},
        {"frame_stride": 3, "max_frames": 30},
        {"frame_stride": 3, "max_frames": 37},
        {"frame_stride": 3, "max_frames": 900},
    ],
)
def test_options_count_as_in_one_run(bench: Bench, clip: Path, options: dict[str, int]) -> None:
    assert bench.joined(clip, **options) == bench.document(clip, **options)


def test_a_part_is_the_same_file_whoever_makes_it(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    first = [path.read_bytes() for path in bench.parts_of(clip, plan)]
    assert [path.read_bytes() for path in bench.parts_of(clip, plan)] == first


def test_a_part_decodes_little_more_than_its_own_frames(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    bench.videos.clear()
    bench.service.parts.run_part(plan, 2, clip, clip.with_name("part"))
    assert plan.parts[2] == (50, 75)
    assert bench.stage.seen == 25
    assert bench.videos[-1].count.read < 25 + 1 + 20


def test_what_the_record_takes_from_a_joined_document_is_what_it_takes_from_one_run(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    summary = join(plan, bench.parts_of(clip, plan), clip.with_name("joined.json"))
    report = bench.run(clip)
    assert report is not None
    facts = recorded_facts(clip.with_name("joined.json"))
    assert facts == {name: getattr(report, name) for name in facts}
    assert plan.frames_total == report.frames_total
    assert {name: value for name, value in summary.items() if name != "texts"} == report.summary


def test_a_short_video_has_no_parts(bench: Bench, clip: Path) -> None:
    assert bench.plan(clip, group_seconds=90) is None
    assert bench.plan(clip, max_frames=25) is None
    assert len(planned(bench, clip, max_frames=26)) == 2


def test_a_run_of_a_part_that_is_stopped_leaves_nothing(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    before = sorted(clip.parent.iterdir())
    told: list[Progress] = []
    with pytest.raises(Interrupted):
        bench.service.parts.run_part(
            plan, 1, clip, clip.with_name("part"), on_progress=told.append, should_stop=lambda: True
        )
    assert sorted(clip.parent.iterdir()) == before


def test_planning_can_be_stopped(bench: Bench, clip: Path) -> None:
    with pytest.raises(Interrupted):
        bench.service.parts.plan(clip, "pictures", Options(), group_seconds=0.1, should_stop=lambda: True)


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    """Change the last line of a part."""
    *lines, last = path.read_bytes().splitlines()
    said = json.loads(last)
    how(said)
    path.write_bytes(b"\n".join([*lines, json.dumps(said, ensure_ascii=False).encode(), b""]))


@pytest.mark.parametrize(("number", "side"), [(0, "behind"), (1, "first"), (3, "behind")])
@pytest.mark.parametrize("field", ["crc", "timestamp_s", "index"])
def test_parts_that_do_not_meet_are_not_joined(bench: Bench, clip: Path, number: int, side: str, field: str) -> None:
    plan = planned(bench, clip)
    parts = bench.parts_of(clip, plan)
    change(parts[number], lambda said: said[side].update({field: 3}))
    with pytest.raises(NotExact, match=f"part {max(1, number + (side == 'behind'))} does not begin with the frame"):
        join(plan, parts, clip.with_name("joined.json"))
    assert not clip.with_name("joined.json").exists()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is (damaged|not whole)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[9:]), "is not whole"),
        (lambda path: change(path, lambda said: said.update(fingerprint="other")), "is one of something else"),
        (lambda path: change(path, lambda said: said.update(part=[0, 25])), "is one of something else"),
        (lambda path: change(path, lambda said: said["summary"].update(frame_count=24)), "has another number of"),
        (lambda path: change(path, lambda said: said.pop("summary")), "is damaged"),
    ],
)
def test_a_part_that_is_not_whole_is_named_so_that_it_can_be_made_again(
    bench: Bench, clip: Path, how: Callable[[Path], None], why: str
) -> None:
    plan = planned(bench, clip)
    parts = bench.parts_of(clip, plan)
    how(parts[1])
    with pytest.raises(PartDamaged, match=why) as raised:
        join(plan, parts, clip.with_name("joined.json"))
    assert raised.value.number == 1
    assert not clip.with_name("joined.json").exists()


def test_a_part_too_few_is_missing(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    with pytest.raises(PartDamaged, match="Part 4 of the result is missing"):
        join(plan, bench.parts_of(clip, plan)[:-1], clip.with_name("joined.json"))


def test_parts_of_a_video_that_has_changed_are_refused(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    make_clip(clip, frames=LONG, size=SIZE, b_frames=1)
    with pytest.raises(NotExact, match="is not that of the plan"):
        bench.service.parts.run_part(plan, 1, clip, clip.with_name("part"))


def test_a_part_may_be_made_of_a_copy_of_the_video_elsewhere(bench: Bench, clip: Path, tmp_path: Path) -> None:
    plan = planned(bench, clip)
    bench.service.parts.run_part(plan, 1, clip, tmp_path / "part")
    copy = tmp_path / "elsewhere.mp4"
    copy.write_bytes(clip.read_bytes())
    bench.service.parts.run_part(plan, 1, copy, tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (tmp_path / "part").read_bytes()


def test_a_plan_that_is_wrong_about_the_video_is_found_out(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    times = plan.index.times.copy()
    times[60] += 1
    wrong = replace(plan, index=replace(plan.index, times=times))
    with pytest.raises(NotExact, match="frame 60 is not where the index has it"):
        bench.service.parts.run_part(wrong, 2, clip, clip.with_name("part"))
    assert not clip.with_name("part").exists()


def test_objects_that_were_seen_nowhere_fail_a_joined_run_as_they_fail_any(bench: Bench, clip: Path) -> None:
    plan = planned(bench, clip)
    parts = bench.parts_of(clip, plan)
    for path in parts:
        change(path, lambda said: said["summary"].update(frames_unseen=said["summary"]["frame_count"]))
    with pytest.raises(ModelError, match="numbers that are not finite in every frame"):
        join(plan, parts, clip.with_name("joined.json"))


@pytest.mark.parametrize("damage", [b"", b"PK", b"{}"])
def test_a_damaged_plan_is_said_to_be_one(tmp_path: Path, bench: Bench, clip: Path, damage: bytes) -> None:
    (tmp_path / "plan").write_bytes(damage)
    with pytest.raises(PlanDamaged):
        PartPlan.load(tmp_path / "plan")
    planned(bench, clip)
    whole = (tmp_path / "plan").read_bytes()
    for end in (len(whole) // 2, len(whole) - 30):
        (tmp_path / "plan").write_bytes(whole[:end])
        with pytest.raises(PlanDamaged):
            PartPlan.load(tmp_path / "plan")


def index_of(frames: int, entries: list[int]) -> FrameIndex:
    rows = np.array([[at, at, at, 1] for at in entries], np.int64).reshape(-1, 4)
    return FrameIndex(np.arange(frames, dtype=np.int64), rows, frames)


def test_parts_are_whole_segments_of_about_the_length_that_is_asked_for() -> None:
    index = index_of(1000, list(range(0, 1000, 10)))
    assert cut(index, 1000, 1, 250, 600) == [(0, 500), (500, 1000)]
    assert cut(index, 1000, 1, 250, 1) == [(0, 250), (250, 500), (500, 750), (750, 1000)]
    assert cut(index, 334, 3, 100, 100) == [(0, 100), (100, 200), (200, 300), (300, 334)]
    assert cut(index, 1000, 1, 250, 2000) == [(0, 1000)]


def test_parts_get_longer_until_less_is_decoded_in_vain_than_the_video_has() -> None:
    # Parts of 200 frames would have 200, 400, 120 and 320 decoded in vain.
    assert cut(index_of(1000, [0, 480]), 1000, 1, 50, 50) == [(0, 400), (400, 800), (800, 1000)]
    assert cut(index_of(1000, []), 1000, 1, 50, 50) == [(0, 800), (800, 1000)]


def analysis(number: int) -> Analysis:
    block = TextBlock((0, 0, 1, 1), f"line {number}", 1.0)
    return Analysis(Frame(number, 0.0, IMAGE), text_blocks=(block,), text_unread=((0.0, 0.0, 1.0, 1.0),) * (number % 2))


@pytest.mark.parametrize("edge", [1, 700, MOST_TEXTS - 1, MOST_TEXTS, MOST_TEXTS + 1, 1490])
def test_merged_summaries_are_that_of_all_frames(edge: int) -> None:
    frames = [analysis(number % 1200) for number in range(1500)]
    whole, first, second = Summary(), Summary(), Summary()
    for number, frame in enumerate(frames):
        whole.add(frame)
        (first if number < edge else second).add(frame)
    first.merge(Summary.from_record(json.loads(json.dumps(second.to_record()))))
    assert first.to_record() == whole.to_record()


@pytest.mark.parametrize("length", [0, 10, LINE_BYTES - 1, LINE_BYTES, 9 * LINE_BYTES])
@pytest.mark.parametrize("before", [0, 1, 40 * LINE_BYTES])
def test_of_a_part_little_more_than_its_last_line_is_read(tmp_path: Path, length: int, before: int) -> None:
    class Counting(BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.read_bytes += len(found)
            return found

    content = b"\n" * before + b"x" * length + b"\n"
    file = Counting(content)
    assert _last_line(file, len(content)) == b"x" * length
    assert file.read_bytes <= max(LINE_BYTES, 10 * length)
