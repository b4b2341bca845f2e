"""The pipeline process and its parent's end: whatever happens to the child, the next run works."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from daemon.errors import (
    BadOptions,
    BadVideo,
    Interrupted,
    JobError,
    MachineError,
    ModelError,
    PermanentError,
    PipelineDied,
    PipelineStalled,
    ResourceUnavailable,
)
from daemon.fs.identity import identity_of
from daemon.jobs import Claim, JobStatus, input_key
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.records import Progress
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings
from daemon.worker.outcomes import UNAVAILABLE_SECONDS
from tests.clips import make_clip
from tests.unit.worker.bench import Bench

FAULTY = '''
"""Pipelines that go wrong, each in its own way."""

import ctypes
import errno
import os
import subprocess
import sys
import time

from daemon.errors import BadVideo
from daemon.pipeline.pipelines import Pipeline


class Busy:
    """Takes longer for a batch than a stage may be silent, and counts what it does."""

    name = "busy"
    needs = gives = frozenset()
    steps = 0

    def models(self, info):
        return []

    def new_segment(self):
        pass

    def __call__(self, batch):
        for _ in batch:
            time.sleep(0.8)
            self.steps += 1
        return list(batch)


BUSY = Pipeline("busy", "busy", lambda loaded: [Busy()])


class Stage:
    name = "faulty"
    needs = gives = frozenset()

    def __init__(self, act):
        self.act = act

    def models(self, info):
        return []

    def new_segment(self):
        pass

    def __call__(self, batch):
        for each in batch:
            self.act(each.frame.index)
        return list(batch)


def at(place, act):
    return lambda index: act() if index == place else None


def fail(error):
    raise error


def eat():
    held = []
    for _ in range(40):
        held.append(b"x" * 50_000_000)
        time.sleep(0.05)


def hang_with_grandchild():
    subprocess.Popen(["sleep", "77"])
    time.sleep(1000)


def die_with_grandchild():
    subprocess.Popen(["sleep", "78"])
    os.abort()


def chat(index):
    print("a library prints", index, flush=True)
    os.write(1, b'{"kind": "done"}\\n')


ACTS = {
    "fine": lambda index: None,
    "raises": at(3, lambda: fail(ValueError("no such colour\\nand more"))),
    "refuses": at(3, lambda: fail(BadVideo("This one is not for me."))),
    "full": at(3, lambda: fail(OSError(errno.ENOSPC, "No space left on device"))),
    "no_memory": at(3, lambda: fail(MemoryError())),
    "leaves": at(3, lambda: os._exit(3)),
    "aborts": at(3, die_with_grandchild),
    "segfaults": at(3, lambda: ctypes.string_at(0)),
    "hangs": at(3, hang_with_grandchild),
    "slow": lambda index: time.sleep(0.1),
    "eats": at(3, eat),
    "chats": chat,
}
for name, act in ACTS.items():
    globals()[name.upper()] = Pipeline(name, name, lambda loaded, act=act: [Stage(act)])
'''
IDS = (
    "fine raises refuses full no_memory leaves aborts segfaults hangs slow eats chats busy".split()  # noqa: SIM905
)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with a package that registers the pipelines above."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "faulty.py").write_text(FAULTY)
    about = folder / "faulty-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = faulty:{name.upper()}" for name in IDS)
    (about / "entry_points.txt").write_text(f"[dropframe.pipelines]\n{lines}\n")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _plugins_are_installed(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plugins))


@pytest.fixture(scope="module")
def warm(home: Path, plugins: Path) -> Iterator[PipelineProcess]:
    """A pipeline process that the tests share; most leave it running."""
    pipeline = PipelineProcess(Settings.load(home=home, stall_seconds=4))
    yield pipeline
    pipeline.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "pipeline-answers"] == []


@pytest.fixture(scope="module")
def shared_threads() -> frozenset[str]:
    return frozenset({"pipeline-answers"})


Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    clip = make_clip(tmp_path / "a.mp4", frames=24)

    def run(
        pipeline: PipelineProcess,
        pipeline_id: str = "fine",
        file_path: Path = clip,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        output_path: Path = tmp_path / "out.json",
        **options: Any,
    ) -> Any:
        given = {"frame_stride": 1, "max_frames": None, **options}
        request = RunRequest(file_path, pipeline_id, output_path=output_path, source_name="match.mp4", **given)
        return pipeline.run(request, on_progress, should_stop)

    return run


def pid_of(pipeline: PipelineProcess) -> int:
    assert pipeline._child is not None
    return pipeline._child._process.pid


def still_there(session: int) -> list[str]:
    """Return the command lines of the processes in a session, zombies aside."""
    found = []
    for process in psutil.process_iter(["pid", "status", "cmdline"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"]))
        except ProcessLookupError:
            continue
    return found


def gone_within(seconds: float, session: int) -> bool:
    deadline = time.monotonic() + seconds
    while still_there(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_run_makes_the_document_and_says_how_it_went(warm: PipelineProcess, run: Run, tmp_path: Path) -> None:
    ready = warm.start()
    assert ready.device in ("cpu", "cuda:0")
    assert [model["role"] for model in ready.models] == ["text_regions", "text"]
    told: list[Progress] = []
    report = run(warm, "slow", on_progress=told.append)
    assert report.frames_processed == report.frames_total == 24
    assert [p.frames_processed for p in told] == sorted(p.frames_processed for p in told)
    assert len(told) >= 3
    assert told[-1].frames_processed == 24
    assert told[-1].steps > told[0].steps
    assert report.stage_seconds["faulty"] >= 2.4
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["source"]["name"] == "match.mp4"
    assert document["summary"]["frame_count"] == 24
    assert pid_of(warm) == pid_of(warm)


def test_models_stay_warm_from_one_run_to_the_next(warm: PipelineProcess, run: Run) -> None:
    run(warm)
    first = pid_of(warm)
    run(warm)
    assert pid_of(warm) == first
    assert warm.start() is warm.ready


def test_what_a_library_prints_does_not_get_between_the_answers(warm: PipelineProcess, run: Run) -> None:
    assert run(warm, "chats").frames_processed == 24


@pytest.mark.parametrize(
    ("pipeline_id", "kind", "said"),
    [
        ("refuses", BadVideo, "This one is not for me."),
        ("full", ResourceUnavailable, "No space left on device"),
        ("nonsense", BadOptions, "There is no pipeline 'nonsense' (the pipelines are aborts, "),
        ("yolo", ModelError, "There are no object weights; put"),
    ],
)
def test_an_error_in_the_child_is_raised_in_the_parent_and_the_child_goes_on(
    warm: PipelineProcess, run: Run, pipeline_id: str, kind: type[JobError], said: str
) -> None:
    warm.start()
    before = pid_of(warm)
    with pytest.raises(kind) as caught:
        run(warm, pipeline_id)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run(warm).frames_processed == 24
    assert pid_of(warm) == before


def test_after_an_error_that_nobody_expected_another_process_goes_on(warm: PipelineProcess, run: Run) -> None:
    warm.start()
    before = pid_of(warm)
    with pytest.raises(PipelineDied) as caught:
        run(warm, "raises")
    assert str(caught.value) == "The pipeline failed: ValueError: no such colour."
    assert run(warm).frames_processed == 24
    assert pid_of(warm) != before


def test_a_bad_video_and_bad_options_are_told_apart(warm: PipelineProcess, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(BadVideo):
        run(warm, file_path=tmp_path / "text.mp4")
    with pytest.raises(BadOptions, match="frame_stride must be"):
        run(warm, frame_stride=0)


@pytest.mark.parametrize(
    ("pipeline_id", "said"),
    [
        ("segfaults", "was ended by SIGSEGV"),
        ("aborts", "was ended by SIGABRT"),
        ("leaves", "ended with code 3"),
        ("no_memory", "ran out of memory"),
    ],
)
def test_a_child_that_dies_fails_its_run_and_the_next_one_works(
    warm: PipelineProcess, run: Run, pipeline_id: str, said: str
) -> None:
    warm.start()
    session = pid_of(warm)
    with pytest.raises(PipelineDied, match=said):
        run(warm, pipeline_id)
    assert gone_within(2, session)  # with what it had started
    assert run(warm).frames_processed == 24


def test_a_child_that_is_killed_fails_its_run_and_the_next_one_goes_on_with_it(warm: PipelineProcess, run: Run) -> None:
    def kill(progress: Progress) -> None:
        if progress.frames_processed:
            os.kill(pid_of(warm), signal.SIGKILL)

    with pytest.raises(PipelineDied, match="The pipeline process was ended by SIGKILL on this video"):
        run(warm, "slow", on_progress=kill)
    assert run(warm, "slow").frames_processed == 24


def test_a_child_that_died_while_idle_is_replaced(warm: PipelineProcess, run: Run) -> None:
    warm.start()
    os.kill(pid_of(warm), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(warm), os.WEXITED | os.WNOWAIT)
    assert run(warm).frames_processed == 24


def test_a_job_waits_uncounted_while_no_child_can_be_started_and_then_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.pipeline = PipelineProcess(bench.settings)  # type: ignore[assignment]
    bench.start()
    job_id = bench.add()
    clip = make_clip(bench.storage.path(input_key(job_id)), frames=8)
    bench.store.note(job_id, claim=Claim("a.mp4", identity_of(clip.stat())))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        bench.step()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    job = bench.job(job_id)
    assert (job.status, job.attempts) == (JobStatus.PENDING, 0)
    assert job.error_message == "The pipeline process cannot be started: Too many open files."
    try:
        bench.step(UNAVAILABLE_SECONDS)
    finally:
        bench.pipeline.close()
    job = bench.job(job_id)
    assert (job.status, job.attempts, job.error_message) == (JobStatus.COMPLETED, 1, None)


def test_a_frozen_child_is_ended_after_stall_seconds(warm: PipelineProcess, run: Run) -> None:
    warm.start()
    session = pid_of(warm)
    begun = time.monotonic()
    with pytest.raises(PipelineStalled, match=r"No frame came for 4 s.*stall_seconds"):
        run(warm, "slow", on_progress=lambda _: os.kill(session, signal.SIGSTOP))
    assert 4 < time.monotonic() - begun < 12
    assert gone_within(2, session)


def test_a_stage_that_never_returns_is_ended_with_what_it_started(warm: PipelineProcess, run: Run) -> None:
    warm.start()
    session = pid_of(warm)
    seen: list[list[str]] = []
    with pytest.raises(PipelineStalled):
        run(warm, "hangs", on_progress=lambda _: seen.append(still_there(session)))
    assert any("sleep 77" in lines for lines in seen)
    assert gone_within(2, session)


def test_a_stage_that_counts_its_steps_may_take_long_for_a_batch(warm: PipelineProcess, run: Run) -> None:
    assert run(warm, "busy", max_frames=8).frames_processed == 8  # 6.4 s, and stall_seconds is 4


def test_a_run_that_should_stop_does_and_the_child_stays(warm: PipelineProcess, run: Run) -> None:
    warm.start()
    before = pid_of(warm)
    done: list[Progress] = []
    with pytest.raises(Interrupted):
        run(warm, "slow", on_progress=done.append, should_stop=lambda: bool(done))
    assert run(warm).frames_processed == 24  # and the request to stop was for that run alone
    assert pid_of(warm) == before


def test_a_stage_that_never_returns_cannot_hold_up_stopping(home: Path, run: Run) -> None:
    pipeline = PipelineProcess(Settings.load(home=home))
    pipeline.start()
    session = pid_of(pipeline)
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="did not stop in time"):
        run(pipeline, "hangs", should_stop=lambda: True)
    assert time.monotonic() - begun < 8
    assert gone_within(2, session)


def test_an_error_in_the_parent_leaves_no_run_behind(warm: PipelineProcess, run: Run) -> None:
    """The answer to an abandoned run must never be taken for that of the next."""

    def fail(progress: Progress) -> None:
        raise KeyError("the job store is away")

    with pytest.raises(KeyError):
        run(warm, "slow", on_progress=fail)
    assert run(warm, max_frames=2).frames_processed == 2


def test_too_much_memory_ends_the_child_and_names_the_setting(home: Path, run: Run) -> None:
    pipeline = PipelineProcess(Settings.load(home=home, memory_limit_bytes=1_500_000_000))
    try:
        pipeline.start()
        session = pid_of(pipeline)
        with pytest.raises(PipelineDied, match=r"more than 1.5 GB of memory.*memory_limit_bytes"):
            run(pipeline, "eats")
        assert gone_within(2, session)
    finally:
        pipeline.close()


def test_a_job_that_takes_too_long_is_ended_for_good(home: Path, run: Run) -> None:
    pipeline = PipelineProcess(Settings.load(home=home, max_job_seconds=1))
    try:
        with pytest.raises(PermanentError, match="max_job_seconds"):
            run(pipeline, "slow")
        assert pipeline.ready is None
    finally:
        pipeline.close()


def test_models_that_load_for_too_long_are_given_up(home: Path) -> None:
    pipeline = PipelineProcess(Settings.load(home=home, start_seconds=0.1))
    with pytest.raises(PipelineStalled, match="start_seconds"):
        pipeline.start()
    assert pipeline.ready is None


def test_stopping_while_models_load(home: Path) -> None:
    pipeline = PipelineProcess(Settings.load(home=home))
    with pytest.raises(Interrupted):
        pipeline.start(lambda: True)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"device": "cuda:99"}, MachineError, "The device cuda:99 is set, but this machine has"),
        ({"weights": "none.pt"}, ModelError, "none.pt are not there"),
    ],
)
def test_a_child_that_cannot_start_says_why(
    home: Path, settings: dict[str, Any], kind: type[Exception], said: str
) -> None:
    pipeline = PipelineProcess(Settings.load(home=home, **settings))
    with pytest.raises(kind, match=said):
        pipeline.start()


PARENT = """
import sys
from pathlib import Path
from daemon.pipeline.client import PipelineProcess
from daemon.pipeline.run_requests import RunRequest
from daemon.settings import Settings

