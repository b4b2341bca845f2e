"""A fast part of ``tests/system/hostile`` for every container: damaged and crafted files through walk and decoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.hostile import containers
from tests.system.hostile.mutations import main, run_through


def test_damaged_clips_of_every_container_bring_nothing_down() -> None:
    assert main(11, 150, containers.sources) == 0


def test_crafted_files_of_every_container_bring_nothing_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = dict(containers.contents(tmp_path, tmp_path / "canary.mp4", 9))
    assert len(crafted) > 20
    assert run_through(crafted.items()) == 0, capsys.readouterr().out
