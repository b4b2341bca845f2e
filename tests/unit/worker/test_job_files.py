"""What lies beside results that are not finished."""

from __future__ import annotations

from pathlib import Path

from daemon.fs.atomic import TEMPORARY
from daemon.jobs import new_job_id, output_key
from daemon.pipeline.run_requests import PARTS
from daemon.worker.job_files import sweep_parts


def parts_of(folder: Path, job_id: str) -> Path:
    parts = folder / f"{Path(output_key(job_id)).name}{PARTS}"
    parts.mkdir()
    (parts / "000000").write_bytes(b"part")
    (parts / ".123-0123456789ab.tmp").write_bytes(b"half a part")
    return parts


def test_parts_that_nobody_goes_on_with_are_removed_and_of_others_what_was_not_whole(tmp_path: Path) -> None:
    kept, over = new_job_id(), new_job_id()
    waiting, ended = parts_of(tmp_path, kept), parts_of(tmp_path, over)
    result = tmp_path / Path(output_key(over)).name
    result.write_bytes(b"result")
    sweep_parts(tmp_path, [kept])
    assert [path.name for path in waiting.iterdir() if not TEMPORARY.fullmatch(path.name)] == ["000000"]
    assert len(list(waiting.iterdir())) == 1
    assert not ended.exists()
    assert result.read_bytes() == b"result"
    sweep_parts(tmp_path, [])
    assert not waiting.exists()
    sweep_parts(tmp_path / "none", [])
