"""Train the text detector from scratch: `python -m tools.text_detector.train --out DIR`.

Ultralytics' model and loss in a loop of our own: its trainer needs torchvision, and would draw no images on
the fly. A run that is stopped (SIGTERM) can be resumed from `last.pt`, and `text.pt` always holds the
weights so far, ready to use.
"""

from __future__ import annotations

import os

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false", ULTRALYTICS_SAFE_LOAD="1")
# Threads that spin while they wait would take the data workers' cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import copy
import math
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from ultralytics import __version__
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.torch_utils import ModelEMA

from .dataset import Stream

MODEL = Path(__file__).with_name("model.yaml")
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 24.0}
"""Weights of the losses; "dfl" is the distances' error as a share of the image here, so it is large."""

SMALL = [(256, 416), (256, 448), (288, 480)]
FULL = [(288, 480), (320, 512), (384, 640)]
"""Heights and widths of batches: small ones first, which are cheaper, then up to the size of use."""

FULL_FROM = 0.65
"""Share of the run after which batches have the larger sizes."""


def learning_rate(progress: float, step: int, peak: float) -> float:
    """Rise over 300 steps, then fall along a cosine to 2 % of the peak at `progress` 1."""
    fall = 0.02 + 0.98 * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return peak * fall * min(1.0, (step + 1) / 300)


def save_weights(model: torch.nn.Module, path: Path, images: int) -> None:
    """Write weights that `ultralytics.YOLO(path)` loads: half precision, nothing but the model."""
    model = copy.deepcopy(model).half().eval()
    model.yaml["yaml_file"] = MODEL.name  # not where it lay on this machine
    model.criterion, model.args = None, {"task": "detect", "imgsz": [384, 640], "model": MODEL.name}
    for parameter in model.parameters():
        parameter.requires_grad = False
    temporary = path.with_suffix(".part")
    torch.save(
        {
            "model": model.to(memory_format=torch.contiguous_format),
            "train_args": model.args,
            "epoch": -1,
            "images": images,
            "version": __version__,
            "license": "AGPL-3.0",
        },
        temporary,
    )
    temporary.replace(path)


def save_state(path: Path, **state: object) -> None:
    """Write everything that a resumed run needs."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def batches(seed: int, batch: int, shapes: list[tuple[int, int]], workers: int) -> torch.utils.data.DataLoader:
    """Open the stream of training batches."""
    return torch.utils.data.DataLoader(Stream(seed, batch, shapes), batch_size=None, num_workers=workers)


def build() -> tuple[DetectionModel, v8DetectionLoss]:
    """Make an untrained model and its loss."""
    model = DetectionModel(str(MODEL), ch=3, nc=1, verbose=False)
    model.names, model.args = {0: "text"}, SimpleNamespace(**GAINS)
    return model, v8DetectionLoss(model)


def main() -> None:
    """Train until `--images` were seen or `--hours` have passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for text.pt (weights) and last.pt (to resume)")
    parser.add_argument("--images", type=int, default=120_000, help="images to train on (default: %(default)s)")
    parser.add_argument("--hours", type=float, help="end after this time instead, wherever the run is by then")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate of AdamW (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw images (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads that train (default: %(default)s)")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--resume", action="store_true", help="go on from last.pt in --out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    model, loss_of = build()
    model = model.to(memory_format=torch.channels_last).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}], lr=options.rate
    )
    ema = ModelEMA(model, decay=0.999, tau=300)
    images = step = 0
    elapsed_before = 0.0
    if options.resume:
        state = torch.load(options.out / "last.pt", weights_only=True)
        model.load_state_dict(state["model"])
        ema.ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        images, step, ema.updates, elapsed_before = (
            state["images"],
            state["step"],
            state["step"],
            state["elapsed"],
        )

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    start = last_save = last_log = time.monotonic()
    seen_at_log, shapes, stream = images, None, None
    while True:
        elapsed = elapsed_before + time.monotonic() - start
        progress = elapsed / (3600 * options.hours) if options.hours else images / options.images
        wanted = FULL if progress >= FULL_FROM else SMALL
        if shapes is not wanted:
            # The seed moves on with the images, so that a resumed run does not see the same ones again.
            shapes, stream = (
                wanted,
                iter(batches(options.seed * 1_000_003 + images, options.batch, wanted, options.workers)),
            )
        if progress >= 1:
            break
        pictures, targets = next(stream)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, step, options.rate)
        pictures = (pictures.float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            out = model(pictures)
        out = {"boxes": out["boxes"].float(), "scores": out["scores"].float(), "feats": out["feats"]}
        batch = {"batch_idx": targets[:, 0], "cls": targets[:, 1], "bboxes": targets[:, 2:]}
        loss, parts = loss_of(out, batch)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model)
        images, step = images + options.batch, step + 1

        now = time.monotonic()
        if step % 50 == 0:
            speed, seen_at_log, last_log = (images - seen_at_log) / (now - last_log), images, now
            numbers = " ".join(f"{name} {float(value):.3f}" for name, value in parts.items())
            print(
                f"{images} images, {progress:.1%}, {speed:.1f}/s, lr {optimizer.param_groups[0]['lr']:.2e}, {numbers}",
                flush=True,
            )
        if stop or now - last_save > 60 * options.save_minutes:
            last_save = now
            save_weights(ema.ema, options.out / "text.pt", images)
            save_state(
                options.out / "last.pt", model=model.state_dict(), ema=ema.ema.state_dict(),
                optimizer=optimizer.state_dict(), images=images, step=step,
                elapsed=elapsed_before + now - start,
            )  # fmt: skip
            if stop:
                print(f"stopped at {images} images; go on with --resume", flush=True)
                return
    save_weights(ema.ema, options.out / "text.pt", images)
    print(f"done: {images} images, weights in {options.out / 'text.pt'}", flush=True)


if __name__ == "__main__":
    main()
