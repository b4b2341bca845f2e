"""``python -m tests.formats PYTHON``: export a known result, then have the programs of ``reading.py`` read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from daemon.export_formats import FORMATS
from tests.clips import make_clip
from tests.exported import HOSTILE, derived_job, exported, frames

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Return 1 if a program did not read what was written."""
    with tempfile.TemporaryDirectory() as folder:
        for name, records in (
            ("plain", frames()),
            ("hostile", frames(cat=HOSTILE[0] + HOSTILE[3], texts=HOSTILE)),
        ):
            home, target = Path(folder) / f"{name}-home", Path(folder) / name
            target.mkdir(parents=True)
            job_id = derived_job(home, records=records)
            for each in FORMATS.values():
                shutil.copy(exported(home, job_id, each.name), target / f"match.mp4{each.ending}")
            make_clip(target / "match.mp4", frames=60, size=(1280, 720))
        (Path(folder) / "truth.json").write_text(json.dumps(list(frames())))
        command = [sys.argv[1], str(ROOT / "tests" / "formats" / "reading.py"), folder, str(ROOT / "docs")]
        return subprocess.run(command, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
