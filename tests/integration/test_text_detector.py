"""The tools that make the text detector: what they draw, how they measure, and that training can be repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.pipeline.models import Weights, bundled_weights, file_sha256, load_checkpoint
from tools.text_detector import fonts
from tools.text_detector.dataset import Stream, held_out
from tools.text_detector.detector import TextDetector
from tools.text_detector.evaluate import average_precision, matches, measure

pytestmark = pytest.mark.needs("fc-list", "fonts-dejavu-core", "fonts-lato", "fonts-open-sans")

SPLITS = ("train", "val", "test")


def test_held_out_images_are_the_same_each_time_and_their_lines_lie_inside() -> None:
    once, again = list(held_out("test", 4)), list(held_out("test", 4))
    assert sum(len(boxes) for _, boxes in once) > 4
    for (image, boxes), (image_again, boxes_again) in zip(once, again, strict=True):
        assert image.shape == (384, 640, 3)
        assert np.array_equal(image, image_again)
        assert np.array_equal(boxes, boxes_again)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes <= (640, 384, 640, 384)).all()


def test_a_box_holds_what_changes_where_a_line_is_drawn() -> None:
    """With a line's box painted over, nothing of a caption is left to see in the frame."""
    from tools.text_detector.ink import Canvas
    from tools.text_detector.overlays import subtitle

    plain = np.full((720, 1280, 3), 90, np.uint8)
    seen = 0
    for seed in range(12):
        canvas = Canvas(plain.copy(), np.random.default_rng(seed), "test")
        subtitle(canvas)
        changed = np.abs(canvas.image.astype(int) - 90).max(axis=2) > 100  # letters, not a shade behind them
        seen += bool(changed.any())
        for x1, y1, x2, y2 in np.array(canvas.boxes).round().astype(int).tolist():
            changed[max(0, y1) : y2, max(0, x1) : x2] = False
        assert not changed.any()
    assert seen > 6


def test_no_typeface_is_in_two_splits() -> None:
    families = {
        split: {f.family for f in fonts.faces("latin") if fonts.split_of(f.family) == split} for split in SPLITS
    }
    assert all(families.values())
    assert sum(map(len, families.values())) == len(set().union(*families.values()))


def test_a_training_batch_is_repeatable_and_in_the_form_that_the_loss_wants() -> None:
    (first, targets), (again, targets_again) = (next(iter(Stream(3, 16, [(192, 320)], pool=8))) for _ in range(2))
    assert first.shape == (16, 3, 192, 320)
    assert (first == again).all()
    assert (targets == targets_again).all()
    assert targets.shape[1] == 6
    assert len(targets) > 0
    assert targets[:, 0].max() < 16
    assert (targets[:, 2:] >= 0).all()
    assert (targets[:, 2:] <= 1).all()


def test_average_precision_of_known_rankings() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(confidence, np.array([1, 1, 1, 1]), 4) == pytest.approx(1.0)
    assert average_precision(confidence, np.array([1, 0, 1, 0]), 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(confidence, np.array([1, 1, 0, 0]), 4) == pytest.approx(0.5)
    assert average_precision(confidence[:0], np.zeros(0), 3) == 0.0


def test_a_line_is_matched_once() -> None:
    truth = np.array([[0, 0, 10, 10]], np.float32)
    found = np.array([[0, 0, 10, 9, 0.9], [0, 0, 10, 10, 0.8], [50, 50, 60, 60, 0.7]], np.float32)
    assert matches(found, truth, 0.5)[0].tolist() == [0, -1, -1]


def test_the_weights_in_the_box_find_most_lines_of_the_held_out_set() -> None:
    result: dict[str, Any] = measure(TextDetector(bundled_weights().path, confidence=0.01), "test", 24, 0.3)
    assert result["map50"] > 0.75
    assert result["precision"] > 0.8


@pytest.mark.slow
def test_training_runs_goes_on_after_a_stop_and_leaves_weights_that_load(tmp_path: Path) -> None:
    def train(*flags: object) -> str:
        command = [sys.executable, "-m", "tools.text_detector.train", "--out", tmp_path, "--batch", 2, "--workers", 1]
        done = subprocess.run(
            [*map(str, command), *map(str, flags)],
            cwd=Path(__file__).parents[2],
            # The pipeline's own setting; with it torch would wait for ever for its second thread.
            env={name: value for name, value in os.environ.items() if name != "OMP_THREAD_LIMIT"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "done: 4 images" in train("--images", 4, "--save-minutes", 0)
    assert "done: 8 images" in train("--images", 8, "--resume")
    weights = Weights(tmp_path / "text.pt", "text", file_sha256(tmp_path / "text.pt"))
    assert load_checkpoint(weights).names == {0: "text"}
