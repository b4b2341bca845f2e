"""Several pipeline processes share videos, and every document is that of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import BadVideo, Interrupted, NodeLost, PermanentError, PipelineDied
from daemon.pipeline.board import Board
from daemon.pipeline.pool import shares
from daemon.pipeline.pool_run import MOST_LOST, PoolRun
from daemon.pipeline.records import Progress
from daemon.settings import Settings
from tests.clips import make_clip
from tests.range_clips import STRUCTURES
from tests.system.running import wait_for
from tests.unit.pipeline.pool_bench import PoolBench

FRAMES = 110


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolBench]:
    bench = PoolBench(tmp_path / "home", monkeypatch)
    yield bench
    bench.pool.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", frames=FRAMES, size=(64, 48))


def dying(number: int, times: int) -> Callable[[str, Mapping[str, Any]], None]:
    left = [times]

    def act(kind: str, wanted: Mapping[str, Any]) -> None:
        if kind == "part" and wanted["number"] == number and left[0]:
            left[0] -= 1
            raise PipelineDied("It died.")

    return act


def without_times(report: Any) -> Any:
    return replace(report, stage_seconds={}, wall_seconds=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_pool_makes_the_document_of_one_process(bench: PoolBench, tmp_path: Path, name: str) -> None:
    clip = STRUCTURES[name](tmp_path / "a.mp4")
    try:
        expected = bench.alone(clip)
    except BadVideo as error:
        with pytest.raises(BadVideo, match=str(error)):
            bench.run(clip)
        return
    assert bench.run(clip) == expected
    assert without_times(bench.report) == without_times(bench.report_alone)


def test_a_long_video_is_shared_and_joined(bench: PoolBench, clip: Path) -> None:
    assert bench.run(clip) == bench.alone(clip)
    assert sorted(bench.asked) == ["part 0", "part 1", "part 2", "part 3", "part 4", "plan"]
    assert without_times(bench.report) == without_times(bench.report_alone)


def test_strides_and_a_limit_of_frames_are_kept(bench: PoolBench, clip: Path) -> None:
    for options in ({"frame_stride": 3}, {"max_frames": 60}, {"frame_stride": 2, "max_frames": 51}):
        assert bench.run(clip, **options) == bench.alone(clip, **options)
    assert "run" not in bench.asked
    assert bench.run(clip, max_frames=25) == bench.alone(clip, max_frames=25)
    assert bench.asked[-2:] == ["plan", "run"]  # as it is one segment


def test_a_video_that_cannot_be_cut_runs_in_one_piece(bench: PoolBench, tmp_path: Path) -> None:
    clip = STRUCTURES["damaged"](tmp_path / "a.mp4")
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked[-1] == "run"


def test_a_part_that_ends_its_process_is_made_again(bench: PoolBench, clip: Path) -> None:
    bench.act = dying(1, times=1)
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked.count("part 1") == 2
    assert "run" not in bench.asked
    assert sum(slot.ended for slot in bench.pool.slots()) == 1


def test_a_part_that_ends_its_process_again_has_the_video_run_in_one_piece(bench: PoolBench, clip: Path) -> None:
    bench.act = dying(1, times=9)
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked.count("part 1") == 2
    assert bench.asked[-1] == "run"


@pytest.mark.parametrize("lost", ["plan", "part 1"])
def test_work_whose_machine_is_lost_is_done_by_another_and_that_is_no_try(
    bench: PoolBench, clip: Path, lost: str
) -> None:
    def act(kind: str, wanted: Mapping[str, Any]) -> None:
        if bench.asked[-1] == lost and bench.asked.count(lost) <= 5:
            raise NodeLost("The machine is gone.")

    bench.act = act
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked.count(lost) >= 5
    assert "run" not in bench.asked


def test_a_job_for_which_no_machine_will_do_lets_others_go_ahead_and_keeps_its_parts(
    bench: PoolBench, clip: Path
) -> None:
    def act(kind: str, wanted: Mapping[str, Any]) -> None:
        if bench.asked[-1] == "part 4":
            raise NodeLost("It has no room.")

    bench.act = act
    with pytest.raises(NodeLost, match="no room"):
        bench.run(clip)
    assert bench.asked.count("part 4") == MOST_LOST + 1
    bench.act = lambda kind, wanted: None
    bench.asked.clear()
    assert bench.run(clip) == bench.alone(clip)
    assert "part 0" not in bench.asked


def test_an_attempt_after_one_in_one_piece_does_not_begin_with_parts(bench: PoolBench, clip: Path) -> None:
    def act(kind: str, wanted: Mapping[str, Any]) -> None:
        dying(1, times=9)(kind, wanted)
        if kind == "run":
            raise PipelineDied("It died.")

    bench.act = act
    with pytest.raises(PipelineDied):
        bench.run(clip)
    bench.act = lambda kind, wanted: None
    bench.asked.clear()
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked == ["run"]


def test_what_one_process_has_begun_is_gone_on_with_in_one_piece(bench: PoolBench, clip: Path) -> None:
    request = bench.request(clip)
    seen: list[int] = []

    def enough() -> bool:
        seen.append(1)
        return len(seen) > 8

    with pytest.raises(Interrupted):
        bench.pool._slots[0].process.run(request, lambda progress: None, enough)  # type: ignore[union-attr]
    assert clip.with_name("out.json.checkpoint").exists()
    bench.asked.clear()
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked == ["run"]


def test_parts_of_an_earlier_attempt_are_kept(bench: PoolBench, clip: Path) -> None:
    request = bench.request(clip)
    with pytest.raises(Interrupted):
        bench.pool.run(request, should_stop=lambda: (request.parts / "000001").exists())
    kept = {path.name for path in request.parts.glob("0*")}
    assert "000001" in kept
    bench.asked.clear()
    told: list[Progress] = []
    bench.pool.run(request, told.append)
    assert {f"part {int(name)}" for name in kept}.isdisjoint(bench.asked)
    assert request.output_path.read_bytes() == bench.alone(clip)
    assert all(progress.frames_processed >= 25 * len(kept) for progress in told)


def test_parts_of_another_video_are_not_kept(bench: PoolBench, clip: Path) -> None:
    request = bench.request(clip)
    with pytest.raises(Interrupted):
        bench.pool.run(request, should_stop=lambda: (request.parts / "000001").exists())
    clip.write_bytes(clip.read_bytes().replace(b"Lavf", b"Lavg"))  # as large as it was
    bench.asked.clear()
    assert bench.run(clip) == bench.alone(clip)
    assert len(bench.asked) == 6


def test_a_part_that_is_damaged_is_made_again_by_the_next_attempt(bench: PoolBench, clip: Path) -> None:
    request = bench.request(clip)

    def damage(kind: str, wanted: Mapping[str, Any]) -> None:
        if wanted.get("number") == 4:
            wait_for(lambda: len(list(request.parts.iterdir())) >= 5)
            (request.parts / "000000").write_bytes(b"no part\n")

    bench.act = damage
    with pytest.raises(Exception, match="Part 0 of the result"):
        bench.pool.run(request)
    bench.act = lambda kind, wanted: None
    bench.asked.clear()
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked == ["plan", "part 0"]


def test_what_was_begun_with_weights_that_no_slot_has_any_more_is_begun_anew(bench: PoolBench, clip: Path) -> None:
    gone: list[bool] = []

    def exchange(kind: str, wanted: Mapping[str, Any]) -> None:
        if wanted.get("number") == 4 and not gone:
            gone.append(True)
            for slot in bench.pool._slots:
                slot.process.models = [{"name": "other"}]  # type: ignore[union-attr]
                slot.process.ready = replace(slot.process.ready, models=[{"name": "other"}])  # type: ignore[misc,union-attr,type-var]
            raise PipelineDied("It died.")

    bench.act = exchange
    assert bench.run(clip) == bench.alone(clip)
    assert bench.asked.count("plan") == bench.asked.count("part 4") == 2
    assert "run" not in bench.asked


def test_slots_of_several_kinds_do_not_share_a_video(bench: PoolBench, clip: Path) -> None:
    used: set[int] = set()

    def note(kind: str, wanted: Mapping[str, Any]) -> None:
        used.add(threading.get_ident())

    wait_for(lambda: bench.pool._board.idle() == 2)
    other = bench.pool._slots[1].process
    other.models = [{"name": "other"}]  # type: ignore[union-attr]
    other.ready = replace(other.ready, models=other.models)  # type: ignore[misc,union-attr,type-var]
    bench.act = note
    assert bench.run(clip) == bench.alone(clip)
    assert len(used) == 1


def test_frames_never_get_fewer(bench: PoolBench, clip: Path) -> None:
    bench.act = dying(4, times=9)
    told: list[Progress] = []
    bench.pool.run(bench.request(clip), told.append)
    frames = [progress.frames_processed for progress in told]
    assert frames == sorted(frames)


def test_a_job_that_waits_for_slots_takes_no_time(tmp_path: Path, clip: Path) -> None:
    settings, board = Settings(home=tmp_path, max_job_seconds=0.2), Board(lambda: None)
    run = PoolRun(settings, board, 0, PoolBench.request(clip), lambda progress: None, lambda: False)
    with ThreadPoolExecutor(1) as threads:
        report = threads.submit(run.run, lambda: None)
        time.sleep(0.8)
        assert not report.done()
        board.close()
        with pytest.raises(Interrupted):
            report.result(20)


def test_a_job_that_takes_too_long_fails(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = PoolBench(tmp_path / "home", monkeypatch, max_job_seconds=0.2)
    bench.act = lambda kind, wanted: time.sleep(0.5)
    try:
        with pytest.raises(PermanentError, match="max_job_seconds"):
            bench.run(clip)
    finally:
        bench.pool.close()


def test_there_is_room_for_another_job_only_when_the_first_wants_nothing_more(bench: PoolBench, clip: Path) -> None:
    going_on, placed, room = threading.Event(), threading.Event(), threading.Event()
    bench.pool.on_room = room.set

    def hold(kind: str, wanted: Mapping[str, Any]) -> None:
        if wanted.get("number") == 4:
            assert going_on.wait(30)

    bench.act = hold
    job = threading.Thread(
        target=bench.pool.run, args=(bench.request(clip),), kwargs={"on_placed": lambda: (placed.set(), room.clear())}
    )
    job.start()
    try:
        assert placed.wait(30)
        assert not bench.pool.has_room()
        assert room.wait(30)  # four parts are made, the last one is being made
        assert bench.pool.has_room()
        assert [slot.job_id for slot in bench.pool.slots()].count("a") == 1
    finally:
        going_on.set()
        job.join()
    wait_for(lambda: [slot.job_id for slot in bench.pool.slots()] == [None, None])


def test_closing_ends_what_is_under_way(bench: PoolBench, clip: Path) -> None:
    entered, errors = threading.Event(), []

    def hold(kind: str, wanted: Mapping[str, Any]) -> None:
        entered.set()
        wait_for(lambda: bench.pool._board.closed)

    def run() -> None:
        try:
            bench.pool.run(bench.request(clip))
        except Interrupted as error:
            errors.append(error)

    bench.act = hold
    job = threading.Thread(target=run)
    job.start()
    assert entered.wait(30)
    bench.pool.close()
    job.join(30)
    assert len(errors) == 1


def test_cores_are_dealt_out_to_neighbours() -> None:
    assert shares(range(8), 4, 8) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert shares(range(5), 2, 5) == [(0, 1), (2, 3, 4)]
    assert shares([3, 7], 3, 2) == [(3,), (3,), (7,)]
    assert shares(range(64), 2, 4) == [(0, 1), (32, 33)]
