"""Files among the weights that are not used: each is named with the reason."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from daemon.errors import ModelError
from daemon.pipeline.models import Weights, load_checkpoint
from daemon.pipeline.unused_weights import unused_weights
from daemon.preflight import check_unused_weights
from daemon.settings import Settings


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("data.pkl", "x" * 1000)
    return made.getvalue()


FILES = {
    "best.onnx": (b"x", "It is an export (ONNX), and Dropframe makes its own; put the .pt that it was made from here"),
    "best.torchscript": (b"x", "It is an export (TorchScript)"),
    "best.engine": (b"x", "It is an export (TensorRT)"),
    "BEST.PT": (archive(), "Its name does not end in .pt but in capitals; rename it."),
    "notes.txt": (b"x", "Its name does not end in .pt, so it is not taken for Ultralytics weights."),
    "older.pt": (archive(), "used.pt is used: the setting weights decides, or else the newest .pt; name this one"),
    "empty.pt": (b"", "It is empty; fetch it again."),
    "lfs.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "It is a Git LFS pointer and not the"),
    "page.pt": (b"\n<!DOCTYPE html><title>404</title>", "It is a web page and not weights; fetch the file"),
    "cut.pt": (archive()[:500], "It is cut off; fetch it again."),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.models_dir.mkdir(parents=True)
    return settings


def test_every_file_that_is_not_used_is_named_with_the_reason(settings: Settings) -> None:
    used = settings.models_dir / "used.pt"
    used.write_bytes(archive())
    for folder in ("exported", "best_openvino_model"):
        (settings.models_dir / folder).mkdir()
    (settings.models_dir / ".hidden").touch()
    for name, (content, _) in FILES.items():
        (settings.models_dir / name).write_bytes(content)
    found = {each.name: each.reason for each in unused_weights(settings, used)}
    assert found.keys() == {*FILES, "best_openvino_model"}
    assert found["best_openvino_model"].startswith("It is an export (OpenVINO)")
    for name, (_, reason) in FILES.items():
        assert found[name].startswith(reason), name
        assert found[name].endswith(".")


def test_doctor_names_what_cannot_be_used(settings: Settings) -> None:
    (settings.models_dir / "best.onnx").write_bytes(b"x")
    [check] = check_unused_weights(settings)
    assert check.ok
    assert check.sentence.startswith("best.onnx is not used. It is an export (ONNX)")


def test_a_home_without_weights_has_none_that_are_not_used(tmp_path: Path) -> None:
    assert unused_weights(Settings(home=tmp_path), None) == []


@pytest.mark.parametrize("name", ["empty.pt", "lfs.pt", "page.pt", "cut.pt"])
def test_such_a_file_is_refused_by_what_it_is(settings: Settings, name: str) -> None:
    path = settings.models_dir / name
    path.write_bytes(FILES[name][0])
    with pytest.raises(ModelError, match=FILES[name][1][6:20]):
        load_checkpoint(Weights(path, path.stem, "ab"))
