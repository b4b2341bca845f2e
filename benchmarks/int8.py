"""Objects in fp32, bf16 and int8: how well they agree with fp32, and what a picture takes of the processor.

``python -m benchmarks.int8``, with the extra int8. Each clip is calibrated with its own frames and with those of the
other clips alone, which is how videos fare that were not at hand.
"""

from __future__ import annotations

import tempfile

from rich.console import Console
from rich.table import Table

import daemon.pipeline  # noqa: F401 - the environment of our own stages
from benchmarks.clips import clips, weights
from benchmarks.limits import about
from daemon.pipeline.int8 import require_int8
from daemon.pipeline.models import find_weights
from daemon.pipeline.quantize import PICTURES, compared, pictures_of, quantize, seen
from daemon.pipeline.yolo import Yolo
from daemon.settings import Settings

console = Console(width=120)


def main() -> None:
    """Print the table."""
    table = Table(title="boxes that fp32 has, too, at IoU 0.9 and 0.5; milliseconds of the processor a picture")
    for column in ("clip", "calibrated with", "boxes", "precision", "0.9", "0.5", "milliseconds"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load(home=home, weights=weights(), device="cpu")
        found = find_weights(settings)
        assert found is not None
        full = Yolo.load(found, settings.model_copy(update={"precision": "fp32"}), "cpu")
        for clip in clips():
            pictures = pictures_of(clip, settings, PICTURES // 4, full.fitted)
            expected, milliseconds = seen(full, pictures)
            table.add_row(clip.name, "", "", "fp32", "", "", f"{milliseconds:.1f}")
            for name, others in (("itself", [clip]), ("the others", [other for other in clips() if other != clip])):
                quantize(found, others, settings)
                model = require_int8(found, settings)
                for each in compared(found, settings, model, pictures, expected):
                    if each.precision == "int8" or name == "itself":
                        shares = f"{each.same:.1%}", f"{each.near:.1%}", f"{each.milliseconds:.1f}"
                        used = name if each.precision == "int8" else ""
                        table.add_row(clip.name, used, str(each.boxes), each.precision, *shares)
    console.print(about())
    console.print(table)


if __name__ == "__main__":
    main()
