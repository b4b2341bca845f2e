"""Each format, read back: by its rules here, by the programs that it is for in tests/formats."""

from __future__ import annotations

import configparser
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import polars
import pytest
import yaml

from daemon.export.source import NothingExported
from daemon.export.writers import WRITERS
from daemon.export_formats import FORMATS
from daemon.jobs import output_key
from tests.derived_documents import frame, write_document
from tests.exported import FRAMES, HOSTILE, derived_job, exported, finished_job, frames


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    return derived_job(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def truth(**filters: Any) -> list[tuple[int, str, float, tuple[float, ...]]]:
    return [
        (record["frame_index"], found["class"], found["confidence"], tuple(found["bbox"]))
        for record in frames()
        for found in record["result"]["detections"]
    ]


def test_each_format_has_a_writer_and_an_ending_of_its_own() -> None:
    assert list(WRITERS) == list(FORMATS)
    assert len({each.ending for each in FORMATS.values()}) == len(FORMATS)


def test_json_lines_are_those_of_the_result(tmp_path: Path, job_id: str) -> None:
    assert [json.loads(text) for text in exported(tmp_path, job_id, "jsonl").read_text().splitlines()] == list(frames())


def test_json_lines_leave_out_what_is_not_wanted(tmp_path: Path, job_id: str) -> None:
    path = exported(tmp_path, job_id, "jsonl", classes=["dog"], from_s=1.0, to_s=1.4)
    records = [json.loads(text) for text in path.read_text().splitlines()]
    assert [record["frame_index"] for record in records] == list(range(25, 35))
    assert [len(record["result"]["detections"]) for record in records] == [0] * 5 + [1] * 5


def test_csv_has_a_row_for_each_detection(tmp_path: Path, job_id: str) -> None:
    path = exported(tmp_path, job_id, "csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbfframe_index,timestamp_s,class,confidence,x1,y1,x2,y2\r\n")
    read = [
        (int(row["frame_index"]), row["class"], float(row["confidence"]), tuple(float(row[e]) for e in BOX))
        for row in rows(path)
    ]
    assert read == truth()


BOX = ("x1", "y1", "x2", "y2")


def test_filters_by_class_confidence_and_time_go_together(tmp_path: Path, job_id: str) -> None:
    found = rows(exported(tmp_path, job_id, "csv", classes=["cat", "dog"], min_confidence=0.7, from_s=1.0, to_s=1.4))
    assert [int(row["frame_index"]) for row in found] == list(range(25, 35))
    assert {row["class"] for row in found} == {"cat"}


def test_parquet_holds_the_same_numbers_as_csv(tmp_path: Path, job_id: str) -> None:
    table = polars.read_parquet(exported(tmp_path, job_id, "parquet"))
    assert [
        (r["frame_index"], r["class"], r["confidence"], tuple(r[e] for e in BOX)) for r in table.to_dicts()
    ] == truth()


def test_csv_of_texts_and_of_tracks(tmp_path: Path, job_id: str) -> None:
    texts = rows(exported(tmp_path, job_id, "csv-texts"))
    assert [(text["text"], float(text["start_s"]), float(text["end_s"])) for text in texts] == [
        ("GATE B12", 0.0, 2.4),
        ("Where have you been?", 1.0, 2.4),
    ]
    tracks = rows(exported(tmp_path, job_id, "csv-tracks"))
    assert [(track["class"], track["boxes"]) for track in tracks] == [("cat", "55"), ("dog", "30")]
    assert [track["class"] for track in rows(exported(tmp_path, job_id, "csv-tracks", classes=["dog"]))] == ["dog"]


def test_coco_counts_from_one_and_keeps_empty_pictures(tmp_path: Path, job_id: str) -> None:
    coco = json.loads(exported(tmp_path, job_id, "coco").read_text())
    assert [image["id"] for image in coco["images"]] == list(range(1, FRAMES + 1))
    assert coco["images"][5]["file_name"] == "frame_000005.jpg"
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert names == {1: "cat", 2: "dog"}
    assert [annotation["id"] for annotation in coco["annotations"]] == list(range(1, 86))
    read = [
        (a["image_id"] - 1, names[a["category_id"]], a["score"], (x, y, x + w, y + h))
        for a in coco["annotations"]
        for x, y, w, h in [a["bbox"]]
    ]
    assert read == truth()
    dogs = json.loads(exported(tmp_path, job_id, "coco-results", classes=["dog"]).read_text())
    assert {entry["category_id"] for entry in dogs} == {2}  # the same number, whatever else was left out


def test_cvat_ends_a_track_where_its_object_goes(tmp_path: Path, job_id: str) -> None:
    root = ElementTree.fromstring(exported(tmp_path, job_id, "cvat").read_bytes())
    cat, dog = root.findall("track")
    boxes = [(int(box.get("frame")), box.get("outside")) for box in cat.findall("box")]
    assert boxes == [*((n, "0") for n in range(20)), (20, "1"), *((n, "0") for n in range(25, FRAMES))]
    assert {box.get("keyframe") for box in root.iter("box")} == {"1"}
    assert [box.get("outside") for box in dog.findall("box")] == ["0"] * 30  # none past the end
    assert [name.text for name in root.findall("meta/task/labels/label/name")] == ["cat", "dog"]


def test_cvat_says_the_stride_and_counts_the_frames_of_the_video(tmp_path: Path) -> None:
    job_id = finished_job(tmp_path)
    records = ({**record, "frame_index": record["frame_index"] * 5} for record in frames())
    write_document(tmp_path / "data" / output_key(job_id), records, stride=5)
    root = ElementTree.fromstring(exported(tmp_path, job_id, "cvat-images").read_bytes())
    assert root.findtext("meta/task/frame_filter") == "step=5"
    assert [image.get("id") for image in root.findall("image")][:3] == ["0", "5", "10"]
    assert root.findtext("meta/task/size") == "296"


def test_cvat_for_images_has_the_same_boxes(tmp_path: Path, job_id: str) -> None:
    root = ElementTree.fromstring(exported(tmp_path, job_id, "cvat-images").read_bytes())
    read = [
        (int(image.get("id")), box.get("label"), tuple(float(box.get(e)) for e in ("xtl", "ytl", "xbr", "ybr")))
        for image in root.findall("image")
        for box in image.findall("box")
    ]
    assert read == [(index, name, box) for index, name, _, box in truth()]


def test_yolo_has_a_file_for_each_frame(tmp_path: Path, job_id: str) -> None:
    with zipfile.ZipFile(exported(tmp_path, job_id, "yolo")) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == FRAMES + 1
        assert yaml.safe_load(archive.read("data.yaml"))["names"] == {0: "cat", 1: "dog"}
        assert archive.read("labels/train/frame_000020.txt") == b""
        first, second = archive.read("labels/train/frame_000040.txt").decode().splitlines()
    number, *place = first.split()
    assert (number, second.split()[0]) == ("0", "1")
    assert [float(part) for part in place] == pytest.approx([180 / 1280, 250.25 / 720, 80 / 1280, 99.5 / 720], abs=1e-6)
    with zipfile.ZipFile(exported(tmp_path, job_id, "yolo", conf=True)) as archive:
        assert archive.read("labels/train/frame_000000.txt").split()[5] == b"0.9"


def test_mot_counts_frames_from_one_and_says_a_whole_frame_rate(tmp_path: Path, job_id: str) -> None:
    with zipfile.ZipFile(exported(tmp_path, job_id, "mot")) as archive:
        truth_rows = [text.split(",") for text in archive.read("gt/gt.txt").decode().splitlines()]
        about = configparser.ConfigParser()
        about.read_string(archive.read("seqinfo.ini").decode())
    assert truth_rows[0] == ["1", "1", "100.0", "200.5", "80", "99.5", "1", "1", "1.0"]
    assert len(truth_rows) == 85
    assert (about["Sequence"]["frameRate"], about["Sequence"]["seqLength"]) == ("25", str(FRAMES))


def test_label_studio_has_percentages_and_ends_what_goes(tmp_path: Path, job_id: str) -> None:
    [task] = json.loads(exported(tmp_path, job_id, "labelstudio").read_text())
    cat, dog = task["predictions"][0]["result"]
    assert (cat["value"]["labels"], dog["value"]["labels"]) == (["cat"], ["dog"])
    sequence = {entry["frame"]: entry for entry in cat["value"]["sequence"]}
    assert sequence[1]["x"] == pytest.approx(100 * 100 / 1280, abs=0.001)
    assert [frame for frame, entry in sequence.items() if not entry["enabled"]] == [20, FRAMES]


def test_srt_does_not_overlap(tmp_path: Path, job_id: str) -> None:
    assert exported(tmp_path, job_id, "srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:01,000\nGATE B12\n\n"
        "2\n00:00:01,000 --> 00:00:02,400\nGATE B12\nWhere have you been?\n\n"
    )


def test_vtt_and_ass_have_a_cue_a_text_where_it_stands(tmp_path: Path, job_id: str) -> None:
    vtt = exported(tmp_path, job_id, "vtt").read_text()
    assert vtt.startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.400 line:5.56% position:3.12%,line-left size:46.88% align:left\n"
    )
    lines = exported(tmp_path, job_id, "ass").read_text("utf-8-sig").splitlines()
    assert lines[-2].startswith(r"Dialogue: 0,0:00:00.00,0:00:02.40,Default,,0,0,0,,{\an7\pos(40,40)\fs32}GATE B12")


