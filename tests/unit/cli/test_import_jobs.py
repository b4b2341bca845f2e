"""Taking over another service's job table: what becomes of each row, once, twice, and of rows that are wrong."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from daemon.cli import main
from daemon.cli.dump import IDS
from daemon.cli.import_jobs import Report, import_jobs
from daemon.errors import StoreError, StoreLocked
from daemon.ipc import spool
from daemon.jobs import ErrorKind, JobStatus, Options, output_key
from daemon.settings import Settings
from daemon.store.job_store import JobStore

SAMPLES = Path(__file__).parents[2] / "samples"
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "results.schema.json").read_text())
MATCH = "7d1f3b52-95c9-4f6b-9a43-6a8f8c1f0a11"
BROKEN = "0e8f4c1a-2b57-4d0e-8c53-1b7a3a5e6f22"
RAN = "c4b1de0f-6f0e-4f0c-8f4e-21d7f0a9b933"
WAITED = "5a9d2c77-1e34-4c11-b0aa-9e8d7c6b5a44"
ROW = {"id": "a", "status": "completed", "created_at": "2026-01-01T00:00:00Z"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(home=tmp_path / "home")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLES, tmp_path / "dump")
    (tmp_path / "dump" / "videos").mkdir()
    (tmp_path / "dump" / "videos" / "street.mp4").write_bytes(b"a video")
    return tmp_path / "dump" / "job_table.csv"


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith("data/jobs.")}


def one(tmp_path: Path, settings: Settings, text: str) -> Report:
    path = tmp_path / "dump.txt"
    path.write_text(text)
    return import_jobs(path, settings)


def test_finished_jobs_become_history_with_their_own_times_and_results(settings: Settings, dump: Path) -> None:
    report = import_jobs(dump, settings)
    assert report.refused == []
    assert report.unused == {"user_id"}
    with JobStore.open(settings.data_dir) as store:
        match, broken = store.jobs()
    assert (match.job_id, match.status, match.source_name) == (MATCH, JobStatus.COMPLETED, "match.mp4")
    assert match.created_at == "2026-02-13T10:00:00.123456+00:00"
    assert match.updated_at == match.finished_at == "2026-02-13T10:04:10.000000+00:00"
    assert match.output_path == output_key(MATCH)
    assert (match.frames_processed, match.frames_total) == (2, 2)
    assert match.summary is not None
    assert match.summary["classes"] == {"bus": 1}
    assert (broken.job_id, broken.status, broken.error_kind) == (BROKEN, JobStatus.FAILED, ErrorKind.PERMANENT)
    assert broken.source_removed_at, "a retry would only lose its reason"
    assert broken.error_message == "Unable to read video file:\nno frames extracted"


def test_an_imported_result_fits_the_schema_and_invents_nothing(settings: Settings, dump: Path) -> None:
    import_jobs(dump, settings)
    document = json.loads((settings.data_dir / output_key(MATCH)).read_bytes())
    jsonschema.validate(document, SCHEMA)
    given = json.loads((SAMPLES / "results" / "match.json").read_text())["results"]
    assert [frame["frame_index"] for frame in document["results"]] == [0, 5]
    assert document["results"][0]["result"]["detections"] == [
        {"bbox": [13.0, 137.2, 477.1, 446.0], "class": "bus", "confidence": 0.8682}
    ]
    assert [f["result"]["text"] for f in document["results"]] == [f["result"]["text"] for f in given]
    assert not any("timestamp_s" in frame for frame in document["results"])
    assert document["summary"]["texts"] == ["HOME 2 - 1 AWAY", "BREAKING NEWS"]
    assert set(document["video"].values()) == {None}


def test_jobs_that_waited_or_ran_are_submitted_under_their_ids(settings: Settings, dump: Path) -> None:
    report = import_jobs(dump, settings)
    assert [job_id for _, job_id in report.queued] == [RAN, WAITED]
    tickets = spool.pending_submissions(settings.data_dir / "spool")
    assert [ticket.job_id for ticket in tickets] == [RAN, WAITED]
    assert {ticket.pipeline_id for ticket in tickets} == {"ocr_only"}
    assert max(ticket.created_at for ticket in tickets) < "2026-09", "they are dated as imported"
    assert (settings.data_dir / "spool" / f"{RAN}.mp4").read_bytes() == b"a video"
    assert (dump.parent / "videos" / "street.mp4").exists()


def test_a_second_time_changes_nothing(settings: Settings, dump: Path) -> None:
    first = import_jobs(dump, settings)
    before = files(settings.home)
    second = import_jobs(dump, settings)
    assert (second.history, second.queued, second.refused) == ([], [], [])
    assert sorted(second.known) == sorted(first.history + first.queued)
    assert files(settings.home) == before


def test_a_dry_run_says_the_same_and_writes_nothing(settings: Settings, dump: Path) -> None:
    promised = import_jobs(dump, settings, dry_run=True)
    assert files(settings.home) == {}
    assert import_jobs(dump, settings) == promised


def test_an_import_that_was_killed_is_finished_by_the_next(
    settings: Settings, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "create", full)
        with pytest.raises(StoreError):
            import_jobs(dump, settings)
    assert (settings.data_dir / output_key(MATCH)).exists()
    spool.part_path(settings.data_dir / "spool", RAN).parent.mkdir()
    spool.part_path(settings.data_dir / "spool", RAN).write_bytes(b"half")
    report = import_jobs(dump, settings)
    assert (len(report.history), len(report.queued), report.refused) == (2, 2, [])
    assert (settings.data_dir / "spool" / f"{RAN}.mp4").read_bytes() == b"a video"


def test_json_with_other_names_ids_and_times(settings: Settings) -> None:
    report = import_jobs(SAMPLES / "job_table.json", settings)
    assert report.refused == []
    assert report.history == [("17", str(uuid.uuid5(IDS, "17"))), ("18", str(uuid.uuid5(IDS, "18")))]
    with JobStore.open(settings.data_dir) as store:
        old, never = store.jobs()
    assert old.created_at == "2026-02-13T10:00:00.500000+00:00"
    assert (never.error_kind, never.pipeline_id) == (ErrorKind.CANCELLED, "retired_pipeline")
    document = json.loads((settings.data_dir / output_key(old.job_id)).read_bytes())
    jsonschema.validate(document, SCHEMA)
    assert document["results"][0]["result"]["detections"][0] == {
        "bbox": [1.0, 2.0, 3.0, 4.0],
        "class": "car",
        "class_id": 2,
        "confidence": 0.5,
    }
    assert "Not taken over from its frames: track." in document["summary"]["warnings"]


def test_one_object_a_line_is_read_too(tmp_path: Path, settings: Settings) -> None:
    rows = [{**ROW, "id": name, "options": {"frame_stride": 5}} for name in ("a", "b")]
    report = one(tmp_path, settings, "\n".join(map(json.dumps, rows)) + "\n")
    assert [given for given, _ in report.history] == ["a", "b"]
    with JobStore.open(settings.data_dir) as store:
        assert {job.options for job in store.jobs()} == {Options(frame_stride=5)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "no job id"),
        ({"status": "dreaming"}, "'dreaming' is unknown"),
        ({"created_at": "yesterday"}, "'yesterday' in created_at"),
        ({"created_at": None}, "is not a time"),
        ({"options": {"speed": 2}}, "options cannot be read"),
        ({"frame_stride": "0"}, "options cannot be read"),
        ({"status": "queued"}, "no column names its video"),
        ({"status": "queued", "file_path": "gone.mp4"}, "gone.mp4 is not there"),
        ({"status": "queued", "file_path": "dump.txt", "pipeline": "psychic"}, "no pipeline 'psychic'"),
        ({"results_path": "gone.json"}, "cannot be read: No such file"),
        ({"result": "{cut"}, "is not JSON"),
        ({"result": {"answer": 42}}, "no list of frames"),
        ({"result": [{"result": {}}]}, "Frame 1 of its result"),
        ({"result": [{"frame_index": 3, "result": {}}, {"frame_index": 3, "result": {}}]}, "no greater frame_index"),
        ({"result": [{"frame_index": 0, "result": {"detections": [[1, 2, 3, 4, 0.9, 0]]}}]}, "Frame 1"),
        ({"result": [{"frame_index": 0, "result": "text"}]}, "Frame 1"),
        ({"result": [{"frame_index": 0, "result": {"detections": [{"bbox": [1, 2, 3, 4]}]}}]}, "names no class"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, settings: Settings, change: dict[str, object], reason: str
) -> None:
    text = json.dumps([{**ROW, **change}, {**ROW, "id": "good"}], indent=1).replace("[", "[\n\n", 1)
    report = one(tmp_path, settings, text)
    [(line, said)] = report.refused
    assert text.splitlines()[line - 1].strip() == "{"
    assert line == 4
    assert reason in said
    assert [given for given, _ in report.history] == ["good"]
    with JobStore.open(settings.data_dir) as store:
        assert len(store.jobs()) == 1


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("id,status,created_at\na,done,2026-01-01\nb,done\n", 3, "2 fields, and the header has 3"),
        ('id,status,error,created_at\na,failed,"two\nlines",2026-01-01\nb,odd,,2026-01-01\n', 4, "'odd' is unknown"),
        ("id,status,created_at\na,done,2026-01-01\na,done,2026-01-01\n", 3, "came in line 2 already"),
        ('id,status,created_at\na,done,2026-01-01\nb,"done"x,2026\n', 3, "not CSV"),
        ('[{"id": "a", "status": "done", "created_at": "2026-01-01"},\n 7]', 2, "not a JSON object"),
        ('[{"id": "a", "status": "done", "created_at": "2026-01-01"},\n {"id": ', 2, "Nothing after it was read"),
        ('[{"id": "a", "status": "done", "created_at": "2026-01-01"}\n', 2, "cut off"),
    ],
)
def test_what_is_broken_is_named_by_line_and_the_rest_is_taken(
    tmp_path: Path, settings: Settings, text: str, line: int, reason: str
) -> None:
    report = one(tmp_path, settings, text)
    [(said_line, said)] = report.refused
    assert (said_line, reason in said) == (line, True), said
    assert [given for given, _ in report.history] == ["a"]


def test_a_result_that_is_there_is_never_overwritten(settings: Settings, dump: Path) -> None:
    path = settings.data_dir / output_key(MATCH)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    report = import_jobs(dump, settings)
    assert report.refused == [(2, f"Another result is at {path} already.")]
    assert path.read_bytes() == b"precious"


def test_it_is_refused_while_a_daemon_runs(settings: Settings, dump: Path) -> None:
    with JobStore.open(settings.data_dir), pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        import_jobs(dump, settings)


def test_the_command_tells_what_was_done_and_exits_1_if_a_row_was_refused(settings: Settings, dump: Path) -> None:
    def run(*flags: str) -> tuple[int, str]:
        done = CliRunner().invoke(main.app, ["import-jobs", str(dump), "--home", str(settings.home), *flags])
        return done.exit_code, done.output

    assert run("--dry-run")[1].endswith(
        "2 would be imported as history, 2 would be queued, 0 known already, 0 refused.\n"
    )
    (dump.parent / "videos" / "street.mp4").unlink()
    code, text = run()
    assert code == 1
    assert "line 5: It has not run yet, and its video" in text
    assert text.endswith("2 imported as history, 0 queued, 0 known already, 2 refused.\n")
    code, text = run("--json")
    assert [given for given, _ in json.loads(text)["known"]] == [MATCH, BROKEN.upper()]
