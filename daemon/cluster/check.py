"""What ``dropframe doctor`` says of a cluster, and that the package it needs is there."""

from __future__ import annotations

import importlib.util
import json
import select
import time
from collections.abc import Iterator

from daemon.cluster.driver_process import end_driver, start_driver
from daemon.cluster.share import MARK
from daemon.errors import MachineError
from daemon.settings import Settings

MOST_SECONDS = 120.0
"""Longest time that all machines together get to answer."""


def require_ray(settings: Settings) -> None:
    """Make sure that Ray is installed if it is asked for; it is not loaded.

    Raises:
        MachineError: it is not.
    """
    if settings.executor == "cluster" and importlib.util.find_spec("ray") is None:
        raise MachineError(
            'executor = "cluster" needs a package that is not installed; install it with: '
            "pip install 'dropframe[cluster]'"
        )


def check_cluster(settings: Settings) -> Iterator[tuple[str, bool, str]]:
    """Yield what was found of the cluster and of each machine: a name, whether it can be used, and a sentence.

    Nothing where there is no cluster to be used.
    """
    if settings.executor != "cluster":
        return
    try:
        require_ray(settings)
        mark = _mark(settings)
    except MachineError as error:
        yield "cluster", False, str(error)
        return
    child, deadline = start_driver(settings, mark, check=True), time.monotonic() + MOST_SECONDS
    found, answers = 0, False
    assert child.stdout is not None
    try:
        while select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (line := child.stdout.readline()):
                break
            answer = json.loads(line)
            if answers := answer["kind"] == "checked":
                break
            if answer["kind"] == "refused":
                yield "cluster", False, answer["message"]
                return
            found += 1
            yield answer["name"], answer["ok"], answer["sentence"]
    finally:
        end_driver(child)
    where = settings.cluster_address
    if not answers and not found:
        yield "cluster", False, f"Nothing answers at cluster_address = {where}; start Ray there (docs/scale-out.md)."
    else:
        none = ", which has no machine with cores just now; jobs wait for one" if not found else ""
        yield "cluster", True, f"{where} answers{none}"


def _mark(settings: Settings) -> str:
    """Return the mark that machines have to see; nothing before the first start."""
    path = settings.videos_dir / MARK
    try:
        return path.read_text() if path.exists() else ""
    except OSError as error:
        raise MachineError(f"{path.parent} cannot be read: {error.strerror}.") from error