def test_texts_have_no_classes(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(Exception, match="no classes"):
        exported(tmp_path, job_id, "srt", classes=["cat"])


@pytest.mark.parametrize("name", list(FORMATS))
def test_hostile_words_leave_each_format_whole(tmp_path: Path, name: str) -> None:
    records = frames(cat=HOSTILE[0] + HOSTILE[3], texts=HOSTILE)
    job_id = derived_job(tmp_path, records=records)
    path = exported(tmp_path, job_id, name)
    content = path.read_bytes()
    if name == "annotated":  # test_annotated looks into it
        return
    if name == "jsonl":
        assert len([json.loads(text) for text in content.splitlines()]) == FRAMES
        return
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            content = b"\n".join(archive.read(name) for name in archive.namelist() if not name.endswith("txt"))
            if "data.yaml" in archive.namelist():
                assert len(yaml.safe_load(archive.read("data.yaml"))["names"]) == 2
    if name == "parquet":
        assert polars.read_parquet(path).height == 85
        return
    text = content.decode()
    assert re.search("[\x00-\x08\ud800-\udfff]", text) is None
    if path.suffix == ".csv":
        assert not [value for row in rows(path) for value in row.values() if value[:1] in "=@" and value]
        assert len(rows(path)) in (85, 2, len(HOSTILE))
    if path.suffix == ".json":
        json.loads(text)
    if path.suffix == ".xml":
        assert len({box.get("label") for box in ElementTree.fromstring(text).iter("box")} - {None}) in (0, 2)
    if name == "srt":
        assert len(re.findall("-->", text)) == 2
        assert "\u202e" not in text
    if name == "vtt":
        assert len(re.findall("-->", text)) == len(HOSTILE)
        assert "<" not in text


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_result_without_anything_gives_a_whole_file(tmp_path: Path, name: str) -> None:
    job_id = derived_job(tmp_path, records=iter([]))
    path = exported(tmp_path, job_id, name)
    if path.suffix == ".json":
        json.loads(path.read_text())
    if path.suffix == ".xml":
        ElementTree.fromstring(path.read_bytes())
    if path.suffix == ".zip":
        assert zipfile.ZipFile(path).testzip() is None
    if name == "parquet":
        assert polars.read_parquet(path).height == 0


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, job_id: str) -> None:
    for name in FORMATS:
        first = exported(tmp_path, job_id, name).read_bytes()
        assert exported(tmp_path, job_id, name).read_bytes() == first, name


def test_a_picture_of_unknown_size_is_said(tmp_path: Path, job_id: str) -> None:
    document = tmp_path / "data" / output_key(job_id)
    document.write_text(document.read_text().replace('"width": 1280', '"width": null'))
    with pytest.raises(NothingExported, match="how large the picture is"):
        exported(tmp_path, job_id, "coco")
    assert rows(exported(tmp_path, job_id, "csv"))


def test_archives_of_many_files_are_found_whole(tmp_path: Path) -> None:
    records = (frame(n, n / 25, [], []) for n in range(70_000))
    job_id = finished_job(tmp_path, records=records)
    with zipfile.ZipFile(exported(tmp_path, job_id, "yolo")) as archive:
        assert len(archive.namelist()) == 70_001
        assert archive.read("labels/train/frame_069999.txt") == b""
