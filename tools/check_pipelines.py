"""Check that the stages of each registered pipeline fit each other: ``python -m tools.check_pipelines [HOME]``.

Models are loaded as the daemon would; where HOME has no object weights, a stage without any stands for the one with
them. Exit code 1 if a stage needs what none before it gives.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.errors import MachineError
from daemon.pipeline.detect import ObjectStage
from daemon.pipeline.loaded import LoadedModels
from daemon.pipeline.models import find_weights
from daemon.pipeline.pipelines import Pipeline, all_pipelines, check_fit
from daemon.settings import Settings


def check(pipelines: Mapping[str, Pipeline], loaded: LoadedModels) -> Iterator[tuple[str, bool, str]]:
    """Yield each pipeline's id, whether it fits, and a sentence."""
    for pipeline_id, pipeline in sorted(pipelines.items()):
        try:
            stages = pipeline.stages(loaded)
            check_fit(stages)
        except MachineError as error:
            yield pipeline_id, False, str(error)
        else:
            yield pipeline_id, True, " → ".join(stage.name for stage in stages)


def main(home: Path) -> int:
    """Check all; return the exit code."""
    fits = True
    settings = Settings(home=home, device="cpu")
    loaded = LoadedModels(settings)
    if find_weights(settings) is None:
        vars(loaded)["objects"] = object.__new__(ObjectStage)  # it is asked what it gives, and never run
    for pipeline_id, ok, sentence in check(all_pipelines(), loaded):
        fits &= ok
        print(f"{'ok  ' if ok else 'FAIL'} {pipeline_id}: {sentence}")
    return int(not fits)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else folder)))
