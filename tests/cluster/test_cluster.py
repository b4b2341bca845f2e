"""A daemon whose slots are actors on two nodes of a Ray cluster: whatever is killed, each job ends once, identical."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.cluster.loopback import Loopback
from tests.system.crash.test_order import Starts
from tests.system.running import Daemon, as_json, children, running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

CUT = {"DROPFRAME_DEFAULT_PIPELINE": "ocr_only", "DROPFRAME_SEGMENT_FRAMES": "10", "DROPFRAME_RETRY_SECONDS": "0.1"}
VICTIMS = ("actor", "pipeline", "driver", "raylet", "head", "daemon")
FROZEN = "frozen actor"
KILLS = int(os.environ.get("CLUSTER_KILLS", "0"))
"""``make cluster-kills`` asks for 30, at random moments."""
FRAMES = 240 if KILLS else 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    cluster = Loopback(tmp_path_factory.mktemp("ray"))
    try:
        cluster.start_head()
        cluster.start_nodes(2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = tuple(f"LINE {n // 7}" for n in range(FRAMES))
    return make_clip(tmp_path_factory.mktemp("clip") / "a.mp4", frames=FRAMES, size=(320, 240), text=lines)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> bytes:
    """The document of one process."""
    with running(tmp_path_factory.mktemp("alone"), **CUT) as daemon:
        daemon.drop(clip, "a.mp4")
        return wait_for(daemon.results, 120)["a.mp4.json"]


@pytest.fixture
def daemon(cluster: Loopback, tmp_path: Path) -> Iterator[Daemon]:
    silent = {"DROPFRAME_SILENT_SECONDS": "8", "DROPFRAME_CLUSTER_ADDRESS": cluster.address}
    daemon = Daemon(tmp_path, **CUT, **cluster.settings | silent)
    daemon.start()
    yield daemon
    daemon.kill()


def slots_up(daemon: Daemon, number: int = 2) -> None:
    def up() -> bool:
        beat = daemon.beat()
        return beat is not None and sum(slot.device is not None for slot in beat.slots) == number

    wait_for(up, 180, "the slots did not come up")


def driver_of(daemon: Daemon) -> int:
    found = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in children(daemon.pid)}
    return next(pid for pid, line in found.items() if b"daemon.cluster.driver" in line)


def strike(victim: str, cluster: Loopback, daemon: Daemon, chance: random.Random) -> None:
    """Kill something, and put in its place what somebody would who looks after the cluster."""
    match victim:
        case "actor":
            os.kill(chance.choice(wait_for(cluster.actors, 60)), signal.SIGKILL)
        case "frozen actor":
            os.kill(chance.choice(wait_for(cluster.actors, 60)), signal.SIGSTOP)
        case "pipeline":
            os.kill(chance.choice(wait_for(cluster.pipelines, 60)), signal.SIGKILL)
        case "driver":
            os.kill(driver_of(daemon), signal.SIGKILL)
        case "raylet":
            node = cluster.nodes.pop(chance.randrange(len(cluster.nodes)))
            node.kill("raylet")
            node.close()
            cluster.start_nodes(1)
        case "head":
            assert cluster.head is not None
            cluster.head.kill("gcs_server")
            for each in (cluster.head, *cluster.nodes):
                each.close()
            cluster.nodes.clear()
            cluster.start_head()
            cluster.start_nodes(2)
        case "daemon":
            daemon.kill()
            daemon.start()


def check_that_both_share(daemon: Daemon, cluster: Loopback, clip: Path, expected: bytes) -> None:
    """Run a job undisturbed, and have the doctor look."""
    daemon.drop(clip, "a.mp4")
    assert daemon.wait_job("a.mp4", seconds=180).status is JobStatus.COMPLETED
    assert daemon.results()["a.mp4.json"] == expected
    beat = daemon.beat()
    assert beat is not None
    seen = [(slot.number, bool(slot.node), slot.busy_seconds > 0) for slot in beat.slots]
    assert seen == [(0, True, True), (1, True, True)]
    checks = as_json(daemon.home, "doctor", **CUT, **cluster.settings)
    found = [(check["ok"], check["sentence"]) for check in checks if check["name"].startswith("machine ")]
    assert len(found) == 2
    assert all(ok and "it sees the shared folder" in sentence for ok, sentence in found)


@pytest.mark.timeout(900 + 120 * KILLS)
def test_a_job_whose_cluster_is_killed_everywhere_ends_once_with_the_bytes_of_one_process(
    cluster: Loopback, daemon: Daemon, clip: Path, expected: bytes
) -> None:
    slots_up(daemon)
    check_that_both_share(daemon, cluster, clip, expected)
    chance = random.Random(KILLS)
    victims = [chance.choice((*VICTIMS, FROZEN)) for _ in range(KILLS)] or list(VICTIMS)
    for number, victim in enumerate(victims):
        name = f"{number}.mp4"
        daemon.drop(clip, name)
        seen = JobStatus.RUNNING, JobStatus.COMPLETED  # a job of some frames can end before it was looked at
        daemon.wait_job(name, *seen, seconds=180, when=lambda job: job.frames_processed > 0)
        time.sleep(chance.uniform(0, 2) if KILLS else 0)
        job = daemon.job(name)
        strike(victim, cluster, daemon, chance)
        print(victim, "was struck at", job and job.frames_processed, "frames", flush=True)
        job = daemon.wait_job(name, seconds=240)
        assert (job.status, job.frames_processed) == (JobStatus.COMPLETED, FRAMES), victim
        assert daemon.results()[f"{name}.json"] == expected.replace(b'"a.mp4"', f'"{name}"'.encode()), victim
    assert len(daemon.jobs()) == 1 + len(victims)
    assert not list((daemon.data / "video_jobs").glob("*.parts"))


@pytest.mark.timeout(600)
def test_jobs_start_in_the_order_of_their_acceptance_whatever_is_killed(
    cluster: Loopback, daemon: Daemon, tmp_path: Path
) -> None:
    short = make_clip(tmp_path / "short.mp4", frames=1, size=(160, 120), text="A 1")
    count, chance = 15, random.Random(5)
    slots_up(daemon)
    starts = Starts(daemon.data)
    try:
        for number, victim in enumerate(("actor", "daemon", "")):
            for job in range(5):
                daemon.drop(short, f"{number}{job}.mp4")
            wait_for(lambda: len(starts.sequences) >= 5 * number + 2, 180)  # noqa: B023
            if victim:
                strike(victim, cluster, daemon, chance)
        wait_for(lambda: len(daemon.jobs()) == count and all(job.ended for job in daemon.jobs()), 300)
    finally:
        starts.close()
    assert {job.status for job in daemon.jobs()} == {JobStatus.COMPLETED}
    assert len(starts.sequences) == count
    assert starts.sequences == sorted(starts.sequences)
    assert starts.at_once <= 3, "the order of the starts could not be seen"
