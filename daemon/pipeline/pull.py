"""Fetch official weights and recognisers: only those whose checksum is pinned, and only into ``data/models/``.

A proxy is taken from the environment (``https_proxy``, ``http_proxy``, ``no_proxy``), as other programs take it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from daemon.errors import ModelError
from daemon.fs.atomic import fsync_folder
from daemon.fs.locks import try_lock
from daemon.languages import LANGUAGES, TEXT_MODELS
from daemon.pipeline.models import file_sha256, make_durable
from daemon.settings import Settings


@dataclass(frozen=True)
class Official:
    """A published checkpoint or recogniser."""

    url: str
    size_bytes: int | None
    """None where it is not known before the server says it."""
    sha256: str
    file: str = ""
    """Where it goes below ``data/models/``; the name with ``.pt`` if not given."""


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
DEFAULT = "yolo11n"
"""What a start without weights fetches."""
RAPIDOCR = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/PP-OCRv5/rec"
RECOGNISERS: Mapping[str, Official] = {
    f"text:{language.code}": Official(
        f"{RAPIDOCR}/{language.model}.onnx", None, TEXT_MODELS[language.model], f"text/{language.model}.onnx"
    )
    for language in LANGUAGES.values()
    if language.model
}
"""RapidOCR's recognisers by the languages that need them; several may need the same."""
MOST_BYTES = 200_000_000
"""No more than this is fetched of a file whose size is not known before."""
TIMEOUT_SECONDS = 10.0
"""Longest wait for an address to answer, and for the next byte."""
BLOCK_BYTES = 1 << 16


def pull(
    name: str,
    settings: Settings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    official: Mapping[str, Official] = MappingProxyType({**OFFICIAL, **RECOGNISERS}),
) -> Path:
    """Put official weights or a recogniser below ``data/models/``; a fetch that broke off resumes where it stopped.

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
        raise ModelError(_cannot_be_pulled(name, official))
    path = settings.models_dir / (wanted.file or f"{name}.pt")
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and file_sha256(path) == wanted.sha256:
        return path
    with _alone_with(part, name) as file:
        _complete(wanted, name, part, file, path, on_progress)
        part.replace(path)
        fsync_folder(path.parent)
    return path


@contextlib.contextmanager
def _alone_with(part: Path, name: str) -> Iterator[BinaryIO]:
    """Open what was fetched of a file, for this process alone; nothing is left of it that holds nothing."""
    with part.open("ab") as file:
        if (
            not try_lock(file.fileno())
            or not os.path.exists(part)
            or not os.path.samestat(os.fstat(file.fileno()), os.stat(part))
        ):
            raise ModelError(f"{name} is being fetched by another process already.")
        try:
            yield file
        finally:
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_size == 0:
                    part.unlink()


def _complete(
    wanted: Official, name: str, part: Path, file: BinaryIO, path: Path, on_progress: Callable[[int, int], None]
) -> None:
    """Fetch what is missing of a file, and make sure that it is the pinned one, and on the disk."""
    try:
        size_bytes = _fetch(wanted, part, file, on_progress)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"{wanted.url} cannot be fetched ({reason}). Without internet, fetch it elsewhere and copy it to {path}."
        ) from error
    finally:
        file.flush()
    if part.stat().st_size < size_bytes:
        raise ModelError(f"{wanted.url} broke off; pull {name} again to resume.")
    if file_sha256(part) != wanted.sha256:
        part.unlink()
        raise ModelError(f"What {wanted.url} sent is not {name}: its checksum differs. Nothing was kept; try again.")
    make_durable(part)


def _cannot_be_pulled(name: str, official: Mapping[str, Official]) -> str:
    language = LANGUAGES.get(name.removeprefix("text:")) if name.startswith("text:") else None
    if language is not None:
        return f"{name!r} cannot be pulled; docs/text-languages.md says what reads {language.name} without it."
    weights = ", ".join(sorted(each for each in official if ":" not in each))
    return f"{name!r} cannot be pulled; {weights} can, and recognisers of text such as text:ru."


def _opened(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> http.client.HTTPResponse:
    """Ask for what a request names; of a refusal, which is an answer as well, the connection is closed."""
    try:
        answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        raise
    return answer


def _fetch(wanted: Official, part: Path, file: BinaryIO, on_progress: Callable[[int, int], None]) -> int:
    """Fetch what is missing of a file, and return how many bytes it should have."""
    done = part.stat().st_size
    if done and (done >= (wanted.size_bytes or MOST_BYTES) or file_sha256(part) == wanted.sha256):
        return done
    request = urllib.request.Request(wanted.url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310
    opener = urllib.request.build_opener()  # urlopen would keep the proxy of its first call
    with _opened(opener, request) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
            file.truncate(0)
        length = answer.headers.get("Content-Length")
        size_bytes = wanted.size_bytes or min(MOST_BYTES, done + int(length or MOST_BYTES))
        while done <= size_bytes and (block := answer.read1(BLOCK_BYTES)):
            file.write(block)
            done += len(block)
            on_progress(done, size_bytes)
    return size_bytes if wanted.size_bytes or length else done
