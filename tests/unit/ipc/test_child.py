"""What child processes are given."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.ipc import background
from daemon.pipeline.pipeline_child import PipelineChild
from daemon.settings import Settings
from daemon.stills.client import StillsProcess


class Caught(Exception):
    """A child was about to be started."""


@pytest.mark.parametrize(
    "start",
    [
        lambda home: background.run("daemon.export.process", [], lambda: False),
        lambda home: PipelineChild(Settings(home=home), None),
        lambda home: StillsProcess(Settings(home=home))._started(),
    ],
    ids=["background", "pipeline", "stills"],
)
def test_who_reads_what_strangers_made_has_no_credentials_of_object_storage(
    start: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DROPFRAME_MARK", "kept")
    given: dict[str, str] = {}

    def catch(*_: Any, env: dict[str, str] | None = None, **__: Any) -> None:
        given.update(env or {"AWS_SECRET_ACCESS_KEY": "inherited"})
        raise Caught

    monkeypatch.setattr(subprocess, "Popen", catch)
    with pytest.raises(Caught):
        start(tmp_path)
    assert given["DROPFRAME_MARK"] == "kept"
    assert not any(name.startswith("AWS_") for name in given)
