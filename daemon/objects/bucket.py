"""Bucket: what is asked of object storage. Everything that obstore is used for is here."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from daemon.errors import MachineError, ObjectChanged, ObjectMissing, ObjectRefused, ObjectStoreError
from daemon.objects.answers import error_of, told
from daemon.objects.credentials import shared_credentials
from daemon.s3_address import S3Address
from daemon.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Store

STALL_SECONDS = 120.0
"""A request of which nothing comes back for so long is ended; a part has to be sent in this time."""
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 6 * 3600.0
"""Longest time of one download; it goes on where it was."""
RETRIES = 3
"""Of one request, within seconds; what still fails then is tried again by those who asked."""
PART_BYTES = 5 << 20
"""Larger files are sent in parts of this size."""
BLOCK_BYTES = 256 << 10
SIGNED_SECONDS = 60


@dataclass(frozen=True)
class RemoteObject:
    """An object as a listing shows it. Key, ETag and size are its identity."""

    key: str
    """Below the prefix."""
    etag: str
    """As the service writes it, or when it was changed where there is none."""
    size: int
    modified: datetime


class Bucket:
    """The objects below one prefix of a bucket. May be used by several threads.

    Args:
        address: Which.
        settings: The service and the region.

    Raises:
        MachineError: obstore is not installed.
    """

    def __init__(self, address: S3Address, settings: Settings) -> None:
        require_obstore()
        self.address = address
        self._endpoint = settings.s3_endpoint
        self._region = settings.s3_region
        self._made: S3Store | None = None

    def objects(
        self, below: str | None = None, leave_out: frozenset[str] = frozenset()
    ) -> Iterator[RemoteObject | ObjectRefused]:
        """Yield all objects, folder by folder, and an error for each folder that cannot be listed.

        Args:
            below: Only those in this folder.
            leave_out: Folders right below the prefix that are not looked into.

        Raises:
            ObjectStoreError: the bucket cannot be listed just now.
        """
        import obstore

        folders = [below]
        while folders:
            folder = folders.pop()
            try:
                with self._told(folder or ""):
                    found = obstore.list_with_delimiter(self._store(), folder)
            except (ObjectRefused, ObjectMissing) as error:
                if folder == below:
                    raise ObjectStoreError(str(error)) from None
                yield ObjectRefused(str(error))
                continue
            folders += [each for each in reversed(found["common_prefixes"]) if each not in leave_out]
            yield from map(_remote, found["objects"])

    def find(self, key: str) -> RemoteObject | None:
        """Return an object as it is now, or None if there is none.

        Raises:
            ObjectStoreError: it cannot be told.
        """
        import obstore

        try:
            with self._told(key):
                return _remote(obstore.head(self._store(), key))
        except ObjectMissing:
            return None

    def notes(self, key: str) -> Mapping[str, str]:
        """Return what was noted on an object when it was put there; nothing if there is no object.

        Raises:
            ObjectStoreError: it cannot be told.
        """
        import obstore

        try:  # not by HEAD, whose answer does not say what is wrong
            with self._told(key):
                return dict(obstore.get(self._store(), key, options={"range": (0, 1)}).attributes)
        except (ObjectMissing, ObjectChanged):  # the second is what an empty one looks like
            return {}

    def read(self, wanted: RemoteObject, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object from one on.

        Args:
            wanted: The object; no byte of another one is ever yielded, and none that was not asked for.
            start: Where to begin.
            end: Where to end; with its last byte if not given.

        Raises:
            ObjectChanged: another object has its key.
            ObjectMissing: it is gone.
            ObjectRefused, ObjectStoreError: it cannot be read, or not to where it should end.
        """
        import obstore

        end = wanted.size if end is None else end
        if start >= end:
            return  # services refuse to send nothing
        options: Any = {"range": (start, end)}
        if wanted.etag.startswith(('"', "W/")):
            options["if_match"] = wanted.etag
        with self._told(wanted.key):
            answer = obstore.get(self._store(), wanted.key, options=options)
            now = _remote(answer.meta)
            # Not every service heeds If-Match; and none that ignores the range is believed.
            if (now.etag, now.size, *answer.range) != (wanted.etag, wanted.size, start, end):
                raise ObjectChanged(f"{self.address.to(wanted.key)} has been replaced.")
            for block in answer.stream(BLOCK_BYTES):
                start += len(block)
                if start > end:
                    raise ObjectChanged(f"{self.address.to(wanted.key)} is longer than it was.")
                yield block
            if start < end:
                raise ObjectStoreError(f"{self.address.to(wanted.key)} ends too early; it is tried again.")

    def put(
        self,
        key: str,
        content: BinaryIO | bytes | Iterator[bytes],
        media_type: str,
        notes: Mapping[str, str] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """Put an object there; nobody ever sees a part of it.

        Args:
            key: Below the prefix; what has that key is replaced.
            content: An open file, at its start, or bytes, at once or in blocks; what brings these may raise to end it.
            media_type: Its Content-Type.
            notes: User-defined metadata.
            part_bytes: Larger ones are sent in parts of this size, of which there may be 10,000.

        Raises:
            ObjectRefused: the service does not take it.
            ObjectStoreError: it cannot be put there just now.
            OSError: the file cannot be read.
        """
        import obstore

        attributes: Any = {"Content-Type": media_type, **(notes or {})}
        with self._told(key):
            obstore.put(self._store(), key, content, attributes=attributes, chunk_size=part_bytes, max_concurrency=1)

    def copy(self, key: str, to: str) -> None:
        """Copy an object within the bucket; what has that key is replaced.

        Raises:
            ObjectMissing: it is gone.
            ObjectRefused: the service does not do it, as of objects above 5 GB.
            ObjectStoreError: it cannot be done just now.
        """
        import obstore

        with self._told(key):
            obstore.copy(self._store(), key, to)

    def delete(self, key: str) -> None:
        """Delete an object; it may be gone already.

        Raises:
            ObjectStoreError: it cannot be deleted.
        """
        import obstore

        with contextlib.suppress(ObjectMissing), self._told(key):
            obstore.delete(self._store(), key)

    def delete_only(self, wanted: RemoteObject) -> None:
        """Delete an object unless another one has its key by now; it may be gone already.

        Raises:
            ObjectChanged: another one has.
            ObjectStoreError: it cannot be deleted.
        """
        import obstore

        with contextlib.suppress(ObjectMissing), self._told(wanted.key):
            # obstore cannot delete on a condition, so the request is only signed by it.
            url = obstore.sign(self._store(), "DELETE", wanted.key, timedelta(seconds=SIGNED_SECONDS))
            request = urllib.request.Request(url, method="DELETE", headers={"If-Match": wanted.etag})  # noqa: S310
            try:
                urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()  # noqa: S310 - the endpoint's scheme
            except urllib.error.HTTPError as error:
                with error:
                    text = error.read(65_536).decode(errors="replace")
                if error.code != 501:
                    raise error_of(self.address, wanted.key, error.code, text) from None
                now = self.find(wanted.key)  # a service without deletion on a condition
                if now is not None and now.etag != wanted.etag:
                    raise ObjectChanged(f"{self.address.to(wanted.key)} has been replaced.") from None
                self.delete(wanted.key)
            except (OSError, http.client.HTTPException):
                raise error_of(self.address, wanted.key, None, "") from None

    def _store(self) -> S3Store:
        made = self._made  # once: another thread may have it made anew
        if made is None:
            made = self._made = self._make()
        return made

    def _make(self) -> S3Store:
        from obstore.store import S3Store

        endpoint = self._endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        region = self._region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        config: Any = {"region": region or "us-east-1"}
        if endpoint:
            config["endpoint"] = endpoint
        provider: Any = shared_credentials()
        return S3Store(
            self.address.bucket,
            prefix=self.address.prefix or None,
            config=config,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=STALL_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=STALL_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
            credential_provider=provider,
        )

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn obstore's errors into ours."""
        try:
            with told(self.address, key):
                yield
        except ObjectStoreError as error:
            if not isinstance(error, ObjectMissing | ObjectChanged):
                self._made = None  # so that renewed credentials are looked for
            raise


def _remote(meta: Any) -> RemoteObject:
    modified: datetime = meta["last_modified"]
    return RemoteObject(meta["path"], meta["e_tag"] or modified.isoformat(), meta["size"], modified)


def require_obstore() -> None:
    """Make sure that what speaks to object storage is installed.

    Raises:
        MachineError: it is not.
    """
    try:
        import obstore  # noqa: F401 - only to see whether it can be had
    except ImportError as error:
        raise MachineError(
            "result_store, inbox_store and cluster_store need a package that is not installed; install it with: "
            "pip install 'dropframe[s3]'"
        ) from error
