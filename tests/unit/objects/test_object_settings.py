"""Dropframe runs without obstore, and says what to install where a setting needs it."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.errors import MachineError
from daemon.ipc import health
from daemon.ipc.health import Heartbeat, StoreBeat
from daemon.ipc.ticket import Ticket, TicketKind, read_ticket
from daemon.jobs import new_job_id, utc_now
from daemon.objects.check import check_stores
from daemon.objects.result_store import owed_by
from daemon.preflight import require_machine
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.worker.owed_objects import PENDING
from tests.unit.worker.test_outbox_exports import complete


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("name", ["result_store", "inbox_store", "cluster_store"])
def test_a_setting_that_needs_it_is_answered_with_what_to_install(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path, **{name: "s3://footage"})
    with pytest.raises(MachineError, match=r"pip install 'dropframe\[s3\]'"):
        require_machine(settings)
    [(said_of, ok, sentence)] = check_stores(settings)
    assert (said_of, ok) == (name, False)
    assert "dropframe[s3]" in sentence


@pytest.mark.usefixtures("absent")
def test_nothing_else_needs_it(tmp_path: Path) -> None:
    require_machine(Settings(home=tmp_path))


def test_it_is_not_loaded_unless_it_is_needed() -> None:
    code = "import daemon.service, sys; print('obstore' in sys.modules)"
    root = Path(__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_health_says_what_is_wrong_with_a_store_that_is_set_and_is_silent_of_others(tmp_path: Path) -> None:
    beat = Heartbeat(utc_now(), "running", 1, result_store=StoreBeat("It is denied.", 2))
    now = datetime.now(UTC)
    assert "result_store" not in health.judge(beat, Settings(home=tmp_path), now)
    parts = health.judge(beat, Settings(home=tmp_path, result_store="s3://footage", inbox_store="s3://inbox"), now)
    assert (parts["result_store"].ok, parts["inbox_store"].ok) == (False, True)
    assert "It is denied." in health.explain(parts, beat, now)
    assert "denied" not in parts["result_store"].detail


def test_exports_are_owed_once_they_are_in_the_outbox(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.data_dir.mkdir()
    with JobStore.open(settings.data_dir) as store:
        job = complete(store, settings, "csv", "srt")
        assert owed_by(job) == []  # it ended without a result store
        job = store.note(job.job_id, stored_objects={"result": PENDING})
        assert owed_by(job) == ["result", "csv", "srt"]
        job = store.note(
            job.job_id, exports={"csv": "sha256:1", "srt": "It has no texts."}, stored_objects={"result": "sha256:2"}
        )
        assert owed_by(job) == ["csv"]
        assert owed_by(store.note(job.job_id, stored_objects={**job.stored_objects, "csv": "sha256:3"})) == []


def test_a_ticket_keeps_the_name_that_its_result_is_to_have(tmp_path: Path) -> None:
    plain = Ticket(TicketKind.SUBMIT, new_job_id(), utc_now())
    assert b"outbox_name" not in plain.to_bytes()  # an older Dropframe can read it
    named = Ticket(TicketKind.SUBMIT, new_job_id(), utc_now(), outbox_name="day/a.mp4")
    path = tmp_path / named.name
    path.write_bytes(named.to_bytes())
    assert read_ticket(path) == named
    assert named.to_job().outbox_name == "day/a.mp4"
    for wrong in (b"[1]", b'"../a.mp4"', b'"/a.mp4"'):
        path.write_bytes(named.to_bytes().replace(b'"day/a.mp4"', wrong))
        with pytest.raises(ValueError, match="outbox_name is not a name"):
            read_ticket(path)
