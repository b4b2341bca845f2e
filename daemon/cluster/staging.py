"""Staging: on a machine that shares no folder with the daemon, fetch what work needs, have it done, put what was made.

Credentials for object storage are this process's own, from the environment in which Ray was started there. The pipeline
process gets local files and has neither them nor a network.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from daemon.cluster.node_folder import NodeFolder
from daemon.cluster.transfers import (
    MEDIA_TYPE,
    ModelFile,
    ObjectRef,
    check_stop,
    content_of,
    keep_trying,
    require_store,
)
from daemon.errors import (
    NodeLost,
    ObjectChanged,
    ObjectMissing,
    ObjectStoreError,
    PermanentError,
    ResourceUnavailable,
)
from daemon.fs.atomic import atomic_write
from daemon.fs.space import DiskGuard
from daemon.ipc.spool import FILE_MODE
from daemon.mp4_index import Span
from daemon.objects.bucket import Bucket
from daemon.objects.fetch import write_at
from daemon.objects.ranges import fetch_range
from daemon.pipeline.models import file_sha256
from daemon.pipeline.plans import PartPlan
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import PartRequest, RunRequest
from daemon.pipeline.seams import NotExact
from daemon.pipeline.slot_process import SlotProcess
from daemon.s3_address import S3Address
from daemon.settings import Settings

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""Time between two looks whether another slot of this machine has prepared its models."""

Tell = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


