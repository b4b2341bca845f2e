"""What ``dropframe doctor`` says of object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from daemon.errors import DropframeError, ObjectRefused
from daemon.objects.bucket import Bucket, require_obstore
from daemon.s3_address import S3Address
from daemon.settings import Settings

PROBE = ".dropframe-doctor"
"""Key of the object that is put below a store, to see whether it can be."""


def require_package(settings: Settings) -> None:
    """Make sure that what the settings ask for can be had; no bucket is asked.

    Raises:
        MachineError: a package is not installed.
    """
    if settings.result_store or settings.inbox_store or settings.cluster_store:
        require_obstore()


def check_stores(settings: Settings) -> Iterator[tuple[str, bool, str]]:
    """Yield of each store that is set its name, whether it can be used, and a sentence."""
    if settings.result_store:
        yield "result_store", *_outcome(settings.result_store, settings, _put)
    if settings.cluster_store:
        yield "cluster_store", *_outcome(settings.cluster_store, settings, _put)
    if settings.inbox_store:
        yield "inbox_store", *_outcome(settings.inbox_store, settings, _list)


def _outcome(address: str, settings: Settings, look: Callable[[Bucket], str]) -> tuple[bool, str]:
    try:
        return True, look(Bucket(S3Address.of(address), settings))
    except DropframeError as error:
        return False, str(error)


def _put(bucket: Bucket) -> str:
    bucket.put(PROBE, b"", "application/octet-stream")
    try:
        bucket.delete(PROBE)
    except ObjectRefused:
        return f"{bucket.address} can be written; what deleted jobs have put there cannot be removed"
    return f"{bucket.address} can be written"


def _list(bucket: Bucket) -> str:
    problems = [str(found) for found in bucket.objects() if isinstance(found, ObjectRefused)]
    return " ".join((f"{bucket.address} can be listed.", *problems)) if problems else f"{bucket.address} can be listed"
