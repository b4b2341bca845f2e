"""Objects in int8: calibrated with the operator's clips, taken where that is asked for, and else refused.

What stands in for NNCF here leaves the network as it is; `make calibrate` runs the real one.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon import preflight
from daemon.boxes import iou
from daemon.cli import main
from daemon.errors import BadVideo, MachineError, ModelError
from daemon.failpoints import FAULT_VARIABLE
from daemon.pipeline import quantize as quantizing
from daemon.pipeline.client import PipelineProcess, Ready
from daemon.pipeline.demo_clip import make_demo
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.fingerprint import fingerprint
from daemon.pipeline.inference import in_half, read_network
from daemon.pipeline.int8 import Int8Model, find_int8, int8_path, require_int8, save_int8
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import Weights, export, find_weights, named_weights
from daemon.pipeline.quantize import calibrated, divided, head_operations, pictures_of, quantize, share, thinned
from daemon.pipeline.records import Detection, Image, VideoInfo
from daemon.settings import Settings
from tests.clips import make_clip
from tests.container_clips import in_container
from tests.exported import files_of_at_most
from tests.unit.pipeline.test_models import save_checkpoint

INFO = VideoInfo("h264", 1280, 720, 25.0, None, None)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames with a stop sign, a clock and a ball."""
    return make_demo(tmp_path_factory.mktemp("demo") / "demo.mp4")


@pytest.fixture
def home(warm_home: Path, tmp_path: Path) -> Path:
    """A home with exported weights, and no int8 model of them."""
    (tmp_path / "data" / "models").mkdir(parents=True)
    for path in (warm_home / "data" / "models").iterdir():
        if path.name != "exported":
            (tmp_path / "data" / "models" / path.name).symlink_to(path)
    exported = tmp_path / "data" / "models" / "exported"
    exported.mkdir()
    for path in (warm_home / "data" / "models" / "exported").iterdir():
        (exported / path.name).symlink_to(path)
    return tmp_path


def settings_of(home: Path, **values: Any) -> Settings:
    return Settings.load(home=home, **{"device": "cpu", **values})


def weights_of(home: Path) -> Weights:
    found = find_weights(settings_of(home))
    assert found is not None
    return found


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """Have the network stay as it is; return the pictures that it is calibrated with."""
    used: list[Image] = []

    def quantized(network: Any, pictures: Sequence[Image]) -> Any:
        used.extend(pictures)
        return network

    monkeypatch.setattr(quantizing, "_quantized", quantized)
    monkeypatch.setattr(quantizing, "require_nncf", lambda: None)
    return used


def put_int8(home: Path, xml: bytes | None = None, more: bytes = b"") -> Path:
    """Put an int8 model of the weights in place, which computes as the export does unless an XML is given."""
    weights, settings = weights_of(home), settings_of(home)
    exported = export(weights, settings).xml
    network = (xml or exported.read_bytes()) + more, exported.with_suffix(".bin").read_bytes()
    return save_int8(Int8Model(network, {"sha256": weights.sha256}), weights, settings)


