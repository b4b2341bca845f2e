"""The daemon as people and programs meet it: files in, results out, commands beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.derive.files import is_current
from daemon.ipc import rejected_list
from daemon.jobs import ErrorKind, JobSource, JobStatus
from daemon.public_job import to_public
from tests.clips import BEGINNING, make_clip
from tests.system.running import Daemon, as_json, cpu_seconds, dropframe, running, wait_for

PENDING, RUNNING, COMPLETED, FAILED = JobStatus


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon without object weights that all tests here share; each uses names of its own."""
    with running(tmp_path_factory.mktemp("home")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=6, size=(640, 360), text="GOAL 42")


@pytest.fixture(scope="module")
def slow_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "slow.mp4", frames=80, size=(480, 360), text="SLOW 7")


def test_a_dropped_file_becomes_a_result_with_its_text(daemon: Daemon, clip: Path) -> None:
    daemon.drop(clip, "a match (1) 🎬.mp4")
    job = daemon.wait_job("a match (1) 🎬.mp4")
    assert (job.status, job.attempts, job.frames_processed, job.frames_total) == (COMPLETED, 1, 6, 6)
    published = daemon.results()["a match (1) 🎬.mp4.json"]
    assert published == (daemon.data / str(job.output_path)).read_bytes()
    document = json.loads(published)
    assert document["source"]["name"] == "a match (1) 🎬.mp4"
    assert document["source"]["sha256"] == job.sha256
    assert document["summary"]["texts"] == ["GOAL 42"]
    assert any("no object weights" in sentence for sentence in document["summary"]["warnings"])
    assert [frame["frame_index"] for frame in document["results"]] == list(range(6))
    assert all(frame["result"]["text"] == "GOAL 42" for frame in document["results"])
    assert not (daemon.inbox / "a match (1) 🎬.mp4").exists()


def test_files_that_wait_are_done_in_the_order_of_their_arrival(daemon: Daemon, clip: Path, slow_clip: Path) -> None:
    daemon.drop(slow_clip, "fifo-0.mp4")
    for number in range(1, 5):
        daemon.drop(clip, f"fifo-{number}.mp4")
        daemon.wait_job(f"fifo-{number}.mp4", *JobStatus)
    jobs = [daemon.wait_job(f"fifo-{number}.mp4") for number in range(5)]
    assert [job.sequence for job in jobs] == sorted(job.sequence for job in jobs)
    finished = [str(job.finished_at) for job in jobs]
    assert finished == sorted(finished)
    assert all(later > earlier for earlier, later in zip(finished, (str(j.started_at) for j in jobs[1:]), strict=False))


def test_a_subfolder_chooses_the_pipeline_and_is_kept_in_the_outbox(daemon: Daemon, clip: Path) -> None:
    daemon.drop(clip, "ocr_only/2024/a.mp4")
    job = daemon.wait_job("ocr_only/2024/a.mp4")
    assert (job.pipeline_id, job.status) == ("ocr_only", COMPLETED)
    assert json.loads(daemon.results()["ocr_only/2024/a.mp4.json"])["pipeline_id"] == "ocr_only"


def test_objects_without_weights_fail_with_what_to_do(daemon: Daemon, clip: Path) -> None:
    daemon.drop(clip, "yolo/b.mp4")
    job = daemon.wait_job("yolo/b.mp4")
    assert (job.status, job.error_kind, job.attempts) == (FAILED, ErrorKind.PERMANENT, 1)
    assert "There are no object weights; put an Ultralytics detection checkpoint" in (job.error_message or "")
    error = wait_for(lambda: daemon.results().get("yolo/b.mp4.error.json"), why="the error was not published")
    assert json.loads(error)["error_message"] == job.error_message


