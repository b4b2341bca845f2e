"""The model of many workers plays through what the daemon does: all frames once, starts in order, changes in groups."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tools import coordinator_costs
from tools.coordinator_costs import FPS, Costs
from tools.scale_model import ONE, POOL, SINGLY, WHOLE, Coordinator, Outcome, Simulation, Way, lengths

COSTS = Costs()
FREE = Costs(plan_hour=0, hash_bytes=1e18, join_bytes=1e18, change=0, sync=0, note=0, note_of_many=0)


@pytest.mark.parametrize("way", [WHOLE, ONE, POOL, SINGLY], ids=lambda way: str(way.name))
@pytest.mark.parametrize("workers", [1, 7, 64])
def test_every_frame_is_analysed_once_and_jobs_start_in_order(way: Way, workers: int) -> None:
    seconds = lengths(200)
    outcome = Simulation(seconds, workers, 13, COSTS, way).run()
    frames = sum(seconds) * FPS
    assert outcome.analysed == pytest.approx(frames)
    assert [job for _, job in outcome.starts] == list(range(200))
    assert [when for when, _ in outcome.starts] == sorted(when for when, _ in outcome.starts)
    assert outcome.ends.keys() == set(range(200))
    assert all(outcome.ends[job] > when for when, job in outcome.starts)
    assert frames / 13 <= outcome.worked <= 1.01 * frames / 13
    assert outcome.seconds == max(outcome.ends.values()) >= outcome.worked / workers


def test_one_at_a_time_begins_a_job_when_the_one_before_has_ended() -> None:
    outcome = Simulation(lengths(50), 8, 13, COSTS, ONE).run()
    assert all(when >= outcome.ends[job - 1] for when, job in outcome.starts if job)


def test_without_costs_one_worker_takes_what_the_frames_take_and_many_share_a_long_video() -> None:
    outcome = Simulation([60.0, 600.0], 1, 25, FREE).run()
    assert outcome.seconds == pytest.approx(660)
    assert Simulation([3600.0], 1, 25, FREE, WHOLE).run().seconds == pytest.approx(3600)
    assert Simulation([3600.0], 4, 25, FREE).run().seconds == pytest.approx(900, rel=0.05)


def test_changes_that_wait_at_the_same_time_share_a_sync() -> None:
    costs = Costs(change=0.001, sync=1.0)
    grouped, singly = Outcome(), Outcome()
    together, alone = Coordinator(costs, True, grouped), Coordinator(costs, False, singly)
    ends = [together.change(0.0) for _ in range(10)]
    assert ends == sorted(ends)
    assert grouped.coordinating == pytest.approx(2.01)
    assert [alone.change(0.0) for _ in range(10)][-1] == singly.coordinating == pytest.approx(10.01)


def test_lengths_are_about_the_median_and_up_to_the_longest() -> None:
    seconds = lengths(10_000)
    assert statistics.median(seconds) == pytest.approx(120, rel=0.05)
    assert max(seconds) == pytest.approx(8 * 3600)
    assert lengths(10_000) == seconds


@pytest.mark.slow
def test_costs_are_measured_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PLANNED_SECONDS": 60, "JOINED_FRAMES": 50, "HASHED_BYTES": 1 << 20, "ROUNDS": 2}.items():
        monkeypatch.setattr(coordinator_costs, name, value)
    costs = vars(coordinator_costs.measure(tmp_path))
    assert all(value > 0 for name, value in costs.items() if name != "sync"), costs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
