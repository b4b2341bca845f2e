"""Fetch official object weights: only when asked to, only those whose checksum is pinned here."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import ModelError
from daemon.fs.atomic import fsync_folder
from daemon.pipeline.models import file_sha256, make_durable
from daemon.settings import Settings


@dataclass(frozen=True)
class Official:
    """A published checkpoint."""

    url: str
    size_bytes: int
    sha256: str


RELEASES = "https://github.com/ultralytics/assets/releases/download"
OFFICIAL: Mapping[str, Official] = {
    "yolo26n": Official(
        f"{RELEASES}/v8.4.0/yolo26n.pt",
        5_544_453,
        "9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef",
    ),
    "yolo11n": Official(
        f"{RELEASES}/v8.3.0/yolo11n.pt",
        5_613_764,
        "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1",
    ),
    "yolov8n": Official(
        f"{RELEASES}/v8.3.0/yolov8n.pt",
        6_549_796,
        "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
    ),
}
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 16


def pull(
    name: str,
    settings: Settings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    official: Mapping[str, Official] = OFFICIAL,
) -> Path:
    """Put official weights into ``data/models/``; a fetch that broke off resumes where it stopped.

    Args:
        name: Which of ``official``.
        settings: Says where.
        on_progress: Called with the bytes done and their total.
        official: What can be fetched.

    Returns:
        The path of the weights.

    Raises:
        ModelError: the name is unknown, the server cannot be reached, or the bytes are not the pinned ones.
        OSError: the folder cannot be written.
    """
    wanted = official.get(name)
    if wanted is None:
        raise ModelError(f"{name!r} cannot be pulled; {', '.join(sorted(official))} can.")
    folder = settings.models_dir
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{name}.pt", folder / f".{name}.pt.part"
    if path.exists() and file_sha256(path) == wanted.sha256:
        return path
    try:
        _fetch(wanted, part, on_progress)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"{wanted.url} cannot be fetched ({reason}). Without internet, fetch it elsewhere and copy it to {path}."
        ) from error
    if part.stat().st_size < wanted.size_bytes:
        raise ModelError(f"{wanted.url} broke off; pull {name} again to resume.")
    if file_sha256(part) != wanted.sha256:
        part.unlink()
        raise ModelError(f"What {wanted.url} sent is not {name}: its checksum differs. Nothing was kept; try again.")
    make_durable(part)
    part.replace(path)
    fsync_folder(folder)
    return path


def _fetch(wanted: Official, part: Path, on_progress: Callable[[int, int], None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    if done >= wanted.size_bytes:
        return
    request = urllib.request.Request(wanted.url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - pinned addresses
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
        with part.open("ab" if done else "wb") as file:
            while done <= wanted.size_bytes and (block := answer.read(BLOCK_BYTES)):
                file.write(block)
                done += len(block)
                on_progress(done, wanted.size_bytes)
