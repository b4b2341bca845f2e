"""A cluster whose machines do not see the daemon's folders: videos and parts go over object storage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from daemon.jobs import JobStatus
from tests.cluster.loopback import Loopback
from tests.object_storage import KEY_ID, SECRET, Line, Service, line_to, running_service
from tests.system.running import Daemon, as_json, running, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("moto"),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(find_spec("obstore") is None, reason="obstore is not installed"),
]

FRAMES, STRIDE = 480, 8
CUT = {
    "DROPFRAME_DEFAULT_PIPELINE": "ocr_only",
    "DROPFRAME_SEGMENT_FRAMES": "10",
    "DROPFRAME_GROUP_SECONDS": "3.2",
    "DROPFRAME_RETRY_SECONDS": "0.1",
}
KEYS = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
PLANNED = "bytes were fetched for: plan"
FETCHED = re.compile(r": (\d+) of (\d+) bytes were fetched for: part (\d+)")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("moto") / "log") as service:
        service.make("shared")
        yield service


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    with line_to(service) as line:
        yield line


@pytest.fixture
def cluster(tmp_path: Path, line: Line) -> Iterator[Loopback]:
    """Two nodes that do not see the daemon's home, with temporary folders of their own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "ray").mkdir()
    can_hide = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    cluster = Loopback(tmp_path / "ray")
    try:
        cluster.start_head()
        for number in range(2):
            (tmp_path / f"node-{number}").mkdir()
            own = {**KEYS, "AWS_ENDPOINT_URL": line.url, "TMPDIR": str(tmp_path / f"node-{number}")}
            cluster.start_nodes(1, tmp_path / "home" if can_hide else None, **own)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def daemon(cluster: Loopback, tmp_path: Path, service: Service) -> Iterator[Daemon]:
    store = {"DROPFRAME_CLUSTER_STORE": "s3://shared/cluster", "AWS_ENDPOINT_URL": service.url, **KEYS}
    daemon = Daemon(tmp_path / "home", **CUT, **cluster.settings, **store, DROPFRAME_SILENT_SECONDS="8")
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long clip, for its bytes: noise, over which nothing can be read."""
    path, chance = tmp_path_factory.mktemp("clip") / "a.mp4", np.random.default_rng(1)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", 25, options={"preset": "ultrafast", "crf": "10", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        noise = [chance.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(24)]
        for number in range(FRAMES):
            picture = noise[number % 24].copy()
            picture[:, : number % 300] //= 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def drop(daemon: Daemon, clip: Path, name: str) -> None:
    daemon.inbox.mkdir(exist_ok=True)
    (daemon.inbox / f"{name}.options.json").write_text(json.dumps({"frame_stride": STRIDE}))
    daemon.drop(clip, name)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> bytes:
    """The document of one process."""
    with running(tmp_path_factory.mktemp("alone"), **CUT) as daemon:
        drop(daemon, clip, "a.mp4")
        return wait_for(daemon.results, 240)["a.mp4.json"]


def scratch(tmp_path: Path, pattern: str) -> list[Path]:
    return list(tmp_path.glob(f"node-*/dropframe-*/slots/*/{pattern}"))


def actor_of(cluster: Loopback, folder: Path) -> int:
    """Return the actor to which a scratch folder belongs: it holds the lock there."""
    for pid in cluster.actors():
        for number in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(number) == str(folder / ".lock"):
                    return pid
    raise AssertionError(folder)


def planner(tmp_path: Path) -> Path | None:
    """Return the scratch folder of the slot that has planned, once it makes parts; it has the whole video."""
    found = scratch(tmp_path, "plan-[0-9a-f]*")
    return next((path.parent for path in found if list(path.parent.glob("whole-*"))), None)


def kill_in_a_fetch(tmp_path: Path, cluster: Loopback, daemon: Daemon, line: Line, service: Service) -> None:
    wait_for(lambda: daemon.log().count(PLANNED) == 2, 180, "nothing was planned")  # the job before was, too
    line.pause_seconds = 0.1
    try:
        found = wait_for(lambda: [p for p in scratch(tmp_path, "sparse-*") if p.stat().st_blocks > 1000], 180)
        os.kill(actor_of(cluster, found[0].parent), signal.SIGKILL)
    finally:
        line.pause_seconds = 0


def kill_in_a_put(tmp_path: Path, cluster: Loopback, daemon: Daemon, line: Line, service: Service) -> None:
    folder = wait_for(lambda: planner(tmp_path), 180)
    line.is_silent = True  # what it puts arrives, and it does not hear of that
    try:
        wait_for(lambda: (folder / "part").exists() and any("/made-" in key for key in service.keys("shared")), 180)
        os.kill(actor_of(cluster, folder), signal.SIGKILL)
    finally:
        line.is_silent, line.refuses = False, True  # connections that have lost an answer end
        time.sleep(1)
        line.refuses = False


def kill_the_daemon(tmp_path: Path, cluster: Loopback, daemon: Daemon, line: Line, service: Service) -> None:
    """Kill it once a part was taken; another start deletes what nobody else does."""
    wait_for(lambda: list(daemon.data.glob("video_jobs/*.parts/0*")), 180)
    service.put("shared", f"{service.keys('shared')[0].partition('/jobs/')[0]}/jobs/deleted/made-1", b"1")
    daemon.kill()
    daemon.start()


@pytest.mark.timeout(900)
def test_machines_that_share_no_folder_make_the_same_document_whatever_is_killed(
    tmp_path: Path,
    cluster: Loopback,
    daemon: Daemon,
    service: Service,
    line: Line,
    clip: Path,
    expected: bytes,
) -> None:
    def slots_up() -> bool:
        beat = daemon.beat()
        return beat is not None and sum(slot.device is not None for slot in beat.slots) == 2

    kills: dict[str, Callable[..., None] | None] = {
        "a": None,
        "fetch": kill_in_a_fetch,
        "put": kill_in_a_put,
        "daemon": kill_the_daemon,
    }
    for name, kill in kills.items():
        wait_for(slots_up, 240, "the slots did not come up")
        drop(daemon, clip, f"{name}.mp4")
        if kill is not None:
            kill(tmp_path, cluster, daemon, line, service)
        job = daemon.wait_job(f"{name}.mp4", seconds=300)
        assert job.status is JobStatus.COMPLETED
        assert daemon.results()[f"{name}.mp4.json"] == expected.replace(b'"a.mp4"', f'"{name}.mp4"'.encode())
        if kill is None:
            found = [tuple(map(int, each)) for each in FETCHED.findall(daemon.log())]
            assert len({number for _, _, number in found}) == FRAMES // STRIDE // 10
            assert all(0 <= fetched < size / 3 for fetched, size, _ in found)
            assert max(fetched for fetched, _, _ in found) > 0, "a slot that had not planned took part"
            assert any(b"AWS_" in Path(f"/proc/{pid}/environ").read_bytes() for pid in cluster.actors())
            assert not any(b"AWS_" in Path(f"/proc/{pid}/environ").read_bytes() for pid in cluster.pipelines())
        wait_for(lambda: not service.keys("shared"), 60, "objects of a job that has ended were left")
        wait_for(lambda: not scratch(tmp_path, "[a-z]*"), 60, "an idle slot keeps a video")
    checks = as_json(daemon.home, "doctor", **daemon._settings)
    found_by_doctor = [check["sentence"] for check in checks if check["name"].startswith("machine ") and check["ok"]]
    assert ["it reaches cluster_store" in sentence for sentence in found_by_doctor] == [True, True]
