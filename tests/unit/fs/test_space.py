"""DiskGuard: the one comparison with min_free_bytes."""

from pathlib import Path

import pytest

from daemon.fs import space
from daemon.fs.space import DiskGuard


def test_what_keeps_the_reserve_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _: 1000)
    guard = DiskGuard(tmp_path, 600)
    assert guard.room() == 400
    assert guard.shortage() is None
    assert guard.shortage(400) is None
    assert "min_free_bytes" in (guard.shortage(401) or "")


def test_a_folder_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "gone", 0)
    assert guard.free() is None
    assert "cannot be used" in (guard.shortage() or "")
    with pytest.raises(FileNotFoundError):
        guard.room()
