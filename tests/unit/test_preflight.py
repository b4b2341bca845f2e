"""The checks of the machine, each with a machine that fails it."""

from __future__ import annotations

import errno
import importlib
import threading
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest

from daemon import preflight
from daemon.errors import MachineError, ModelError
from daemon.fs import space
from daemon.fs.mounts import Mount
from daemon.jobs import Job, JobStatus, new_job_id
from daemon.pipeline import loaded
from daemon.preflight import Check
from daemon.settings import Settings
from daemon.store.job_store import JobStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, min_free_bytes=0)


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_folders_are_made_and_described(settings: Settings) -> None:
    checks = by_name(preflight.check_folders(settings))
    assert list(checks) == ["inbox", "outbox", "data"]
    assert all(check.ok for check in checks.values())
    assert checks["inbox"].sentence.startswith(f"{settings.inbox_dir} (")
    assert checks["inbox"].sentence.endswith("watched by events)")
    assert [p.name for p in sorted(settings.home.rglob("*"))] == ["data", "inbox", "outbox"]


@pytest.mark.parametrize("value", ["auto", "rapidocr", "yolo"])
def test_a_text_detector_that_is_gone_is_accepted_and_told_at_the_start_and_by_doctor(
    settings: Settings, value: str
) -> None:
    (settings.home / "dropframe.toml").write_text(f'text_regions = "{value}"\n')
    loaded = Settings.load(home=settings.home)
    told = [sentence for sentence in preflight.require_machine(loaded) if "text_regions" in sentence]
    doctor = list(takewhile(lambda check: check.name == "settings", preflight.all_checks(loaded)))
    assert [check.sentence for check in doctor] == told
    assert all(check.ok for check in doctor)
    assert len(told) == (value == "yolo")
    assert all("remove the setting" in sentence for sentence in told)


def test_the_watch_mode_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polled = Settings(home=tmp_path, watch="polling")
    assert "watched by polling" in by_name(preflight.check_folders(polled))["inbox"].sentence
    monkeypatch.setattr(preflight, "mount_of", lambda path: Mount(Path("/"), "cifs"))
    checks = by_name(preflight.check_folders(Settings(home=tmp_path)))
    assert "(cifs, watched by polling)" in checks["inbox"].sentence
    assert checks["outbox"].ok


def test_data_on_a_network_file_system_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "mount_of", lambda path: Mount(Path("/"), "nfs4"))
    check = by_name(preflight.check_folders(settings))["data"]
    assert not check.ok
    assert "is on nfs4, a network file system" in check.sentence
    assert "set data_dir" in check.sentence


@pytest.mark.parametrize("method", ["write_bytes", "rename", "unlink", "mkdir"])
@pytest.mark.parametrize("name", ["inbox", "outbox", "data"])
def test_a_folder_in_which_something_is_not_allowed_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    for folder in ("inbox", "outbox", "data"):
        (settings.home / folder).mkdir()
    real = getattr(Path, method)

    def call(path: Path, *arguments: object, **more: object) -> object:
        if name in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **more)

    monkeypatch.setattr(Path, method, call)
    with pytest.raises(MachineError, match=f"{settings.home}/{name} cannot be used: Permission denied. Give user"):
        preflight.require_machine(settings)


@pytest.mark.parametrize("name", ["inbox", "outbox", "data"])
def test_a_disk_without_room_is_waited_for_with_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(path: Path, _: bytes) -> int:
        path.touch()
        if name in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 0

    monkeypatch.setattr(Path, "write_bytes", full)
    [sentence] = preflight.require_machine(settings)
    assert sentence.startswith(f"{settings.home}/{name} is on a disk without room")
    assert sentence.endswith("delete jobs (dropframe delete) or other files.")
    assert not by_name(preflight.check_folders(settings))[name].ok
    assert [path for path in settings.home.rglob("*") if path.is_file()] == []
    monkeypatch.setattr(preflight, "mount_of", lambda path: Mount(Path("/"), "nfs4"))
    with pytest.raises(MachineError, match="a network file system"):
        preflight.require_machine(settings)


def test_a_file_in_a_folders_place_is_named(settings: Settings) -> None:
    settings.outbox_dir.write_text("x")
    check = by_name(preflight.check_folders(settings))["outbox"]
    assert not check.ok
    assert "File exists" in check.sentence


