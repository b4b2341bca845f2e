"""What is known of objects, over kills."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from daemon.objects.bucket import RemoteObject
from daemon.objects.entries import FOLDER, Entries, Entry

ADDRESS = "s3://videos/in"


def test_what_kills_left_goes_and_what_is_known_stays(tmp_path: Path) -> None:
    entries = Entries(tmp_path, ADDRESS)
    entries.open()
    entry = entries.keep(Entry.of(ADDRESS, RemoteObject("a.mp4", '"e"', 5, datetime.now(UTC))))
    entries.part(entry).write_bytes(b"vid")
    known = {path.name for path in (tmp_path / FOLDER).iterdir()}
    (tmp_path / FOLDER / ".123-0123456789ab.tmp").write_bytes(b"{")  # killed while it wrote an entry
    (tmp_path / FOLDER / "0123.part").write_bytes(b"vi")
    again = Entries(tmp_path, ADDRESS)
    again.open()
    assert again.all() == [entry]
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == known
