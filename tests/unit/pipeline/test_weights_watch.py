"""Weights that are put in place while Dropframe runs are noticed once they are whole."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest

from daemon.pipeline import weights_watch
from daemon.pipeline.weights_watch import STILL_SECONDS, WeightsWatch
from daemon.settings import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings.load(home=tmp_path)
    made.models_dir.mkdir(parents=True)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(settings: Settings, clock: Clock) -> WeightsWatch:
    made = WeightsWatch(settings, clock)
    made.loaded(made.now())
    return made


def archive(path: Path, size: int = 1000, mtime: float | None = None) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", bytes(size))
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path.read_bytes()


def test_what_was_loaded_is_not_offered_again(settings: Settings, clock: Clock) -> None:
    archive(settings.models_dir / "a.pt")
    watch = WeightsWatch(settings, clock)
    assert watch.changed() is not None
    watch.loaded(watch.now())
    assert watch.changed() is None


def test_a_whole_checkpoint_is_taken_at_once(settings: Settings, watch: WeightsWatch) -> None:
    assert watch.changed() is None
    archive(settings.models_dir / "a.pt")
    seen = watch.changed()
    assert seen is not None
    assert Path(seen[0]).name == "a.pt"


def test_a_checkpoint_that_is_being_copied_waits_however_slowly_it_comes(
    settings: Settings, watch: WeightsWatch, clock: Clock, tmp_path: Path
) -> None:
    whole = archive(tmp_path / "a.pt")
    for size in (4, 100, len(whole) // 2, len(whole) - 1):
        (settings.models_dir / "a.pt").write_bytes(whole[:size])
        for _ in range(3):
            assert watch.changed() is None
            clock.now += STILL_SECONDS
    (settings.models_dir / "a.pt").write_bytes(whole)
    assert watch.changed() is not None


def test_a_file_of_another_form_is_whole_once_it_has_not_changed_for_a_while(
    settings: Settings, watch: WeightsWatch, clock: Clock
) -> None:
    for content in (b"an older form", b"an older form of checkpoints"):
        (settings.models_dir / "a.pt").write_bytes(content)
        assert watch.changed() is None
        clock.now += STILL_SECONDS / 2
        assert watch.changed() is None
    clock.now += STILL_SECONDS
    assert watch.changed() is not None


def test_only_the_newest_counts_and_what_is_taken_away_is_not_missed(settings: Settings, clock: Clock) -> None:
    archive(settings.models_dir / "a.pt", mtime=1000)
    watch = WeightsWatch(settings, clock)
    watch.loaded(watch.now())
    archive(settings.models_dir / "older.pt", mtime=500)
    assert watch.changed() is None
    (settings.models_dir / "older.pt").unlink()
    (settings.models_dir / "a.pt").unlink()
    assert watch.changed() is None
    (settings.models_dir / "gone.pt").symlink_to("nowhere.pt")
    assert watch.changed() is None


def test_weights_that_the_settings_name_are_the_ones_that_count(tmp_path: Path, clock: Clock) -> None:
    named = tmp_path / "mine.pt"
    archive(named)
    settings = Settings.load(home=tmp_path, weights=named)
    settings.models_dir.mkdir(parents=True)
    watch = WeightsWatch(settings, clock)
    watch.loaded(watch.now())
    archive(settings.models_dir / "a.pt")
    assert watch.changed() is None
    archive(named, size=2000)
    assert watch.changed() is not None


def test_a_folder_that_cannot_be_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sick(_: Settings) -> Path:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(weights_watch, "newest_weights", sick)
    assert WeightsWatch(Settings(home=tmp_path)).changed() is None
