"""Which executor a machine gets, and how many pipeline processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import SettingsError
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.executor_choice import choose, make_executor
from daemon.pipeline.machine import Machine, count_cores, count_gpus
from daemon.pipeline.pool import PipelinePool
from daemon.settings import Settings

GB = 1_000_000_000


def slots(machine: Machine, **settings: Any) -> int:
    return choose(Settings(**settings), machine).slots


@pytest.mark.parametrize(
    ("machine", "count"),
    [
        (Machine(1, 0, 8 * GB), 1),
        (Machine(2, 0, 64 * GB), 1),
        (Machine(4, 0, 64 * GB), 1),
        (Machine(8, 0, 64 * GB), 4),
        (Machine(64, 0, 256 * GB), 32),
        (Machine(64, 0, 16 * GB), 4),
        (Machine(64, 0, 4 * GB), 1),
        (Machine(16, 1, 128 * GB), 1),
        (Machine(64, 8, 256 * GB), 8),
    ],
)
def test_a_pool_is_taken_where_one_process_leaves_much_idle(machine: Machine, count: int) -> None:
    assert slots(machine) == count


def test_settings_have_the_last_word() -> None:
    small, large, gpus = Machine(2, 0, 64 * GB), Machine(64, 0, 256 * GB), Machine(64, 2, 256 * GB)
    assert slots(large, executor="embedded", workers=8) == 1
    assert slots(small, executor="pool") == 2
    assert slots(small, executor="pool", workers=3) == 3
    assert slots(small, workers=2) == 2
    assert slots(large, executor="pool", workers=1) == 1
    assert slots(gpus, device="cuda:1") == 1
    assert slots(gpus, device="cuda:1", workers=2) == 2
    assert slots(gpus, device="cpu") == 32


@pytest.mark.parametrize("cores", range(1, 130, 3))
@pytest.mark.parametrize("gigabytes", [1, 4, 15, 64, 500])
def test_no_more_than_60_percent_of_the_memory_is_taken(cores: int, gigabytes: int) -> None:
    machine = Machine(cores, 0, gigabytes * GB)
    count = slots(machine, executor="pool")
    assert count == 1 or count * 2 * GB <= 0.6 * machine.memory_bytes


def test_gpus_are_counted_without_a_library(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path, {}) == 3
    assert count_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": "0,1"}) == 2
    assert count_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert count_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": "-1"}) == 0
    assert count_gpus(tmp_path / "none", {}) == 0


def test_the_cores_of_a_container_are_those_that_it_was_given(tmp_path: Path) -> None:
    all_cores = len(os.sched_getaffinity(0))
    limit = tmp_path / "cpu.max"
    assert count_cores(limit) == all_cores
    quotas = {"max": all_cores, "100000": 1, "50000": 1, "9900000": all_cores}
    for quota, cores in quotas.items():
        limit.write_text(f"{quota} 100000\n")
        assert count_cores(limit) == cores


def test_the_executor_is_what_was_chosen(tmp_path: Path) -> None:
    assert isinstance(make_executor(Settings(home=tmp_path, executor="embedded")), PipelineProcess)
    pool = make_executor(Settings(home=tmp_path, executor="pool", workers=3))
    assert isinstance(pool, PipelinePool)
    assert len(pool.slots()) == 3
    pool.close()


def test_a_number_of_workers_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("0", "many", "1.5", "1000"):
        monkeypatch.setenv("DROPFRAME_WORKERS", wrong)
        with pytest.raises(SettingsError, match=f"must be a whole number from 1 to 256, or auto, not '{wrong}'"):
            Settings.load()
    monkeypatch.setenv("DROPFRAME_WORKERS", "3")
    assert Settings.load().workers == 3
