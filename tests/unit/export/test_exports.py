"""Exports over HTTP, from the command line and by the daemon: made once, sent as files are, and why not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from daemon.cli.main import app
from daemon.derive import files as derived_files
from daemon.derive.client import Derivations
from daemon.errors import BadOptions, SettingsError, StoredFileMissing
from daemon.export import files
from daemon.export.client import Exports, export_now
from daemon.export.files import ExportPlace, NotExported
from daemon.export_formats import FORMATS, ExportRequest
from daemon.failpoints import FAULT_VARIABLE
from daemon.jobs import Job, input_key, output_key
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from sidecar import schemas
from tests.clips import make_clip
from tests.derived_documents import frame
from tests.exported import derived_job, exported, files_of_at_most, finished_job
from tests.unit.sidecar.test_app import Client, call
from tests.unit.sidecar.test_app import check_problem as problem_in

WAIT_S = 60.0


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    return derived_job(tmp_path)


def place_of(home: Path, job_id: str, **values: object) -> ExportPlace:
    return ExportPlace.of(home / "data", job_id, ExportRequest.of({"format": "csv", **values}))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_problem(response: httpx.Response, status: int, kind: str) -> None:
    problem = problem_in(response)
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (status, kind)


@contextmanager
def exporting(home: Path) -> Iterator[Exports]:
    with JobStore.open(home / "data") as store:
        jobs = {job.job_id: job for job in store.jobs()}
    made = Exports(Settings.load(home=home), jobs.get)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home)])


def test_the_command_writes_a_file_named_after_the_video(
    tmp_path: Path, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(tmp_path, "export", "match.mp4", "--format", "srt").exit_code == 0
    assert "GATE B12" in Path("match.mp4.srt").read_text()
    again = run(tmp_path, "export", "match.mp4", "--format", "srt")
    assert isinstance(again.exception, SettingsError)  # what is there was perhaps worked on
    assert run(tmp_path, "export", job_id, "-f", "csv", "--class", "dog", "-o", "dogs.csv").exit_code == 0
    assert len(Path("dogs.csv").read_text().splitlines()) == 31
    os.mkfifo("pipe")
    reader = threading.Thread(target=lambda: Path("copy").write_bytes(Path("pipe").read_bytes()))
    reader.start()
    assert run(tmp_path, "export", job_id, "-f", "csv", "--class", "dog", "-o", "pipe").exit_code == 0
    reader.join()
    assert Path("copy").read_bytes() == Path("dogs.csv").read_bytes()
    assert Path("pipe").is_fifo()
    shown = run(tmp_path, "export", job_id, "-f", "csv", "--min-confidence", "0.7", "-o", "-")
    assert len(shown.stdout.splitlines()) == 56


def test_what_an_export_needs_is_derived_first(tmp_path: Path) -> None:
    job_id = finished_job(tmp_path)
    shown = run(tmp_path, "export", job_id, "-f", "vtt", "-o", "-")
    assert "made first" in shown.stderr
    assert shown.stdout.startswith("WEBVTT")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-f", "cvs"], "did you mean csv"),
        (["-f", "srt", "--class", "dog"], "no classes"),
        (["-f", "csv", "--min-confidence", "nan"], "from 0 to 1"),
        (["-f", "csv", "--from-s", "5", "--to-s", "5"], "greater than from_s"),
        (["-f", "csv", "--conf"], "conf is for yolo"),
    ],
)
def test_what_cannot_be_asked_for_is_said(tmp_path: Path, job_id: str, arguments: list[str], sentence: str) -> None:
    answer = run(tmp_path, "export", job_id, *arguments)
    assert isinstance(answer.exception, BadOptions)
    assert sentence in str(answer.exception)


def test_formats_are_listed(tmp_path: Path) -> None:
    listed = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert [each["format"] for each in listed] == list(FORMATS)
    assert "motmetrics" in CliRunner().invoke(app, ["formats"], env={"COLUMNS": "200"}).stdout


def test_an_export_is_202_until_the_daemon_has_made_it(tmp_path: Path, job_id: str) -> None:
    async def ask(client: Client) -> None:
        formats = await client.get("/v1/formats")
        assert len(schemas.FormatList.model_validate(formats.json()).formats) == len(FORMATS)
        answer = await client.get(f"/v1/jobs/{job_id}/export/csv?classes=dog")
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "2")
        schemas.BeingMade.model_validate(answer.json())
        with exporting(tmp_path):
            answer = await client.get(f"/v1/jobs/{job_id}/export/csv?classes=dog&wait=60")
            while files.asked_for(tmp_path / "data" / "spool"):  # it ends a moment after the file is there
                await asyncio.sleep(0.01)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="match.mp4.csv"'
        assert answer.content == exported(tmp_path, job_id, "csv", classes=["dog"]).read_bytes()

    call(tmp_path, ask)


def test_an_export_is_sent_as_files_are(tmp_path: Path, job_id: str) -> None:
    content = exported(tmp_path, job_id, "yolo").read_bytes()

    async def ask(client: Client) -> None:
        path = f"/v1/jobs/{job_id}/export/yolo"
        whole = await client.get(path)
        assert whole.content == content
        part = await client.get(path, headers={"range": "bytes=2-9", "if-range": whole.headers["etag"]})
        assert (part.status_code, part.content) == (206, content[2:10])
        same = await client.get(path, headers={"if-none-match": whole.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.get(path, headers={"range": "bytes=99999999-"})).status_code == 416

    call(tmp_path, ask)


@pytest.mark.parametrize(
    ("path", "status", "kind", "detail"),
    [
        ("export/docx", 404, "unknown-format", "/v1/formats"),
        ("export/csv?class=dog", 422, "bad-field", "classes"),
        ("export/csv?min_confidence=2", 422, "bad-field", "from 0 to 1"),
        ("export/srt?classes=dog", 422, "bad-field", "no classes"),
        ("export/csv?from_s=3&to_s=2", 422, "bad-field", "greater than from_s"),
    ],
)
def test_wrong_questions_are_answered(
    tmp_path: Path, job_id: str, path: str, status: int, kind: str, detail: str
) -> None:
    async def ask(client: Client) -> None:
        check_problem(await client.get(f"/v1/jobs/{job_id}/{path}"), status, kind)
        assert detail in (await client.get(f"/v1/jobs/{job_id}/{path}")).json()["detail"]

    call(tmp_path, ask)


@pytest.mark.expects_error_log
def test_a_damaged_result_is_said_and_not_tried_for_ever(tmp_path: Path, job_id: str) -> None:
    document = tmp_path / "data" / output_key(job_id)
    document.write_bytes(document.read_bytes()[:-1000])

    async def ask(client: Client) -> None:
        with exporting(tmp_path):
            check_problem(await client.get(f"/v1/jobs/{job_id}/export/csv?wait=60"), 500, "damaged-result")

    call(tmp_path, ask)


def test_a_child_that_is_killed_is_said_and_the_next_try_works(
    tmp_path: Path, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(tmp_path, job_id)
    settings = Settings.load(home=tmp_path)
    monkeypatch.setenv(FAULT_VARIABLE, "export.written")
    with pytest.raises(NotExported, match="SIGKILL"):
        export_now(settings, place, "match.mp4")
    assert not place.path.exists()
    monkeypatch.delenv(FAULT_VARIABLE)
    export_now(settings, place, "match.mp4")
    assert place.path.stat().st_size > 1000
    with JobStore.open(tmp_path / "data") as store:
        assert store.get(job_id).status == "completed"


def test_a_failure_is_told_once_and_tried_again(tmp_path: Path, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULT_VARIABLE, "export.written")
    place = place_of(tmp_path, job_id)

    async def ask(client: Client) -> None:
        path = f"/v1/jobs/{job_id}/export/csv?wait=60"
        with exporting(tmp_path):
            check_problem(await client.get(path), 503, "export-failed")
            monkeypatch.delenv(FAULT_VARIABLE)
            long_ago = time.time() - files.PROBLEM_SECONDS
            os.utime(place.problem_path, (long_ago, long_ago))
            assert (await client.get(path)).status_code == 200

    call(tmp_path, ask)
    assert not place.problem_path.exists()


def test_a_disk_that_fills_meanwhile_is_said_and_the_next_try_works(tmp_path: Path, job_id: str) -> None:
    settings = Settings.load(home=tmp_path)
    for name in ("csv", "yolo", "parquet", "cvat"):  # written at once, or by way of files without a name
        place = place_of(tmp_path, job_id, format=name)
        with files_of_at_most(500), pytest.raises(NotExported) as full:
            export_now(settings, place, "match.mp4")
        assert not full.value.final, name
        assert re.search("too large", str(full.value), re.IGNORECASE), name
        assert not place.path.exists()
        export_now(settings, place, "match.mp4")
        assert place.path.stat().st_size > 500
    assert [path for path in place.folder.parent.rglob("*") if path.name.startswith(".")] == []
    with JobStore.open(tmp_path / "data") as store:
        assert store.get(job_id).status == "completed"


def test_a_full_disk_is_said(tmp_path: Path, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(client: Client) -> None:
        check_problem(await client.get(f"/v1/jobs/{job_id}/export/csv"), 507, "disk-full")

    call(tmp_path, ask, min_free_bytes=10**18)


def test_derived_files_that_are_damaged_are_made_again(tmp_path: Path, job_id: str) -> None:
    folder = derived_files.folder_of(tmp_path / "data", job_id)
    texts = (folder / "texts.json").read_bytes()
    (folder / "texts.json").write_bytes(texts[:-40])
    place = place_of(tmp_path, job_id, format="srt")
    settings = Settings.load(home=tmp_path)
    with pytest.raises(NotExported, match="made again"):
        export_now(settings, place, "match.mp4")
    assert not folder.exists()
    assert run(tmp_path, "export", job_id, "-f", "srt", "-o", "-").stdout.startswith("1\n")


def test_the_daemon_derives_what_is_missing_and_then_exports(tmp_path: Path) -> None:
    job_id = finished_job(tmp_path)
    place = place_of(tmp_path, job_id, format="ass")
    spool = tmp_path / "data" / "spool"
    assert files.ask_for(spool, place)
    derivations = Derivations(Settings.load(home=tmp_path), lambda: 1)
    with exporting(tmp_path):
        derivations.start()
        until(place.path.exists)
        derivations.stop()
        until(lambda: not files.asked_for(spool))


def test_what_is_no_request_is_removed(tmp_path: Path, job_id: str) -> None:
    spool = tmp_path / "data" / "spool"
    name = place_of(tmp_path, job_id).request_name
    for content in (b"", b"[]", b'{"format": "docx"}', b'{"format": "csv", "classes": [{}]}', b"\xff" * 100):
        (spool / name).write_bytes(content)
        made = Exports(Settings.load(home=tmp_path), lambda job_id: None)
        made.step()
        assert files.asked_for(spool) == [], content


def test_too_many_requests_are_not_kept(tmp_path: Path, job_id: str) -> None:
    spool = tmp_path / "data" / "spool"
    for n in range(files.MOST_REQUESTS):
        assert files.ask_for(spool, place_of(tmp_path, job_id, from_s=float(n)))
    assert not files.ask_for(spool, place_of(tmp_path, job_id, from_s=1000.5))
    assert files.ask_for(spool, place_of(tmp_path, job_id, from_s=1.0))  # it is asked for already


def test_of_a_result_that_is_deleted_while_its_video_is_drawn_on_nothing_stays(tmp_path: Path) -> None:
    job_id = finished_job(tmp_path, records=(frame(n, n / 25, [], []) for n in range(1000)))
    make_clip(tmp_path / "data" / input_key(job_id), frames=1000)
    place = place_of(tmp_path, job_id, format="annotated")
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(export_now, Settings.load(home=tmp_path), place, "match.mp4")
        until(place.folder.exists)
        (tmp_path / "data" / output_key(job_id)).unlink()
        with pytest.raises(StoredFileMissing):
            drawing.result(WAIT_S)
    assert not place.folder.exists()


def test_a_video_that_is_drawn_on_leaves_a_place_for_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [derived_job(tmp_path / name) for name in ("one", "two", "three")]
    homes = [tmp_path / name for name in ("one", "two", "three")]
    spool = tmp_path / "one" / "data" / "spool"
    for home, job_id in zip(homes[1:], jobs[1:], strict=True):
        document = home / "data" / output_key(job_id)
        document.rename(tmp_path / "one" / "data" / output_key(job_id))
    working, done = [], threading.Event()

    def make(settings: Settings, place: ExportPlace, name: str, should_stop: Callable[[], bool]) -> None:
        working.append(place.request.format)
        done.wait(WAIT_S)

    monkeypatch.setattr("daemon.export.client.export_now", make)
    made = Exports(Settings.load(home=tmp_path / "one"), lambda job_id: Job(job_id, source_name="match.mp4"))
    for job_id, name in zip(jobs, ("annotated", "annotated", "csv"), strict=True):
        assert files.ask_for(spool, place_of(tmp_path / "one", job_id, format=name))
    made.step()
    until(lambda: len(working) == 2)
    made.step()
    done.set()
    assert sorted(working) == ["annotated", "csv"]
    until(lambda: len(files.asked_for(spool)) == 1)
    until(lambda: made.step() or not files.asked_for(spool))  # the place is free a moment later
    assert sorted(working) == ["annotated", "annotated", "csv"]
    made.stop()


def test_exports_go_with_their_result_and_when_they_are_old(tmp_path: Path, job_id: str) -> None:
    old, young = exported(tmp_path, job_id, "csv"), exported(tmp_path, job_id, "jsonl")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    being_written = young.with_name(".1-x.tmp")
    being_written.write_bytes(b"x" * 1000)
    os.utime(being_written, (time.time() - 600,) * 2)
    made = Exports(Settings.load(home=tmp_path), lambda job_id: None)
    made.step()
    assert [old.exists(), young.exists()] == [False, True]
    assert files.sweep_old(tmp_path / "data", 0.0, young.stat().st_size - 1) == 1
    assert being_written.exists()
    exported(tmp_path, job_id, "jsonl")
    (tmp_path / "data" / output_key(job_id)).unlink()
    Exports(Settings.load(home=tmp_path), lambda job_id: None).step()
    assert not young.parent.exists()


def test_another_result_is_another_export(tmp_path: Path, job_id: str) -> None:
    place = place_of(tmp_path, job_id)
    os.utime(tmp_path / "data" / output_key(job_id), (1e9, 1e9))
    assert place_of(tmp_path, job_id).key != place.key
    (tmp_path / "data" / output_key(job_id)).unlink()
    with pytest.raises(StoredFileMissing):
        place_of(tmp_path, job_id)
