"""Pipelines: ours, and those that other packages register."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import BadOptions, MachineError, ModelError
from daemon.pipeline.pipelines import NO_OBJECTS, PIPELINES, all_pipelines, check_fit, get_pipeline
from daemon.pipeline.records import Analysis
from daemon.pipeline.service import VideoFilePipelineService
from daemon.settings import Settings
from tests.clips import make_clip

ROOT = Path(__file__).parents[3]


class Piece:
    """A stage that does nothing."""

    def __init__(self, name: str, needs: set[str], gives: set[str]) -> None:
        self.name, self.needs, self.gives = name, frozenset(needs), frozenset(gives)

    def models(self, info: object) -> list[Any]:
        return []

    def new_segment(self) -> None: ...

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        return list(batch)


def register(folder: Path, code: str, entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package importable that registers entry points."""
    name = f"plugin_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[dropframe.pipelines]\n" + entries.replace("PLUGIN", name))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()


def test_ours_are_there() -> None:
    assert [p.pipeline_id for p in PIPELINES] == ["yolo_ocr", "yolo", "ocr_only"]
    assert set(all_pipelines()) >= {"yolo_ocr", "yolo", "ocr_only"}
    assert get_pipeline("yolo").pipeline_id == "yolo"


@pytest.mark.parametrize("name", ["", "YOLO", "yolo ", "../yolo", "nope"])
def test_an_unknown_pipeline_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(BadOptions, match=r"the pipelines are ocr_only, yolo, yolo_ocr|did you mean yolo"):
        get_pipeline(name)


def test_stages_that_fit_are_let_through() -> None:
    check_fit([Piece("a", set(), {"detections"}), Piece("b", {"detections"}, set())])
    check_fit([])


def test_a_stage_that_needs_what_nothing_before_it_gives_is_named() -> None:
    with pytest.raises(MachineError, match="The stage b needs detections, text_blocks, which nothing before it gives"):
        check_fit([Piece("b", {"detections", "text_blocks"}, set()), Piece("a", set(), {"detections", "text_blocks"})])


def test_a_registered_pipeline_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from daemon.pipeline.pipelines import Pipeline\nMINE = Pipeline('mine', 'Mine.', lambda loaded: [])\n"
    register(tmp_path, code, "mine = PLUGIN:MINE\n", monkeypatch)
    assert get_pipeline("mine").description == "Mine."


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('a library is missing')", "cannot be loaded: a library is missing"),
        ("", "cannot be loaded"),
        ("MINE = 3", "is not a Pipeline with a name of its own"),
        (
            "from daemon.pipeline.pipelines import Pipeline\nMINE = Pipeline('yolo', '', lambda loaded: [])",
            "is not a Pipeline with a name of its own",
        ),
        *(
            (
                f"from daemon.pipeline.pipelines import Pipeline\nMINE = Pipeline({name!r}, '', lambda loaded: [])",
                "is not a Pipeline with a name of its own",
            )
            for name in ("rejected", ".hidden", "a/b", "")
        ),
    ],
)
def test_a_package_that_registers_nonsense_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    register(tmp_path, code, "mine = PLUGIN:MINE\n", monkeypatch)
    with pytest.raises(MachineError, match=said) as caught:
        all_pipelines()
    assert ":MINE" in str(caught.value)


def test_without_weights_objects_are_refused_and_text_is_still_read(tmp_path: Path) -> None:
    class Bare:
        objects = None
        text_detecting = Piece("text", set(), {"text_blocks", "detections"})

    loaded: Any = Bare()
    with pytest.raises(ModelError, match=r"no object weights; put .* into data/models/ or set weights"):
        get_pipeline("yolo").stages(loaded)
    assert [stage.name for stage in get_pipeline("yolo_ocr").stages(loaded)] == ["text"]
    assert get_pipeline("yolo_ocr").warnings(loaded) == [NO_OBJECTS]


def test_the_example_in_the_docs_installs_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL))
    assert set(files) == {"dropframe_motion.py", "pyproject.toml"}
    project, site = tmp_path / "dropframe-motion", tmp_path / "site"
    project.mkdir()
    for name, content in files.items():
        (project / name).write_text(content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", site, project], check=True)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    clip = make_clip(tmp_path / "a.mp4", frames=12)
    service = VideoFilePipelineService(Settings.load(home=tmp_path, segment_frames=6))
    report = service.run_on_file(clip, "motion")
    document = json.loads((tmp_path / "a.mp4.json").read_text())
    assert report.frames_processed == 12
    assert report.stage_seconds.keys() >= {"decode", "motion", "write"}
    found = [len(frame["result"]["detections"]) for frame in document["results"]]
    assert [number for number, count in enumerate(found) if count == 0] == [0, 6]  # each segment begins anew
    assert document["summary"]["classes"] == {"motion": sum(found)}
