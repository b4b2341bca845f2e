"""Reads exports with the programs that they are for; run by ``make formats`` where these are installed.

Each function is a check: it gets the folder with the exports of a known result, and the frames of that result.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Frames = list[dict[str, Any]]
TEXTS = ("GATE B12", "Where have you been?")


def boxes(frames: Frames) -> Iterator[tuple[int, str, tuple[float, ...]]]:
    for frame in frames:
        for found in frame["result"]["detections"]:
            yield frame["frame_index"], found["class"], tuple(found["bbox"])


def near(one: Any, other: Any, most: float = 0.02) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def same_boxes(read: list[tuple[int, str, tuple[float, ...]]], frames: Frames) -> None:
    wanted = sorted(boxes(frames))
    read = sorted(read)
    assert [box[:2] for box in read] == [box[:2] for box in wanted]
    assert all(near(a[2], b[2]) for a, b in zip(read, wanted, strict=True))


def pandas_reads_tables(folder: Path, frames: Frames) -> None:
    import pandas

    edges = ["x1", "y1", "x2", "y2"]
    for table in (pandas.read_csv(folder / "match.mp4.csv"), pandas.read_parquet(folder / "match.mp4.parquet")):
        same_boxes(
            [(row["frame_index"], row["class"], tuple(row[e] for e in edges)) for _, row in table.iterrows()], frames
        )
    lines = pandas.read_json(folder / "match.mp4.jsonl", lines=True)
    assert lines["frame_index"].tolist() == [frame["frame_index"] for frame in frames]
    assert tuple(pandas.read_csv(folder / "match.mp4.texts.csv")["text"]) == TEXTS
    assert pandas.read_csv(folder / "match.mp4.tracks.csv")["boxes"].tolist() == [55, 30]


def duckdb_runs_the_recipe(folder: Path, docs: Path) -> None:
    import duckdb

    [block] = re.findall(r"```sql\n(.*?)```", (docs / "use-the-results.md").read_text(), re.DOTALL)
    statements = [text for text in block.split(";") if text.strip()]
    found = [duckdb.sql(text.replace("'match.mp4", f"'{folder}/match.mp4")).fetchall() for text in statements]
    assert found == [[("cat", 55, 0.0), ("dog", 30, 1.2)], [("GATE B12", 0.0, 2.4)]]


def pycocotools_reads_coco(folder: Path, frames: Frames) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(folder / "match.mp4.coco.json"))
    names = {category["id"]: category["name"] for category in truth.dataset["categories"]}
    read = [
        (a["image_id"] - 1, names[a["category_id"]], (x, y, x + w, y + h))
        for a in truth.dataset["annotations"]
        for x, y, w, h in [a["bbox"]]
    ]
    same_boxes(read, frames)
    score = COCOeval(truth, truth.loadRes(str(folder / "match.mp4.coco-results.json")), "bbox")
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[0] > 0.999


def supervision_reads_coco_and_yolo(folder: Path, frames: Frames) -> None:
    import cv2
    import numpy
    import supervision

    pictures, labels = folder / "pictures", folder / "yolo"
    pictures.mkdir()
    zipfile.ZipFile(folder / "match.mp4.yolo.zip").extractall(labels)
    for frame in frames:
        picture = numpy.zeros((720, 1280, 3), numpy.uint8)
        cv2.imwrite(str(pictures / f"frame_{frame['frame_index']:06}.jpg"), picture)
    coco = supervision.DetectionDataset.from_coco(str(pictures), str(folder / "match.mp4.coco.json"))
    yolo = supervision.DetectionDataset.from_yolo(
        str(pictures), str(labels / "labels" / "train"), str(labels / "data.yaml")
    )
    for dataset in (coco, yolo):
        read = [
            (int(Path(path).stem[-6:]), dataset.classes[number], tuple(float(edge) for edge in box))
            for path, _, found in dataset
            for box, number in zip(found.xyxy, found.class_id, strict=True)
        ]
        same_boxes(read, frames)


def motmetrics_reads_mot(folder: Path, frames: Frames) -> None:
    import motmetrics

    zipfile.ZipFile(folder / "match.mp4.mot.zip").extractall(folder / "mot")
    table = motmetrics.io.loadtxt(folder / "mot" / "gt" / "gt.txt", fmt="mot15-2D", min_confidence=1)
    read = [
        (frame - 1, ("cat", "dog")[int(row["ClassId"]) - 1], (x, y, x + row["Width"], y + row["Height"]))
        for (frame, _), row in table.iterrows()
        for x, y in [(row["X"] + 1, row["Y"] + 1)]  # it counts pixels from 1
    ]
    same_boxes(read, frames)
    assert len({track for _, track in table.index}) == 2


def datumaro_reads_cvat_and_mot(folder: Path, frames: Frames) -> None:
    import datumaro

    shutil.copytree(folder / "pictures", folder / "cvat" / "images")
    (folder / "cvat" / "annotations.xml").write_bytes((folder / "match.mp4.cvat-images.xml").read_bytes())
    dataset = datumaro.Dataset.import_from(str(folder / "cvat"), "cvat")
    same_boxes(list(datumaro_boxes(dataset, 0)), frames)
    same_boxes(list(datumaro_boxes(datumaro.Dataset.import_from(str(folder / "mot"), "mot_seq"), 1)), frames)


def datumaro_boxes(dataset: Any, first: int) -> Iterator[tuple[int, str, tuple[float, ...]]]:
    import datumaro

    names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    for item in dataset:
        for box in item.annotations:
            index = int(re.findall("[0-9]+", item.id)[-1]) - first
            yield index, names[box.label], (box.x, box.y, box.x + box.w, box.y + box.h)


def lxml_reads_cvat(folder: Path, frames: Frames) -> None:
    from lxml import etree

    root = etree.parse(str(folder / "match.mp4.cvat.xml"))
    read = [
        (int(box.get("frame")), track.get("label"), tuple(float(box.get(e)) for e in ("xtl", "ytl", "xbr", "ybr")))
        for track in root.iter("track")
        for box in track.iter("box")
        if box.get("outside") == "0"
    ]
    same_boxes(read, frames)


def label_studio_finds_the_tasks_right(folder: Path, frames: Frames) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    config = re.findall(r"```xml\n(.*?)```", (DOCS / "use-the-results.md").read_text(), re.DOTALL)[0]
    config = config.replace('<Label value="person"/>', '<Label value="cat"/><Label value="dog"/>')
    [task] = json.loads((folder / "match.mp4.labelstudio.json").read_text())
    interface = LabelInterface(config)
    for prediction in task["predictions"]:
        assert interface.validate_prediction(prediction), prediction["result"][0]["type"]
    read = [
        (
            entry["frame"] - 1,
            track["value"]["labels"][0],
            tuple(part * size / 100 for part, size in zip((x, y, x + w, y + h), (1280, 720, 1280, 720), strict=True)),
        )
        for track in task["predictions"][0]["result"]
        for entry in track["value"]["sequence"]
        for x, y, w, h in [[entry[name] for name in ("x", "y", "width", "height")]]
    ]
    same_boxes(read, frames)


def subtitle_libraries_read_the_texts(folder: Path, frames: Frames) -> None:
    import pysubs2
    import srt
    import webvtt

    cues = list(srt.parse((folder / "match.mp4.srt").read_text()))
    wanted = [(0.0, 1.0, TEXTS[0]), (1.0, 2.4, "\n".join(TEXTS))]
    assert [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues] == wanted
    assert [line.plaintext for line in pysubs2.load(str(folder / "match.mp4.srt"))] == [text for _, _, text in wanted]
    assert tuple(cue.text for cue in webvtt.read(str(folder / "match.mp4.vtt"))) == TEXTS
    lines = pysubs2.load(str(folder / "match.mp4.ass"))
    assert [(line.start, line.end, line.plaintext) for line in lines] == [(0, 2400, TEXTS[0]), (1000, 2400, TEXTS[1])]


def opencv_reads_the_annotated_video(folder: Path, frames: Frames) -> None:
    import cv2

    for name in ("match.mp4", "match.mp4.annotated.mp4"):
        video = cv2.VideoCapture(str(folder / name))
        shown = []
        while (read := video.read())[0]:
            shown.append((round(video.get(cv2.CAP_PROP_POS_MSEC)), read[1].shape))
        assert shown == [(40 * n, (720, 1280, 3)) for n in range(len(frames))], name


def hostile_texts_stay_texts(folder: Path, frames: Frames) -> None:
    import srt
    import webvtt
    from lxml import etree

    hostile = folder.parent / "hostile"
    cues = list(srt.parse((hostile / "match.mp4.srt").read_text()))
    assert [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in cues] == [(0.0, 1.0), (1.0, 2.4)]
    assert len(cues[1].content.splitlines()) == 6
    assert len(webvtt.read(str(hostile / "match.mp4.vtt"))) == 6
    assert len(list(etree.parse(str(hostile / "match.mp4.cvat.xml")).iter("track"))) == 2


def the_recipes_in_python_run(folder: Path, docs: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (docs / "use-the-results.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        subprocess.run([sys.executable, "-W", "ignore", "-c", block], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert len(list((folder / "voc").iterdir())) == 60


FOLDER, DOCS = Path(sys.argv[1]), Path(sys.argv[2])


def main() -> int:
    """Run each check, and say which found something else than was exported."""
    frames = json.loads((FOLDER / "truth.json").read_text())
    of_docs = (duckdb_runs_the_recipe, the_recipes_in_python_run)
    checks: tuple[Callable[..., None], ...] = (
        pandas_reads_tables,
        pycocotools_reads_coco,
        supervision_reads_coco_and_yolo,
        motmetrics_reads_mot,
        datumaro_reads_cvat_and_mot,
        lxml_reads_cvat,
        label_studio_finds_the_tasks_right,
        subtitle_libraries_read_the_texts,
        opencv_reads_the_annotated_video,
        hostile_texts_stay_texts,
        *of_docs,
    )
    failed = 0
    for check in checks:
        try:
            check(FOLDER / "plain", DOCS if check in of_docs else frames)
            print(f"ok      {check.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}\n{traceback.format_exc()}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
