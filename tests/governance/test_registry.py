"""Each registered pipeline's stages fit each other, and one whose stages do not is found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.pipelines import PIPELINES, Pipeline
from daemon.settings import Settings
from tools import check_pipelines


def test_the_registered_pipelines_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_pipelines.main(tmp_path) == 0
    said = capsys.readouterr().out
    assert [line.split()[1].rstrip(":") for line in said.splitlines()] == sorted(p.pipeline_id for p in PIPELINES)
    assert "ok   yolo_ocr: objects → text" in said


@dataclass(frozen=True)
class Named:
    """A stage as far as fitting goes."""

    name: str
    needs: frozenset[str] = field(default_factory=frozenset)
    gives: frozenset[str] = field(default_factory=frozenset)


def test_a_pipeline_whose_stages_do_not_fit_is_named(tmp_path: Path) -> None:
    def stages(_: LoadedModels) -> Sequence[Named]:
        return [Named("counter", needs=frozenset({"detections"})), Named("finder", gives=frozenset({"detections"}))]

    broken = Pipeline("broken", "The wrong way round.", stages)  # type: ignore[arg-type]
    found = list(check_pipelines.check({"broken": broken}, LoadedModels(Settings(home=tmp_path, device="cpu"))))
    assert found == [("broken", False, "The stage counter needs detections, which nothing before it gives.")]