def test_an_options_file_is_followed(daemon: Daemon, clip: Path) -> None:
    (daemon.inbox / "sampled.mp4.options.json").write_text('{"frame_stride": 2, "max_frames": 2}')
    daemon.drop(clip, "sampled.mp4")
    job = daemon.wait_job("sampled.mp4")
    document = json.loads(daemon.results()["sampled.mp4.json"])
    assert [frame["frame_index"] for frame in document["results"]] == [0, 2]
    assert document["options"] == {"frame_stride": 2, "max_frames": 2}
    assert (job.frames_processed, job.frames_total) == (2, 2)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.mp4", b"I am not a video, whatever my name says.\n" * 10, "MP4"),
        ("plain folder/c.mp4", b"\x1a\x45\xdf\xa3" * 10, "MP4"),
    ],
)
def test_a_file_that_cannot_be_a_job_is_rejected_with_the_reason(
    daemon: Daemon, clip: Path, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(clip.read_bytes() if content is None else content)
    daemon.drop(source, name)
    text = wait_for(lambda: list(daemon.inbox.glob(f"rejected/**/{Path(name).name}*.reason.txt")), 20)[0]
    assert reason in text.read_text()
    aside = text.with_name(text.name.removesuffix(".reason.txt"))
    wait_for(aside.exists, 5)  # the reason comes first
    assert aside.read_bytes() == source.read_bytes()
    assert daemon.job(name) is None
    note = daemon.outbox / f"{name}.rejected.txt"
    wait_for(note.exists, 20)
    assert note.read_text().startswith(f"{name} was rejected. ")
    listed = rejected_list.read(daemon.data)
    assert listed is not None
    assert name in [record.name for record in listed.present]


def test_a_malformed_options_file_is_the_reason(daemon: Daemon, clip: Path) -> None:
    (daemon.inbox / "wrong.mp4.options.json").write_text('{"stride": 2}')
    daemon.drop(clip, "wrong.mp4")
    [text] = wait_for(lambda: list(daemon.inbox.glob("rejected/**/wrong.mp4.reason.txt")), 20)
    assert "no option 'stride' (did you mean frame_stride" in text.read_text()


def test_a_whole_file_that_cannot_be_decoded_fails_and_the_next_is_fine(
    daemon: Daemon, clip: Path, tmp_path: Path
) -> None:
    sound = make_clip(tmp_path / "sound.mp4", frames=10, audio=True, video=False)
    daemon.drop(sound, "sound.mp4")
    daemon.drop(clip, "after-sound.mp4")
    job = daemon.wait_job("sound.mp4")
    assert (job.status, job.error_kind) == (FAILED, ErrorKind.PERMANENT)
    assert job.error_message
    assert daemon.wait_job("after-sound.mp4").status is COMPLETED


def test_the_same_name_dropped_again_is_a_new_job_and_the_newest_result(
    daemon: Daemon, clip: Path, slow_clip: Path
) -> None:
    daemon.drop(clip, "again.mp4")
    first = daemon.wait_job("again.mp4")
    old = daemon.results()["again.mp4.json"]
    daemon.drop(make_other(clip), "again.mp4")
    second = daemon.wait_job("again.mp4", when=lambda job: job.job_id != first.job_id)
    assert second.sequence > first.sequence
    assert daemon.results()["again.mp4.json"] != old
    assert (daemon.data / str(first.output_path)).read_bytes() == old


def make_other(clip: Path) -> Path:
    return make_clip(clip.with_name("other.mp4"), frames=7, size=(640, 360), text="OTHER 9")


def test_a_drop_is_pending_within_half_a_second_of_being_closed(daemon: Daemon, clip: Path, slow_clip: Path) -> None:
    daemon.drop(slow_clip, "busy.mp4")
    daemon.wait_job("busy.mp4", RUNNING)
    content = clip.read_bytes()
    took = []
    for turn in range(3):
        path = daemon.inbox / f"quick-{turn}.mp4"
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.1)
            file.write(content[len(content) // 2 :])
        closed = time.monotonic()
        daemon.wait_job(path.name, *JobStatus)
        took.append(time.monotonic() - closed)
    assert sorted(took)[1] < 0.5, took


@pytest.mark.slow
def test_it_costs_next_to_nothing_when_idle(daemon: Daemon) -> None:
    wait_for(lambda: all(job.ended for job in daemon.jobs()), 90)
    done = [job.job_id for job in daemon.jobs() if job.status is JobStatus.COMPLETED]
    wait_for(lambda: all(is_current(daemon.home / "data", job_id) for job_id in done), 240)
    time.sleep(1.5)
    pids = [daemon.pid, *daemon.pipelines()]
    assert len(pids) == 2
    begun, before = time.monotonic(), sum(map(cpu_seconds, pids))
    time.sleep(10)
    used = sum(map(cpu_seconds, pids)) - before
    assert used / (time.monotonic() - begun) < 0.01, f"{used:.2f} s"


# The commands beside it.


def test_submit_waits_and_the_commands_agree_with_the_records(daemon: Daemon, clip: Path, tmp_path: Path) -> None:
    home = daemon.home
    done = dropframe(home, "submit", clip, "--wait", "--max-frames", 3)
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.split()[0]
    assert f"completed clip.mp4: {daemon.outbox / job_id}.json" in done.stdout
    assert "note No objects were looked for" in done.stdout
    assert "3/3" in done.stderr
    assert "completed" in done.stderr
    assert clip.exists()

    [record] = [job.to_record() for job in daemon.jobs() if job.job_id == job_id]
    assert (record["source"], record["options"]) == (JobSource.CLI, {"frame_stride": 1, "max_frames": 3})
    public = to_public(record)
    assert as_json(home, "status", job_id[:8]) == public
    assert as_json(home, "jobs", "--limit", 1)["jobs"] == [public]
    assert public in as_json(home, "jobs", "--status", "completed", "--limit", 100)["jobs"]
    assert public not in as_json(home, "jobs", "--status", "failed")["jobs"]

    published = (daemon.outbox / f"{job_id}.json").read_bytes()
    assert dropframe(home, "results", job_id).stdout.encode() == published
    assert dropframe(home, "results", job_id, "-o", tmp_path / "out.json").stdout == ""
    assert (tmp_path / "out.json").read_bytes() == published
    shown = dropframe(home, "status", job_id)
    assert record["sha256"] in shown.stdout
    table = dropframe(home, "jobs")
    assert job_id[:8] in table.stdout
    assert "3/3" in table.stdout


def test_submit_wait_says_with_its_exit_code_that_a_job_failed(daemon: Daemon, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad [red].mp4"
    bad.write_bytes(BEGINNING + bytes(16))
    done = dropframe(daemon.home, "submit", bad, clip, "--wait", "--json")
    assert done.returncode == main.FAILED
    failed, completed = json.loads(done.stdout)
    assert (failed["status"], failed["error_kind"], completed["status"]) == ("failed", "permanent", "completed")
    assert as_json(daemon.home, "status", failed["job_id"]) == failed
    done = dropframe(daemon.home, "results", failed["job_id"])
    assert done.returncode == main.WRONG_STATE
    assert "is failed and has no result" in done.stderr
    assert failed["error_message"] in done.stderr

    again = as_json(daemon.home, "retry", failed["job_id"])
    assert [job["job_id"] for job in again] == [failed["job_id"]]
    daemon.wait_job("bad [red].mp4", when=lambda job: job.finished_at not in (None, failed["finished_at"]))
    assert dropframe(daemon.home, "retry", completed["job_id"]).returncode == main.WRONG_STATE
    assert dropframe(daemon.home, "cancel", completed["job_id"]).returncode == main.WRONG_STATE


def test_a_waiting_job_can_be_cancelled(daemon: Daemon, clip: Path, slow_clip: Path) -> None:
    daemon.wait_ready()
    [pipeline] = daemon.pipelines()
    os.kill(pipeline, signal.SIGSTOP)  # so that the job before it runs for as long as is needed
    try:
        daemon.drop(slow_clip, "holds-up.mp4")
        daemon.wait_job("holds-up.mp4", RUNNING)
        [submitted] = as_json(daemon.home, "submit", clip)
        [cancelled] = as_json(daemon.home, "cancel", submitted["job_id"])
        assert cancelled["job_id"] == submitted["job_id"]
        job = wait_for(lambda: next((j for j in daemon.jobs() if j.job_id == submitted["job_id"] and j.ended), None))
        assert (job.status, job.error_kind) == (FAILED, ErrorKind.CANCELLED)
    finally:
        os.kill(pipeline, signal.SIGCONT)
    assert daemon.wait_job("holds-up.mp4").status is COMPLETED


@pytest.mark.parametrize("command", ["status", "results", "retry", "cancel"])
def test_a_job_that_is_not_there_has_its_exit_code(daemon: Daemon, command: str) -> None:
    done = dropframe(daemon.home, command, "ffffffff-0000")
    assert done.returncode == main.UNKNOWN
    assert done.stderr.strip() == "dropframe: No job is named 'ffffffff-0000' or has an id that begins with it."


def test_the_heartbeat_says_how_it_goes(daemon: Daemon) -> None:
    beat = daemon.wait_ready()
    assert (beat.device, beat.paused, beat.inbox.mode, beat.inbox.online) == ("cpu", None, "events", True)
    assert {model["role"] for model in beat.models} == {"text_regions", "text"}
    later = wait_for(lambda: b if (b := daemon.beat()) and b.updated_at > beat.updated_at else None, 3)
    assert later.counters["jobs_completed"] >= 0


def test_an_outbox_that_is_gone_is_told_until_it_is_back(daemon: Daemon) -> None:
    daemon.wait_ready()
    wait_for(lambda: dropframe(daemon.home, "health").returncode == 0, 60)
    daemon.outbox.rename(daemon.home / "elsewhere")
    try:
        wait_for(lambda: (beat := daemon.beat()) and beat.outbox.online is False, 30)
        for command in ("health", "doctor"):
            done = dropframe(daemon.home, command)
            assert done.returncode == main.FAILED
            assert "The outbox cannot be reached or written; results wait until it can." in done.stdout
            assert f"The outbox {daemon.outbox} cannot be used: No such file or directory." in done.stdout
    finally:
        (daemon.home / "elsewhere").rename(daemon.outbox)
    wait_for(lambda: dropframe(daemon.home, "health").returncode == 0, 30)


# Starting.


def test_what_is_submitted_while_it_is_down_runs_when_it_is_up(tmp_path: Path, clip: Path) -> None:
    done = dropframe(tmp_path, "submit", clip)
    assert done.returncode == 0
    assert "The daemon is not running; the jobs start when it does" in done.stderr
    job_id = done.stdout.split()[0]
    waiting = as_json(tmp_path, "status", job_id)
    assert (waiting["status"], waiting["source_name"], waiting["job_id"]) == ("pending", "clip.mp4", job_id)
    assert [job["job_id"] for job in as_json(tmp_path, "jobs")["jobs"]] == [job_id]
    [unwanted] = as_json(tmp_path, "submit", clip)
    as_json(tmp_path, "cancel", unwanted["job_id"])
    (tmp_path / "inbox").mkdir()
    shutil.copy(clip, tmp_path / "inbox" / "waited.mp4")
    with running(tmp_path) as daemon:
        assert daemon.wait_job("waited.mp4").status is COMPLETED
        wait_for(lambda: len(daemon.jobs()) == 3 and all(job.ended for job in daemon.jobs()))
        ended = {job.job_id: job for job in daemon.jobs()}
        assert ended[job_id].status is COMPLETED
        assert ended[unwanted["job_id"]].error_kind is ErrorKind.CANCELLED
        published = sorted(["waited.mp4.json", f"{job_id}.json", f"{unwanted['job_id']}.error.json"])
        wait_for(lambda: sorted(daemon.results()) == published)


def test_a_named_device_that_is_absent_is_refused(tmp_path: Path) -> None:
    done = dropframe(tmp_path, "daemon", "--device", "cuda:7")
    assert done.returncode == main.MACHINE
    assert "cuda:7" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"these are no weights"])
def test_weights_that_are_none_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "w.pt"
    if content is not None:
        path.write_bytes(content)
    done = dropframe(tmp_path, "daemon", "--weights", path)
    assert done.returncode == main.MACHINE
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("dropframe: ")
    assert "w.pt" in last
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("I am in the way")
    done = dropframe(tmp_path, "daemon")
    assert done.returncode == main.MACHINE
    assert done.stderr.strip().startswith(f"dropframe: {tmp_path}/outbox cannot be used: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dropframe.toml").write_text("stall_secs = 5\n")
    for command in ("daemon", "run", "jobs", "doctor"):
        done = dropframe(tmp_path, command)
        assert done.returncode == main.USAGE
        assert done.stderr.strip() == "dropframe: stall_secs is not a setting; did you mean stall_seconds?"


def test_doctor_finds_nothing_wrong_with_a_good_home(tmp_path: Path) -> None:
    done = dropframe(tmp_path, "doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok") for line in lines)
    for name in ("inbox", "outbox", "data", "disk", "jobs", "library cv2", "device", "objects", "text"):
        assert any(f" {name}: " in line for line in lines), name
    assert list(tmp_path.iterdir()) == [], "it looks, and makes nothing"


def test_doctor_says_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    done = dropframe(tmp_path, "doctor", "--json", DROPFRAME_DEVICE="cuda:7")
    assert done.returncode == main.FAILED
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert [name for name, check in checks.items() if not check["ok"]] == ["data", "jobs", "models"]
    assert "cuda:7" in checks["models"]["sentence"]