@pytest.mark.parametrize("name", ["inbox", "outbox"])
def test_a_share_that_is_not_mounted_is_not_made(tmp_path: Path, name: str) -> None:
    share = tmp_path / "share" / name
    settings = Settings(home=tmp_path / "home", **{f"{name}_dir": share})
    check = by_name(preflight.check_folders(settings))[name]
    assert not check.ok
    assert check.sentence == f"{share} is not there; mount it or make it, or set another folder."
    assert not share.parent.exists()
    share.mkdir(parents=True)
    assert by_name(preflight.check_folders(settings))[name].ok


def test_free_space_is_compared_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, min_free_bytes=2_000_000_000)
    monkeypatch.setattr(space, "free_bytes", lambda path: 2_100_000_000)
    assert preflight.check_disk(settings) == Check("disk", True, "2.1 GB free for data")
    monkeypatch.setattr(space, "free_bytes", lambda path: 1_900_000_000)
    check = preflight.check_disk(settings)
    assert not check.ok
    assert "less than min_free_bytes (2000000000); make room or lower it" in check.sentence


def test_a_data_folder_that_is_not_there_is_a_failed_check(settings: Settings) -> None:
    check = preflight.check_disk(settings)
    assert not check.ok
    assert "No such file" in check.sentence


def test_the_job_store_is_counted_without_its_lock(settings: Settings) -> None:
    assert preflight.check_store(settings) == Check("jobs", True, "none")
    with JobStore.open(settings.data_dir) as store:
        jobs = store.create([Job(new_job_id()) for _ in range(3)])
        store.move(jobs[0].job_id, JobStatus.RUNNING)
        assert preflight.check_store(settings) == Check("jobs", True, "2 pending, 1 running")


def test_a_damaged_job_store_is_a_failed_check(settings: Settings) -> None:
    with JobStore.open(settings.data_dir) as store:
        store.create([Job(new_job_id())])
    for journal in settings.data_dir.glob("jobs.*.journal"):
        journal.unlink()
    for file in settings.data_dir.glob("jobs*.json"):
        file.write_bytes(b"\0" * 100)
    check = preflight.check_store(settings)
    assert not check.ok
    assert "no good copy of it is left" in check.sentence


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "cv2 needs the system library libGL.so.1; install the package libgl1.",
        ),
        (
            "libstrange.so.7: cannot open shared object file",
            "cv2 needs the system library libstrange.so.7; install the package that has it (apt-file search finds it).",
        ),
        ("No module named 'cv2'", "cv2 cannot be imported (No module named 'cv2'); install Dropframe again."),
    ],
)
@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_that_cannot_be_loaded_names_the_package_that_helps(
    monkeypatch: pytest.MonkeyPatch, message: str, advice: str, kind: type[Exception]
) -> None:
    def load(name: str, really: Callable[[str], ModuleType] = importlib.import_module) -> ModuleType:
        if name == "cv2":
            raise kind(message)
        return really(name)

    monkeypatch.setattr(preflight.importlib, "import_module", load)
    checks = by_name(preflight.check_libraries())
    assert checks["library cv2"] == Check("library cv2", False, advice)
    assert checks["library numpy"].ok


def test_models_that_cannot_be_loaded_are_a_failed_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, settings: Settings) -> None:
            raise self.error

        error: Exception = ModelError("These are no weights.")

    monkeypatch.setattr(loaded, "LoadedModels", Refusing)
    assert list(preflight.check_models(settings)) == [Check("models", False, "These are no weights.")]
    Refusing.error = PermissionError(errno.EACCES, "no")
    [check] = preflight.check_models(settings)
    assert not check.ok


def test_libraries_that_are_missing_keep_the_models_from_being_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check_libraries", lambda: iter([Check("library av", False, "gone")]))
    names = [check.name for check in preflight.all_checks(settings)]
    assert names == ["open files", "threads", "inbox", "outbox", "data", "disk", "jobs", "daemon", "library av"]


def test_the_executor_that_was_chosen_is_told(settings: Settings) -> None:
    chosen = settings.model_copy(update={"executor": "pool", "workers": 3})
    check = preflight.check_executor(chosen)
    assert check.ok
    assert check.sentence.startswith("pool: 3 pipeline processes on ")


def test_a_folder_that_does_not_answer_is_named_and_nothing_waits_for_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = preflight._try_folder

    def hangs(folder: Path, home: Path) -> str | None:
        if folder == settings.outbox_dir:
            released.wait()
        return real(folder, home)

    monkeypatch.setattr(preflight, "_try_folder", hangs)
    monkeypatch.setattr(preflight, "SILENT_SECONDS", 0.5)
    checks = {check.name: check for check in preflight.check_folders(settings)}
    released.set()
    assert [name for name, check in checks.items() if not check.ok] == ["outbox"]
    assert "does not answer" in checks["outbox"].sentence
