"""ModelsOffered: the weights that slots on machines without a shared folder get, in object storage by checksum."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from daemon.cluster.transfers import MEDIA_TYPE, MODELS, ModelFile, ObjectRef
from daemon.errors import ObjectChanged, ObjectMissing
from daemon.fs.identity import identity_of
from daemon.jobs import Identity
from daemon.objects.bucket import Bucket, RemoteObject
from daemon.pipeline.models import file_sha256
from daemon.pipeline.weights_watch import WeightsWatch
from daemon.settings import Settings


class ModelsOffered:
    """Puts the weights in use, and the recognisers of ``data/models/text/``. Safe to use from any thread.

    Args:
        settings: Say where they are.
        bucket: Gets them.
    """

    def __init__(self, settings: Settings, bucket: Bucket) -> None:
        self._text_models_dir = settings.text_models_dir
        self._bucket = bucket
        self._lock = threading.Lock()
        self._watch = WeightsWatch(settings)
        self._weights: Path | None = None
        self._known: dict[Path, tuple[Identity, ModelFile]] = {}

    def offered(self, check: bool) -> list[ModelFile]:
        """Return what there is; it has been put there.

        Args:
            check: Make sure that it is there still.

        Raises:
            ObjectStoreError: it cannot be put there just now.
            OSError: it cannot be read.
        """
        with self._lock:
            offers = [self._offer(path, name, check) for name, path in self._files()]
            return [model for model in offers if model is not None]

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield names and files; weights that were taken away are not missed as long as they are in the bucket."""
        seen = self._watch.now() if self._weights is None else self._watch.changed()
        if seen is not None:
            self._watch.loaded(seen)
            self._weights = Path(seen[0])
        if self._weights is not None:
            yield self._weights.name, self._weights
        yield from ((f"text/{path.name}", path) for path in sorted(self._text_models_dir.glob("*.onnx")))

    def _offer(self, path: Path, name: str, check: bool) -> ModelFile | None:
        identity, model = self._known.get(path, (None, None))
        now = _unless_gone(path)
        if model is not None and now in (None, identity) and not (check and self._is_missing(model)):
            return model
        if now is None:
            return None
        sha256 = file_sha256(path)
        model = ModelFile(name, sha256, ObjectRef.of(self._bucket, self._put(path, f"{MODELS}/{sha256}", now)))
        self._known[path] = (now, model)
        return model

    def _put(self, path: Path, key: str, identity: Identity) -> RemoteObject:
        found = self._bucket.find(key)
        if found is None or found.size != identity.size:
            with path.open("rb") as file:
                self._bucket.put(key, file, MEDIA_TYPE)
            if _unless_gone(path) != identity:
                self._bucket.delete(key)  # or nobody would put there what has that checksum
                raise ObjectChanged(f"{path.name} was written to while it was put to {self._bucket.address}.")
            found = self._bucket.find(key)
        if found is None:
            raise ObjectMissing(f"{self._bucket.address.to(key)} is gone again.")
        return found

    def _is_missing(self, model: ModelFile) -> bool:
        found = self._bucket.find(model.ref.key)
        return found is None or found.etag != model.ref.etag


def _unless_gone(path: Path) -> Identity | None:
    try:
        return identity_of(path.stat())
    except FileNotFoundError:
        return None
