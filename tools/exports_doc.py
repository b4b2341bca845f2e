"""Write docs/use-the-results.md from the registry of formats: ``python -m tools.exports_doc`` (``make docs``)."""

from __future__ import annotations

from pathlib import Path

from daemon.export_formats import FORMATS

TARGET = Path(__file__).parents[1] / "docs" / "use-the-results.md"

PAGE = """# Use the results

A result is one JSON file with an entry for each frame ([its form](results-format.md)). For other programs there are
exports. This page is made from the code by `make docs`; tests run its commands.

| format | file | holds | read by |
| --- | --- | --- | --- |
TABLE

* **Command line**: `dropframe export match.mp4 --format csv` writes `match.mp4.csv`; `-o FILE` writes elsewhere, `-o -`
  to the screen. `dropframe formats` lists the formats.
* **HTTP**: `curl -OJ 'localhost:8000/v1/jobs/ID/export/csv?wait=20'` ([details](endpoints.md)).
* **Page**: the list "Export as" of a completed job.
* **Outbox**: `exports = ["csv", "srt"]` in `dropframe.toml` puts `match.mp4.csv` and `match.mp4.srt` beside
  `match.mp4.json`, some seconds after it, for every job that completes from then on.
* **With the video**: the option `exports` asks for formats beside those of the settings: `dropframe submit --exports
  csv,srt match.mp4`, the field `exports` of an upload (`curl -T match.mp4
  'localhost:8000/v1/video/submit/match.mp4?exports=csv,srt'`), or `{"exports": ["csv", "srt"]}` in
  [its options file](drop-folder.md#options-files).

Exports in the outbox go when the result goes. A job's `exports` (`dropframe jobs --json`, `GET /v1/jobs/ID`) say of
each whether it is `pending` or `published`, or why it is neither, as when the result has too little for the format.

| part of a result | command line | HTTP |
| --- | --- | --- |
| some classes | `--class person --class bus` | `classes=person,bus` |
| what is certain enough | `--min-confidence 0.6` | `min_confidence=0.6` |
| a stretch of the video, in seconds | `--from-s 60 --to-s 90` | `from_s=60&to_s=90` |

`tracks` and `texts` are [derived](derived.md) from the result first, which takes a while with a long video. Boxes are
in pixels of the upright picture, with x1, y1 at the top left. Numbers of classes are given in order of their first
detection, and do not depend on the filters. An export is made once and kept for a week (`keep_export_days`,
`keep_export_bytes`).

For 200,000 frames with 800,000 detections (142 MB of JSON) a format takes 12 s of processor time at most, and 60 MB of
memory, Parquet 146 MB (`python -m benchmarks.exports`).

## Pictures of the frames

COCO, YOLO and CVAT's images speak of pictures that are named after `frame_index`: `frame_000000.jpg` and so on. This
writes them:

```sh
mkdir -p images/train
ffmpeg -i match.mp4 -fps_mode passthrough -start_number 0 images/train/frame_%06d.jpg
```

## pandas

```python
import pandas

found = pandas.read_csv("match.mp4.csv")
print(found.groupby("class")["frame_index"].nunique())  # frames with an object of the class

frames = pandas.read_json("match.mp4.jsonl", lines=True)
```

## DuckDB

```sql
SELECT class, count(*) AS boxes, min(timestamp_s) AS first_seen FROM 'match.mp4.parquet' GROUP BY class ORDER BY class;
SELECT text, start_s, end_s FROM read_csv('match.mp4.texts.csv') WHERE text ILIKE '%gate%';
```

## Excel

Open `match.mp4.csv` or `match.mp4.texts.csv`: a mark at the beginning tells Excel that it is UTF-8. A text that begins
with `=`, `+`, `-` or `@` has an apostrophe before it, or Excel would calculate it. A sheet takes 1,048,576 rows; of a
longer video export a part.

## CVAT

Make a task with the video, then Actions → Upload annotations → CVAT 1.1 with `match.mp4.cvat.xml`. Each object is one
track; where it goes out of sight, the track is outside. With a `frame_stride` give the task the same frame step. A task
of pictures takes `match.mp4.cvat-images.xml`. The labels of the task must be there: they are in the file, under
`<labels>`.

## Label Studio

Make a project with this labelling interface (a `Label` for each class of yours) and import
`match.mp4.labelstudio.json`; set `data.video` in it to where Label Studio finds the video. The tracks are predictions.

```xml
<View>
  <Video name="video" value="$video" framerate="25.0"/>
  <VideoRectangle name="box" toName="video"/>
  <Labels name="videoLabels" toName="video"><Label value="person"/></Labels>
</View>
```

## Ultralytics

```sh
unzip -q match.mp4.yolo.zip
ffmpeg -i match.mp4 -fps_mode passthrough -start_number 0 images/train/frame_%06d.jpg
yolo detect train data=data.yaml
```

Labels have five columns; with `--conf` (`conf=1`) a sixth holds the confidence, which training refuses.

## FiftyOne

```python no-test
import fiftyone

dataset = fiftyone.Dataset.from_dir(
    dataset_type=fiftyone.types.COCODetectionDataset, data_path="images/train", labels_path="match.mp4.coco.json"
)
```

## pycocotools

```python
from pycocotools.coco import COCO

truth = COCO("match.mp4.coco.json")
found = truth.loadRes("match.mp4.coco-results.json")
```

## Evaluate tracks

`match.mp4.mot.zip` has `gt/gt.txt` and `seqinfo.ini` of MOT Challenge; detections without a track are not in it.

```python
import zipfile

import motmetrics

zipfile.ZipFile("match.mp4.mot.zip").extractall("match")
tracks = motmetrics.io.loadtxt("match/gt/gt.txt", fmt="mot15-2D", min_confidence=1)
```

## The video with boxes

`match.mp4.annotated.mp4` is the video with boxes, labels and lines of text drawn on every frame, as the page draws
them: MP4 with H.264, upright, with the times of the frames as they were, so that a variable frame rate stays one. Sound
that MP4 can hold (AAC, MP3, AC-3, Opus, FLAC, ALAC) is copied, other sound is left out. On a frame that was not
analysed stands what was found in the last one before it that was. `--from-s` and `--to-s` make a clip that begins at 0.

It takes about as long as the video lasts, one processor, and on the disk twice the room of the result until it is done;
one is made at a time. It needs the stored video, so make it before `keep_source_days` removes that. Pictures of more
than 9.4 megapixels are made smaller, because players show no larger H.264.

## Players

Put `match.mp4.srt` beside `match.mp4` under the name `match.srt`, and mpv, VLC and most televisions show the texts.
`match.mp4.ass` shows each text where it stands in the picture; so does `match.mp4.vtt` in a browser:

```html
<video src="match.mp4" controls><track src="match.mp4.vtt" default></video>
```

SubRip knows no escape: `<b>`, `{\\an8}` and `-->` in a text become `\u2039b>`, `{/an8}` and `→`.

## ffmpeg

```sh
ffmpeg -i match.mp4 -i match.mp4.srt -c copy -c:s mov_text with-subtitles.mp4
ffmpeg -i match.mp4 -vf ass=match.mp4.ass with-texts.mp4
```

## Pascal VOC

There is no export; this makes one from COCO:

```python
import collections
import json
import pathlib
import xml.etree.ElementTree as ElementTree

coco = json.load(open("match.mp4.coco.json"))
names = {category["id"]: category["name"] for category in coco["categories"]}
boxes = collections.defaultdict(list)
for box in coco["annotations"]:
    boxes[box["image_id"]].append(box)
pathlib.Path("voc").mkdir(exist_ok=True)
for image in coco["images"]:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = image["file_name"]
    for box in boxes[image["id"]]:
        x, y, width, height = box["bbox"]
        found = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(found, "name").text = names[box["category_id"]]
        edges = ElementTree.SubElement(found, "bndbox")
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + width, y + height)):
            ElementTree.SubElement(edges, edge).text = str(round(value))
    ElementTree.ElementTree(root).write(f"voc/{image['file_name'][:-4]}.xml")
```
"""


def page() -> str:
    """Return the page."""
    rows = [
        f"| `{each.name}` | `match.mp4{each.ending}` | {each.title}: {each.content} | {each.used_by} |"
        for each in FORMATS.values()
    ]
    return PAGE.replace("TABLE", "\n".join(rows))


if __name__ == "__main__":
    TARGET.write_text(page())
