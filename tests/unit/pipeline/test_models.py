"""Weights: which are used, what is refused, and their form for the CPU."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.errors import ModelError
from daemon.pipeline.models import Weights, export, file_sha256, find_weights, load_checkpoint
from daemon.pipeline.unused_weights import unused_weights
from daemon.settings import Settings


def settings(home: Path, **values: object) -> Settings:
    return Settings.load(home=home, **values)


def as_weights(path: Path) -> Weights:
    return Weights(path, path.stem, file_sha256(path))


def save_checkpoint(
    path: Path,
    config: str,
    *,
    end_to_end: bool = False,
    channels: int = 3,
    names: Any = None,
    task: str | None = None,
    change: Callable[[Any], None] = lambda model: None,
) -> Weights:
    """Save a network of Ultralytics' own, with random weights, the way its trainer saves one.

    Args:
        path: Where to.
        config: One of Ultralytics' own.
        end_to_end: Keep the branch that needs no suppression of doubles, and no other.
        channels: Of the pictures that it takes.
        names: Of its classes, if not Ultralytics' own.
        task: What it says that it is for, if not the truth.
        change: Called with the network before it is saved.
    """
    from ultralytics.nn import tasks
    from ultralytics.utils import DEFAULT_CFG_DICT

    torch.manual_seed(1)
    kinds = {
        "-seg": "SegmentationModel",
        "-cls": "ClassificationModel",
        "-pose": "PoseModel",
        "rtdetr": "RTDETRDetectionModel",
    }
    kind = next((name for ending, name in kinds.items() if ending in config), "DetectionModel")
    model = getattr(tasks, kind)(tasks.yaml_model_load(config), ch=channels, verbose=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    if kind == "DetectionModel":  # without training it is sure of nothing, so make it find something
        with torch.no_grad():
            model.train()(torch.rand(2, channels, 256, 256))
        for name in ("cv3", "one2one_cv3"):
            for branch in getattr(model.model[-1], name, None) or ():
                torch.nn.init.normal_(branch[-1].weight, std=0.033)
                torch.nn.init.constant_(branch[-1].bias, -8)
    if end_to_end:
        model.end2end = True
        model.model[-1].fuse()
    model.args = DEFAULT_CFG_DICT
    model.names = model.names if names is None else names
    change(model)
    task = task or {"SegmentationModel": "segment", "ClassificationModel": "classify"}.get(kind, "detect")
    torch.save({"model": model, "ema": None, "train_args": {"task": task}, "version": "8.4"}, path)
    return as_weights(path)


def test_no_weights_at_all_is_no_error(tmp_path: Path) -> None:
    assert find_weights(settings(tmp_path)) is None
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / ".new.pt.part").write_text("half")
    (tmp_path / "data" / "models" / "notes.txt").write_text("x")
    assert find_weights(settings(tmp_path)) is None


def test_the_newest_in_the_models_folder_is_used_unless_a_setting_names_one(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    for name, day in (("a.pt", 2), ("b.pt", 3), ("c.pt", 1)):
        (folder / name).write_text(name)
        os.utime(folder / name, (day * 86_400, day * 86_400))
    found = find_weights(settings(tmp_path))
    assert found == Weights(folder / "b.pt", "b", hashlib.sha256(b"b.pt").hexdigest())
    named = find_weights(settings(tmp_path, weights="data/models/c.pt"))
    assert named is not None
    assert named.name == "c"


def test_weights_that_are_set_and_absent_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt are not there; set weights \(or --weights\) to a \.pt file"):
        find_weights(settings(tmp_path, weights="none.pt"))
    with pytest.raises(ModelError, match="are not there"):
        find_weights(settings(tmp_path, weights=tmp_path))  # a folder


def test_a_checksum_is_that_of_the_bytes_and_tells_how_far_it_is(tmp_path: Path) -> None:
    content = os.urandom(3_500_000)
    (tmp_path / "a").write_bytes(content)
    blocks: list[None] = []
    assert file_sha256(tmp_path / "a", lambda: blocks.append(None)) == hashlib.sha256(content).hexdigest()
    assert len(blocks) == 4


def refuse(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(as_weights(path))
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    return text


def test_a_text_file_is_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("These are not weights.\n" * 50)
    assert "put a detection checkpoint (.pt) in its place" in refuse(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"")
    refuse(tmp_path / "a.pt")


def test_truncated_weights_are_no_weights(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.pt", "yolo26n.yaml")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])
    refuse(tmp_path / "a.pt")


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self._canary), 0o700)


@pytest.mark.parametrize("form", ["torch", "torch inside a checkpoint", "pickle"])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, form: str) -> None:
    path, canary = tmp_path / "a.pt", tmp_path / "canary"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(canary)))
    else:
        torch.save(Bomb(canary) if form == "torch" else {"model": Bomb(canary), "ema": None}, path)
    refuse(path)
    assert not canary.exists()
    with pytest.raises(ModelError):
        export(as_weights(path), settings(tmp_path))
    assert not canary.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert canary.exists()  # the bomb is live


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("a/data.pkl", pickle.dumps({"model": 3}))
    refuse(tmp_path / "a.pt")
    torch.save({"weights": [1, 2, 3]}, tmp_path / "b.pt")
    refuse(tmp_path / "b.pt")


@pytest.mark.parametrize(("config", "task"), [("yolo11n-seg.yaml", "segment"), ("yolo11n-cls.yaml", "classify")])
def test_weights_for_another_task_are_refused(tmp_path: Path, config: str, task: str) -> None:
    save_checkpoint(tmp_path / "a.pt", config)
    assert refuse(tmp_path / "a.pt") == f"a.pt is for the task '{task}', not for detection."


def test_an_export_is_made_once_and_a_damaged_one_again(warm_home: Path, weights: Path) -> None:
    given = find_weights(settings(warm_home))
    assert given is not None
    exported = export(given, settings(warm_home))
    assert exported.names[5] == "bus"
    assert len(exported.names) == 80
    assert (exported.stride, exported.end_to_end) == (32, False)
    made = exported.xml.stat()
    assert export(given, settings(warm_home)) == exported
    assert exported.xml.stat().st_mtime_ns == made.st_mtime_ns
    (exported.xml.parent / "model.json").unlink()  # what a kill in the middle cannot leave, but a person can
    assert export(given, settings(warm_home)) == exported
    assert exported.xml.stat().st_mtime_ns > made.st_mtime_ns
    assert not list(exported.xml.parent.parent.glob(".export-*"))  # no litter
    assert weights.exists()


@pytest.mark.parametrize("kind", ["linear", "sequential", "tensor", "state", "zip", "text", "script", "bare"])
def test_what_is_not_a_yolo_is_refused_in_one_sentence_of_ours(
    tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "a.pt"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("readme.txt", "weights")
    elif kind == "text":
        path.write_text("not weights\n" * 20)
    elif kind == "script":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a/data.pkl", b"")
            file.writestr("a/constants.pkl", b"")
    else:
        network = torch.nn.Linear(3, 3)
        torch.save(
            {
                "linear": {"model": network},
                "sequential": {"model": torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Flatten())},
                "tensor": {"model": torch.ones(3)},
                "state": {"model": network.state_dict()},
                "bare": torch.ones(3),
            }[kind],
            path,
        )
    text = refuse(path)
    assert text.endswith(".")
    for foreign in ("attribute", "official", "could this error", "(101)", "Unpickler", "Traceback"):
        assert foreign not in text
    assert not recwarn.list


def test_what_is_named_as_weights_and_is_not_a_file_is_passed_over(tmp_path: Path) -> None:
    home = settings(tmp_path)
    home.models_dir.mkdir(parents=True)
    os.mkfifo(home.models_dir / "pipe.pt")
    (home.models_dir / "folder.pt").mkdir()
    (home.models_dir / "link.pt").symlink_to("nothing.pt")
    assert find_weights(home) is None
    assert {each.name for each in unused_weights(home, None)} == {"pipe.pt", "folder.pt", "link.pt"}
    (home.models_dir / "real.pt").write_bytes(b"x")
    os.utime(home.models_dir / "real.pt", (1, 1))
    found = find_weights(home)
    assert found is not None
    assert found.name == "real"
    assert len(unused_weights(home, found.path)) == 3