pipeline = PipelineProcess(Settings.load(home=Path(sys.argv[1])))
pipeline.start()
clip = Path(sys.argv[2])
print(pipeline._child._process.pid, flush=True)
pipeline.run(RunRequest(clip, "slow", 1, None, clip.with_name("o.json"), "a"), lambda p: print("on", flush=True))
"""


def test_a_library_that_misses_its_system_library_refuses_the_start_and_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file', name='av')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    pipeline = PipelineProcess(Settings.load(home=tmp_path))
    with pytest.raises(MachineError, match=r"av needs the system library libGL.so.1; install the package libgl1"):
        pipeline.start()


def test_weights_that_are_exchanged_under_a_running_daemon_are_not_the_jobs_fault(tmp_path: Path) -> None:
    pipeline = PipelineProcess(Settings.load(home=tmp_path))
    pipeline.start()
    pipeline.close()
    weights = tmp_path / "data" / "models" / "half-copied.pt"
    weights.write_bytes(b"PK half a file")
    with pytest.raises(ResourceUnavailable, match="half-copied"):
        pipeline.start()


def test_a_child_does_not_outlive_its_parent(home: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=400)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, home, clip], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    session = int(parent.stdout.readline())
    assert parent.stdout.readline() == "on\n"
    assert still_there(session)
    parent.kill()
    assert gone_within(2, session)
    parent.stdout.close()
    parent.wait()
