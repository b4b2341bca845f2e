"""Whatever is killed whenever: nothing is lost, doubled, different or seen in part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.crash.harness import KILLED_ELSEWHERE, POINTS, Harness, points_in_code
from tests.system.running import ROOT

CYCLES = int(os.environ.get("CRASH_CYCLES", "33"))
"""As few as strike every failpoint and some moments beside them; ``make crash-long`` runs 1,000."""
SEED = int(os.environ.get("CRASH_SEED", "20261121"))
"""The same in every run, so that a failure can be looked into; the long run takes a new one each time."""


def test_every_failpoint_in_the_code_is_one_at_which_the_harness_kills() -> None:
    assert points_in_code() == {*POINTS, *KILLED_ELSEWHERE}
    for point, module in KILLED_ELSEWHERE.items():
        assert point in (ROOT / "tests" / f"{module}.py").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_of_everything_lose_double_and_damage_nothing(tmp_path: Path) -> None:
    report = Harness(tmp_path, SEED, print).run(CYCLES)
    print(report)
    assert report.shortcomings(CYCLES) == []
