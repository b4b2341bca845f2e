"""Weights that cannot work are refused when they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.errors import ModelError
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import Weights, load_checkpoint
from daemon.pipeline.records import Analysis, Frame
from daemon.settings import Settings
from tests.unit.pipeline.test_models import save_checkpoint


def put(home: Path, name: str = "a.pt", config: str = "yolov8n.yaml", **changes: Any) -> Weights:
    """Save weights where the operator puts them."""
    path = home / "data" / "models" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_checkpoint(path, config, **changes)


def refusal(home: Path) -> str:
    """Return the sentence with which the start refuses."""
    with pytest.raises(ModelError) as caught:
        LoadedModels(Settings.load(home=home, device="cpu")).describe()
    text = str(caught.value)
    assert text.startswith("a.pt ")
    assert "\n" not in text
    return text


def classes_seen(weights: Weights, home: Path) -> set[Any]:
    stage = ObjectStage.load(weights, Settings.load(home=home, confidence=0.01), "cpu")
    picture = np.random.default_rng(1).integers(0, 255, (360, 640, 3), np.uint8)
    (done,) = stage([Analysis(Frame(0, 0.0, picture))])
    assert done.detections
    return {detection.class_name for detection in done.detections}


def test_names_in_a_list_are_those_of_the_classes_from_0_on(tmp_path: Path) -> None:
    weights = put(tmp_path, names=[f"thing {number}" for number in range(80)])
    assert load_checkpoint(weights).names == {number: f"thing {number}" for number in range(80)}
    assert classes_seen(weights, tmp_path) <= {f"thing {number}" for number in range(80)}


def test_names_that_are_not_text_become_text(tmp_path: Path) -> None:
    weights = put(tmp_path, names={number: number for number in range(80)})
    assert load_checkpoint(weights).names == {number: str(number) for number in range(80)}
    assert classes_seen(weights, tmp_path) <= {str(number) for number in range(80)}


def test_more_names_than_classes_are_fine(tmp_path: Path) -> None:
    weights = put(tmp_path, names={number: f"thing {number}" for number in range(90)})
    assert len(load_checkpoint(weights).names) == 90


@pytest.mark.parametrize(
    ("names", "missing"), [({0: "a", 2: "c"}, 1), (["a", "b"], 2), ({}, 0), ({"a": "b"}, 0), ("car", 0), (7, 0)]
)
def test_weights_without_a_name_for_each_class_are_refused(tmp_path: Path, names: Any, missing: int) -> None:
    put(tmp_path, names=names)
    assert refusal(tmp_path) == (
        f"a.pt tells 80 classes apart but has no name for class {missing}; set names in it for the classes 0 to 79."
    )


def test_weights_for_grey_pictures_are_refused(tmp_path: Path) -> None:
    put(tmp_path, channels=1)
    assert "expects 1 channel, but a frame has 3 (colour)" in refusal(tmp_path)


def test_weights_for_more_channels_are_refused(tmp_path: Path) -> None:
    put(tmp_path, channels=6)
    assert "expects 6 channels, but a frame has 3 (colour)" in refusal(tmp_path)


def test_an_rt_detr_is_refused(tmp_path: Path) -> None:
    put(tmp_path, config="rtdetr-l.yaml")
    assert refusal(tmp_path) == (
        "a.pt is not a YOLO (its head is RTDETRDecoder); put a YOLO detection checkpoint in its place."
    )