class Staging:
    """Does what a slot is asked for. Its thread alone uses it.

    Args:
        settings: With ``cluster_store`` of the home.

    Raises:
        MachineError: obstore is not installed, or the folder of this machine is another user's.
        NodeLost: the folder cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._buckets: dict[str, Bucket] = {}
        self._bucket = self._bucket_at(str(settings.cluster_store))
        with _fault_of_the_machine():
            self._folder = NodeFolder(settings)
        self._disk = DiskGuard(self._folder.scratch, settings.min_free_bytes)
        self._models: Sequence[ModelFile] = ()
        self._whole: ObjectRef | None = None
        """The source that is there as a whole, as it may be wanted again soon."""
        self._fetched = 0

    def __call__(
        self, process: SlotProcess, request: Mapping[str, Any], tell: Tell, should_stop: ShouldStop
    ) -> dict[str, Any]:
        """Do what is asked; return the report. Raises whatever goes wrong."""
        self._fetched = 0
        if request["kind"] == "start":
            return self._start(process, request, should_stop)
        does = {"plan": self._plan, "part": self._part, "run": self._run}
        report = does[request["kind"]](process, request, tell, should_stop)
        return {**report, "fetched_bytes": self._fetched}

    def _start(self, process: SlotProcess, request: Mapping[str, Any], should_stop: ShouldStop) -> dict[str, Any]:
        """Start the process, or have it look for other weights; between two jobs, so nothing fetched is needed."""
        with _fault_of_the_machine():
            self._clear("*")
            if request["probe"] is not None:  # a machine that lacks these is not to get work
                self._require_room(0)
                require_store(self._bucket)
                self._bucket.put(request["probe"], b"", MEDIA_TYPE)
        while True:
            check_stop(should_stop)
            with self._folder.only_one() as had:
                if had:
                    with _fault_of_the_machine():
                        self._take_models([ModelFile.from_record(each) for each in request["models"]], should_stop)
                    process.start(should_stop)
                    return {}
            if process.is_up:
                return {}  # it looks for weights another time
            time.sleep(WAIT_SECONDS)

    def _plan(
        self, process: SlotProcess, request: Mapping[str, Any], tell: Tell, should_stop: ShouldStop
    ) -> dict[str, Any]:
        run, objects = RunRequest.from_record(request["request"]), request["objects"]
        path = self._folder.scratch / "plan"
        with _fault_of_the_machine():
            video = self._fetch_whole(objects, run.file_path.name, should_stop)
            path.unlink(missing_ok=True)
            if objects["plan"] is not None:  # it is kept if it still holds
                self._fetch(ObjectRef.from_record(objects["plan"]), path, should_stop)
        planned = process.plan(replace(run, file_path=video), path, should_stop, request["least_parts"])
        return {"planned": planned, "made": self._put(path, objects, should_stop) if planned else None}

    def _run(
        self, process: SlotProcess, request: Mapping[str, Any], tell: Tell, should_stop: ShouldStop
    ) -> dict[str, Any]:
        run, objects = RunRequest.from_record(request["request"]), request["objects"]
        with _fault_of_the_machine():
            video = self._fetch_whole(objects, run.file_path.name, should_stop)
            self._folder.clear("document*")
        document = self._folder.scratch / "document"
        report = process.run(replace(run, file_path=video, output_path=document), tell, should_stop)
        return {**asdict(report), "made": self._put(document, objects, should_stop)}

    def _part(
        self, process: SlotProcess, request: Mapping[str, Any], tell: Tell, should_stop: ShouldStop
    ) -> dict[str, Any]:
        part, objects = PartRequest.from_record(request["request"]), request["objects"]
        with _fault_of_the_machine():
            plan_path = self._fetch_plan(objects, should_stop)
        made = self._folder.scratch / "part"
        part = replace(part, plan_path=plan_path, output_path=made)
        try:
            seconds = self._make_part(process, part, objects, tell, should_stop)
        except NotExact as why:
            return {"not_exact": str(why), "made": None}
        return {"not_exact": None, "stage_seconds": seconds, "made": self._put(made, objects, should_stop)}

    def _make_part(
        self,
        process: SlotProcess,
        part: PartRequest,
        objects: Mapping[str, Any],
        tell: Tell,
        should_stop: ShouldStop,
    ) -> dict[str, float]:
        """Make a part of what it needs of the video; should that not be enough, of the whole."""
        name, sparse = part.file_path.name, None
        if not self._has_whole(ObjectRef.from_record(objects["source"]), name):
            with _fault_of_the_machine():
                sparse = self._fetch_range(objects, part, should_stop)
        if sparse is not None:
            try:
                return process.run_part(sparse, tell, should_stop)
            except (NotExact, PermanentError) as why:
                log.info("All of %s is fetched, as its bytes for part %d were not enough: %s", name, part.number, why)
            finally:
                sparse.file_path.unlink(missing_ok=True)
        with _fault_of_the_machine():
            video = self._fetch_whole(objects, name, should_stop)
        return process.run_part(replace(part, file_path=video), tell, should_stop)

    # Fetching.

    def _fetch_whole(self, objects: Mapping[str, Any], name: str, should_stop: ShouldStop) -> Path:
        ref, path = ObjectRef.from_record(objects["source"]), self._whole_path(name)
        if not self._has_whole(ref, name):
            self._clear("whole-*")
            self._fetch(ref, path, should_stop)
            self._whole = ref
        return path

    def _has_whole(self, ref: ObjectRef, name: str) -> bool:
        return self._whole == ref and self._whole_path(name).exists()

    def _fetch_plan(self, objects: Mapping[str, Any], should_stop: ShouldStop) -> Path:
        ref = ObjectRef.from_record(objects["plan"])
        path = self._folder.scratch / ref.key.rpartition("/")[2]  # which says what it holds
        if not path.exists():
            self._folder.clear("plan-*")  # a slot that is never idle would keep those of all jobs
            part = path.with_name("plan-part")
            self._fetch(ref, part, should_stop)
            part.replace(path)
        return path

    def _fetch_range(
        self, objects: Mapping[str, Any], part: PartRequest, should_stop: ShouldStop
    ) -> PartRequest | None:
        """Fetch what a part needs and return the request of what is there; None if it needs all of the video."""
        ref, plan = ObjectRef.from_record(objects["source"]), PartPlan.load(part.plan_path)
        bucket, path = self._bucket_at(ref.address), self._folder.scratch / f"sparse-{part.file_path.name}"
        self._clear("whole-*")  # of another video

        def fetch() -> list[Span] | None:
            self._folder.clear("sparse-*")
            return fetch_range(bucket, ref.remote, plan, part.number, path, should_stop, self._require_room)

        spans = keep_trying(fetch, should_stop)
        if spans is None:
            self._folder.clear("sparse-*")
            return None
        self._fetched += sum(span.end - span.start for span in spans)
        return replace(part, file_path=path, spans=[(span.start, span.end) for span in spans])

    def _whole_path(self, name: str) -> Path:
        return self._folder.scratch / f"whole-{name}"

    def _fetch(self, ref: ObjectRef, path: Path, should_stop: ShouldStop) -> None:
        """Fetch all of an object; a line that is cut costs nothing of what has come."""
        self._require_room(ref.size)
        bucket = self._bucket_at(ref.address)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        have = 0
        with open(os.open(path, flags, FILE_MODE), "wb", buffering=0) as file:

            def go_on() -> None:
                nonlocal have
                for block in bucket.read(ref.remote, have):
                    check_stop(should_stop)
                    have += write_at(file.fileno(), block, have)

            keep_trying(go_on, should_stop, lambda: have)
        self._fetched += have

    def _take_models(self, models: Sequence[ModelFile], should_stop: ShouldStop) -> None:
        """Have in the models' folder what the daemon has in its own."""
        folder = self._folder.models_dir
        if models == self._models and all((folder / model.name).exists() for model in models):
            return
        for model in models:
            path = folder / model.name
            if not path.exists() or file_sha256(path, lambda: check_stop(should_stop)) != model.sha256:
                keep_trying(lambda: self._take_model(model, path, should_stop), should_stop)  # noqa: B023 - called now
        names = {model.name for model in models}
        for old in (*folder.glob("*.pt"), *folder.glob("text/*.onnx")):
            if str(old.relative_to(folder)) not in names:
                old.unlink()
        self._models = models

    def _take_model(self, model: ModelFile, path: Path, should_stop: ShouldStop) -> None:
        bucket, digest = self._bucket_at(model.ref.address), hashlib.sha256()
        with atomic_write(path) as file:
            for block in bucket.read(model.ref.remote):
                check_stop(should_stop)
                file.write(block)
                digest.update(block)
            if digest.hexdigest() != model.sha256:
                raise ObjectChanged(f"{bucket.address.to(model.ref.key)} is not {model.name}.")

    def _require_room(self, size: int) -> None:
        if shortage := self._disk.shortage(size):
            raise NodeLost(f"{socket.gethostname()} has no room for a video. {shortage}")

    # Putting.

    def _put(self, path: Path, objects: Mapping[str, Any], should_stop: ShouldStop) -> str:
        """Put what was made, and remove it here; return its checksum."""

        def put() -> None:
            self._bucket.put(objects["make"], content_of(path, should_stop), MEDIA_TYPE)

        with _fault_of_the_machine():
            sha256 = file_sha256(path, lambda: check_stop(should_stop))
            keep_trying(put, should_stop)
            path.unlink()
        return sha256

    def _bucket_at(self, address: str) -> Bucket:
        if address not in self._buckets:
            self._buckets[address] = Bucket(S3Address.of(address), self._settings)
        return self._buckets[address]

    def _clear(self, names: str) -> None:
        self._whole = None
        self._folder.clear(names)


@contextmanager
def _fault_of_the_machine() -> Iterator[None]:
    """Have another machine do what this one cannot for want of a disk or of object storage; no video is to blame."""
    try:
        yield
    except (ObjectMissing, ObjectChanged) as error:  # the daemon puts it there again
        raise ResourceUnavailable(str(error)) from error
    except (ObjectStoreError, OSError) as error:
        raise NodeLost(f"{socket.gethostname()} cannot fetch or put what it needs to: {error}") from error