def with_record(record: bytes) -> bytes:
    """Return an int8 model with another record in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in (("model.xml", b"<net/>"), ("model.bin", b"weights"), ("model.json", record)):
            archive.writestr(name, part)
    return content.getvalue()


def unfinished(home: Path) -> list[str]:
    return [path.name for path in int8_path(weights_of(home), settings_of(home)).parent.glob(".*")]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_calibrates_with_three_of_four_frames_and_compares_the_others(
    home: Path, demo: Path, lossless: list[Image]
) -> None:
    code, text = run("models", "quantize", "yolov8n-coco", "--from", demo, "--home", home)
    assert code == 0
    assert {picture.shape for picture in lossless} == {(384, 640, 3)}
    assert len(lossless) == 38
    assert "Calibrated with 38 frames. 12 others of the same clips were compared: " in text
    assert "Of 100 boxes, 0.0 are missing, new or of another class in int8, and 0.0 more are shifted." in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("int8")] == [["int8", "100.0%", "100.0%"]]
    model = find_int8(weights_of(home), settings_of(home))
    assert model is not None
    assert model.record["sha256"] == weights_of(home).sha256
    assert (model.record["frames"], model.record["held_back"]) == (38, 12)
    assert model.record["clips"] == [{"name": "demo.mp4", "frames": 50}]
    assert {"dropframe", "openvino", "torch"} <= set(model.record["versions"])
    assert unfinished(home) == []


@pytest.mark.usefixtures("lossless")
def test_several_clips_may_stand_behind_from_and_share_the_frames(home: Path, demo: Path) -> None:
    other = make_clip(home / "other.mp4", frames=30)
    (home / "dropframe.toml").write_text("image_size = 320\n")
    code, text = run("models", "quantize", "yolov8n-coco", "--from", demo, other, demo, "--home", home, "--json")
    assert code == 0
    record = json.loads(text[text.index("{") :])
    assert record["clips"] == [{"name": "demo.mp4", "frames": 50}, {"name": "other.mp4", "frames": 30}]
    assert (record["frames"], record["held_back"]) == (60, 20)
    assert [each["precision"] for each in record["agreement"]][:2] == ["fp32", "int8"]


def test_without_nncf_the_command_says_how_to_install_it_and_changes_nothing(
    home: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "nncf" else real(name, *more))
    with pytest.raises(MachineError, match=r"^Quantizing needs a package .*: pip install 'dropframe\[int8\]'$"):
        run("models", "quantize", "yolov8n-coco", "--from", demo, "--home", home)
    assert not int8_path(weights_of(home), settings_of(home)).exists()


@pytest.mark.usefixtures("lossless")
def test_clips_in_which_nothing_is_found_are_refused(home: Path, tmp_path: Path) -> None:
    weights, settings = weights_of(home), settings_of(home, confidence=0.9, image_size=320)
    with pytest.raises(ModelError, match="Nothing was found in 5 frames of the clips"):
        quantize(weights, [make_clip(tmp_path / "empty.mp4", frames=20)], settings)
    assert not int8_path(weights, settings).exists()


def test_clips_of_too_few_frames_are_refused(tmp_path: Path) -> None:
    pictures = pictures_of(make_clip(tmp_path / "short.mp4", frames=15), settings_of(tmp_path), 100, one_pixel)
    with pytest.raises(ModelError, match="The clips have 15 frames, and calibrating needs 16 or more"):
        divided(pictures)
    used, held_back = divided([*pictures, pictures[0]])
    assert (len(used), len(held_back)) == (12, 4)


def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is no video at all.")
    (tmp_path / "nothing.mp4").touch()
    make_clip(tmp_path / "sound.mp4", video=False, audio=True)
    for name in ("text", "nothing", "sound"):
        with pytest.raises(BadVideo, match=rf"^{name}\.mp4: "):
            pictures_of(tmp_path / f"{name}.mp4", settings_of(tmp_path), 4, one_pixel)


@pytest.mark.usefixtures("lossless")
def test_where_a_gpu_is_used_the_command_refuses_before_it_computes(
    home: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "usable_device", lambda setting: "cuda:0")
    monkeypatch.setattr(quantizing, "pictures_of", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(MachineError, match=r"^int8 is for the CPU only, and the device in use is cuda:0; set device"):
        run("models", "quantize", "yolov8n-coco", "--from", demo, "--home", home)


@pytest.mark.usefixtures("lossless")
def test_weights_that_are_not_there_are_named_with_those_that_are(home: Path, demo: Path) -> None:
    with pytest.raises(ModelError, match=r"There are no weights yolov9; .*/data/models has yolov8n-coco\.$"):
        run("models", "quantize", "yolov9", "--from", demo, "--home", home)
    settings = settings_of(home)
    for name in ("yolov8n-coco", "yolov8n-coco.pt", str(weights_of(home).path)):
        assert named_weights(name, settings) == weights_of(home) or Path(name).is_absolute()
        assert named_weights(name, settings).sha256 == weights_of(home).sha256


def test_int8_without_an_int8_model_of_the_weights_is_refused_by_the_start_and_by_doctor(home: Path) -> None:
    sentence = (
        "precision is int8, but there is no int8 model of yolov8n-coco.pt; make one with dropframe models quantize "
        "yolov8n-coco --from CLIP, or set precision to auto."
    )
    settings = settings_of(home, precision="int8")
    with pytest.raises(ModelError) as refused:
        LoadedModels(settings).describe()
    assert str(refused.value) == sentence
    assert list(preflight.check_models(settings)) == [preflight.Check("models", False, sentence)]


def test_weights_elsewhere_are_named_by_their_path_in_the_command(tmp_path: Path) -> None:
    weights = Weights(tmp_path / "mine.pt", "mine", "0" * 64)
    with pytest.raises(ModelError, match=f"dropframe models quantize {weights.path} --from CLIP"):
        require_int8(weights, settings_of(tmp_path / "home"))
    spaced = Weights(tmp_path / "my own.pt", "my own", "0" * 64)
    with pytest.raises(ModelError, match=f"dropframe models quantize '{spaced.path}' --from CLIP"):
        require_int8(spaced, settings_of(tmp_path / "home"))


def test_a_damaged_int8_model_is_refused_whatever_is_wrong_with_it(home: Path) -> None:
    weights, settings = weights_of(home), settings_of(home)
    whole = Int8Model((b"<net/>", b"weights"), {"sha256": weights.sha256})
    path = save_int8(whole, weights, settings)
    content = path.read_bytes()
    flipped = [content[:n] + bytes([content[n] ^ 0xFF]) + content[n + 1 :] for n in range(len(content))]
    others = [json.dumps({"sha256": "0" * 64}).encode(), b"[1]", b"{}"]
    said = []
    for damaged in (b"", b"junk", content[:-40], *(with_record(other) for other in others), *flipped):
        path.write_bytes(damaged)
        try:
            assert find_int8(weights, settings) == whole  # what was changed is a date, or what else nobody reads
        except ModelError as error:
            said.append(str(error))
    sentence = (
        "The int8 model of yolov8n-coco.pt is damaged; make it again with dropframe models quantize yolov8n-coco "
        "--from CLIP, or set precision to auto."
    )
    assert set(said) == {sentence}
    assert len(said) > len(flipped) / 2


def test_an_int8_model_that_cannot_be_run_is_to_be_made_again(home: Path) -> None:
    put_int8(home, xml=b"<net/>")
    with pytest.raises(ModelError, match=r"^The int8 model of yolov8n-coco\.pt cannot be run .*; make it again with "):
        ObjectStage.load(weights_of(home), settings_of(home, precision="int8"), "cpu")


@pytest.mark.usefixtures("lossless")
def test_on_a_full_disk_the_int8_model_from_before_stays(home: Path) -> None:
    put_int8(home, more=b"<!-- the one before -->")
    before = find_int8(weights_of(home), settings_of(home))
    assert before is not None
    xml = export(weights_of(home), settings_of(home)).xml
    with files_of_at_most(1_000_000):
        with pytest.raises(MachineError, match=r"^A network cannot be written to .*/exported; make room there\.$"):
            calibrated(xml, [])
        with pytest.raises(OSError, match="File too large"):
            save_int8(before, weights_of(home), settings_of(home))
    assert find_int8(weights_of(home), settings_of(home)) == before
    assert unfinished(home) == []
    assert len(calibrated(xml, [])[1]) > 1_000_000
    assert unfinished(home) == []


def test_a_calibration_that_is_killed_leaves_the_int8_model_from_before(home: Path) -> None:
    put_int8(home, more=b"<!-- the one before -->")
    weights, settings = weights_of(home), settings_of(home)
    before = find_int8(weights, settings)
    code = f"""if True:
        from pathlib import Path
        from daemon.pipeline.int8 import Int8Model, save_int8
        from daemon.pipeline.models import Weights
        from daemon.settings import Settings

        model = Int8Model((b"xml", b"weights"), {{"sha256": {weights.sha256!r}}})
        weights = Weights(Path({str(weights.path)!r}), {weights.name!r}, {weights.sha256!r})
        save_int8(model, weights, Settings.load(home={str(home)!r}))
    """
    for fault, left in (("storage.written", before), ("storage.renamed", ((b"xml", b"weights")))):
        killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, FAULT_VARIABLE: fault}, check=False)
        assert killed.returncode == -signal.SIGKILL
        found = find_int8(weights, settings)
        assert found is not None
        assert left in (found, found.network)


def test_what_nncf_cannot_do_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no such layer\nand much more")

    monkeypatch.setattr(quantizing, "_quantized", refuse)
    with pytest.raises(ModelError, match=r"^The weights cannot be quantized \(no such layer\)\.$"):
        calibrated(export(weights_of(home), settings_of(home)).xml, [])


def test_nothing_but_the_setting_takes_int8_and_on_a_gpu_it_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_int8(home)
    weights = weights_of(home)
    for precision in ("auto", "fp32"):
        stage = ObjectStage.load(weights, settings_of(home, precision=precision), "cpu")
        assert stage.models(INFO)[0].precision in ("fp32", "bf16")
        assert stage.calibration == ""
    stage = ObjectStage.load(weights, settings_of(home, precision="int8"), "cpu")
    [model] = stage.models(INFO)
    assert (model.precision, model.runtime, model.sha256) == ("int8", "openvino", weights.sha256)
    for capabilities, half in ((["FP32"], False), (["FP32", "BF16"], True)):  # of where text stands, as auto does
        monkeypatch.setattr("daemon.pipeline.inference.cpu_capabilities", lambda given=capabilities: given)
        assert in_half("int8", "cpu") is half
    with pytest.raises(MachineError, match=r"^int8 is for the CPU only, and the device in use is cuda:0; set device"):
        ObjectStage.load(weights, settings_of(home, precision="int8"), "cuda:0")


def test_a_document_begun_in_another_precision_or_with_another_calibration_is_not_gone_on_with(
    home: Path, demo: Path
) -> None:
    def named(precision: str) -> str:
        settings = settings_of(home, precision=precision)
        return fingerprint(settings, demo, INFO, [ObjectStage.load(weights_of(home), settings, "cpu")])

    put_int8(home)
    found = {named("int8"), named("int8"), named("auto")}
    put_int8(home, more=b"<!-- calibrated anew -->")
    assert len(found | {named("int8")}) == len(found) + 1 == 3


def test_processes_of_other_calibrations_do_not_share_a_document() -> None:
    assert Ready("cpu", [], calibration="a").kind != Ready("cpu", [], calibration="b").kind


def test_other_weights_do_not_get_the_int8_model_of_those_before(home: Path, tmp_path: Path) -> None:
    put_int8(home)
    other = save_checkpoint(tmp_path / "data" / "models" / "other.pt", "yolov8n.yaml")
    settings = settings_of(home, precision="int8")
    assert find_weights(settings) == other
    with pytest.raises(ModelError, match=r"no int8 model of other\.pt; make one with dropframe models quantize other "):
        LoadedModels(settings).describe()


@pytest.mark.slow
def test_an_int8_model_that_cannot_be_read_is_named_at_a_start(home: Path) -> None:
    path = int8_path(weights_of(home), settings_of(home))
    path.mkdir()
    with pytest.raises(MachineError, match=rf"^{path} cannot be used: Is a directory\.$"):
        PipelineProcess(settings_of(home, precision="int8")).start()


@pytest.mark.slow
def test_weights_exchanged_for_some_without_an_int8_model_leave_in_use_what_is_loaded(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_int8(home)
    process = PipelineProcess(settings_of(home, precision="int8"))
    try:
        before = process.start()
        assert [model["precision"] for model in before.models if model["role"] == "objects"] == ["int8"]
        found = find_int8(weights_of(home), settings_of(home))
        assert found is not None
        assert before.calibration == found.digest
        save_checkpoint(tmp_path / "data" / "models" / "other.pt", "yolov8n.yaml")
        assert process.start() == before
        assert "other.pt cannot be used, so what was loaded before stays in use: precision is int8, but" in caplog.text
    finally:
        process.close()


def test_what_the_head_makes_of_its_layers_is_left_as_it_is(home: Path) -> None:
    network = read_network(export(weights_of(home), settings_of(home)).xml)
    names = head_operations(network)
    assert any(name.endswith("/Sigmoid") for name in names)
    assert any(".dfl" in name for name in names)
    layers = {each.get_friendly_name() for each in network.get_ordered_ops() if each.get_type_name() == "Convolution"}
    assert layers & set(names) == {name for name in layers if ".dfl" in name}
    assert len(layers) > 60


@pytest.mark.parametrize(("frames", "wanted"), [(50, 20), (50, 50), (3, 20), (1000, 7), (1, 1), (0, 5)])
def test_pictures_are_spread_over_a_clip_whatever_its_length(frames: int, wanted: int) -> None:
    taken = [int(picture[0]) for picture in thinned((np.array([n]) for n in range(frames)), wanted)]
    assert len(taken) == len(set(taken)) == min(frames, wanted)
    assert taken == sorted(taken)
    gaps = np.diff([0, *taken, frames])
    assert frames == 0 or max(gaps) <= 3 * max(1, frames / wanted)


def one_pixel(picture: Image) -> Image:
    return picture[:1, :1].copy()


def test_a_long_clip_is_not_decoded_as_a_whole(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    real: Callable[..., Any] = quantizing.find_frame

    def noted(path: Path, limits: Any, wanted: Any) -> Any:
        asked.append(wanted.seconds)
        return real(path, limits, wanted)

    monkeypatch.setattr(quantizing, "find_frame", noted)
    settings = settings_of(tmp_path)
    assert len(pictures_of(demo, settings, 4, one_pixel)) == 4
    assert asked == []
    monkeypatch.setattr(quantizing, "LONG", 40)
    assert len(pictures_of(demo, settings, 4, one_pixel)) == 4
    assert asked == pytest.approx([0.625, 1.875, 3.125, 4.375])
    asked.clear()
    uncounted = in_container(tmp_path / "a.mp4", "mkv")
    monkeypatch.setattr(quantizing, "LONG", 20)
    settings = settings_of(tmp_path, containers="all")
    assert len(pictures_of(uncounted, settings, 4, one_pixel)) == len(asked) == 4


def test_agreement_counts_the_boxes_of_both_sides_by_class_and_overlap() -> None:
    def box(x: float, kind: int = 0) -> Detection:
        return Detection((x, 0, x + 100, 100), "thing", kind, 0.5)

    assert iou(box(0).box, box(0).box) == 1
    assert iou(box(0).box, box(100).box) == 0
    assert iou(box(0).box, box(50).box) == pytest.approx(1 / 3)
    one, other = [[box(0), box(300)], []], [[box(2), box(320), box(0, 1)], []]
    assert share(one, other, 0.9) == 2 / 5
    assert share(one, other, 0.5) == 4 / 5
    assert share([[]], [[]], 0.9) == 1
