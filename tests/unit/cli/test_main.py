"""The command line: help, settings, and what it says; what needs a daemon is in the system tests."""

from __future__ import annotations

import errno
import json
import os
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from daemon import __version__, preflight
from daemon.cli import jobs, lookup, main, requests
from daemon.cli.common import FAILED
from daemon.errors import (
    BadOptions,
    BadVideo,
    IllegalMove,
    MachineError,
    ModelError,
    SettingsError,
    StoredFileMissing,
    StoreLocked,
    UnknownJob,
)
from daemon.ipc import health, rejected_list, spool
from daemon.ipc.health import Heartbeat, InboxBeat, WaitingBeat
from daemon.ipc.rejected_list import RejectedList, RejectedRecord
from daemon.ipc.ticket import TicketKind
from daemon.jobs import ErrorKind, Job, JobSource, JobStatus, new_job_id, output_key, utc_now
from daemon.preflight import Check
from daemon.public_job import PublicJob
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.tokens import find_token, parse_token
from sidecar.schemas import JobPage
from tests.clips import BEGINNING

"""Of an MP4."""
COMMANDS = [
    *(["run"], ["daemon"], ["sidecar"], ["submit"], ["jobs"], ["status"], ["results"], ["retry"], ["cancel"]),
    ["delete"],
    *(["import-jobs"], ["downgrade"]),
    *(["clean"], ["doctor"], ["models"], ["models", "list"], ["models", "pull"], ["models", "export"]),
    ["models", "quantize"],
    *(["config"], ["config", "show"], ["token"]),
]


def run(*arguments: object) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    result = CliRunner().invoke(main.app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def add(home: Path, **values: object) -> Job:
    with JobStore.open(home / "data") as store:
        [job] = store.create([Job(new_job_id(), **values)])  # type: ignore[arg-type]
    return job


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    for flag in ("--help", "-h"):
        code, text = run(*command, flag)
        assert code == 0
        assert f"{' '.join(command)} [OPTIONS]" in text
        if command not in (["models"], ["config"], ["token"]):
            assert "--home" in text


def test_the_main_help_names_every_command_and_what_exit_codes_mean() -> None:
    code, text = run("--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command[0]} " in text
    assert "Exit codes: 0 done, 1 failed, 2 wrong usage or settings" in text


def test_the_version_is_shown() -> None:
    assert run("--version") == (0, f"dropframe {__version__}\n")


def test_a_submission_that_waits_in_the_spool_is_listed_as_it_was_asked_for(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    code, _ = run("submit", home / "a.mp4", "--frame-stride", "5", "--pipeline", "yolo", "--home", home)
    assert code == 0
    [listed] = json.loads(run("jobs", "--home", home, "--json")[1])["jobs"]
    [ticket] = spool.pending_submissions(home / "data" / "spool")
    assert (listed["options"], listed["pipeline_id"]) == ({"frame_stride": 5, "max_frames": None}, "yolo")
    assert (listed["created_at"], listed["status"]) == (ticket.created_at, "pending")


def test_config_show_shows_every_setting_in_force(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "dropframe.toml").write_text("port = 9\nignore = ['[x]*']\n")
    monkeypatch.setenv("DROPFRAME_MAX_ATTEMPTS", "7")
    code, text = run("config", "show", "--home", home)
    assert code == 0
    assert {line.split(" = ")[0] for line in text.splitlines()} == set(Settings.model_fields)
    assert "port = 9\n" in text
    assert "max_attempts = 7\n" in text
    assert 'ignore = ["[x]*"]\n' in text
    values = json.loads(run("config", "show", "--home", home, "--json")[1])
    assert (values["port"], values["max_attempts"], values["home"]) == (9, 7, str(home))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (BadOptions("x"), 2),
        (UnknownJob("x"), 3),
        (IllegalMove("x"), 4),
        (MachineError("x"), 5),
        (ModelError("x"), 5),
        (StoreLocked("x"), 5),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert main.exit_code(error) == code  # type: ignore[arg-type]


def test_names_cannot_play_tricks_on_the_screen(home: Path) -> None:
    add(home, source_name="[red]a\x1b[31m\n\\[b].mp4", source=JobSource.HTTP)
    code, text = run("jobs", "--home", home)
    assert code == 0
    assert "\x1b" not in text
    assert "".join(text.split()).count("[red]a\\x1b[31m\\n") == 1


def test_the_list_says_why_a_job_failed_and_what_a_completed_one_lacks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    warnings = ["No objects were looked for.", "The video is cut short: [60] frames, 36 held."]
    failed, cut, whole = (add(home, source_name=name) for name in ("failed.mp4", "cut.mp4", "whole.mp4"))
    with JobStore.open(home / "data") as store:
        store.move(failed.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT, error_message="It has no video.")
        for job, said in ((cut, warnings), (whole, [])):
            store.move(job.job_id, JobStatus.RUNNING)
            store.move(job.job_id, JobStatus.COMPLETED, output_path="r.json", summary={"warnings": said})
    notes = {
        name: line.split(f"{name} ")[1].strip()
        for line in run("jobs", "--home", home)[1].splitlines()
        for name in ("failed.mp4", "cut.mp4", "whole.mp4")
        if name in line
    }
    assert notes == {"failed.mp4": "It has no video.", "cut.mp4": " ".join(warnings), "whole.mp4": ""}


def test_an_undecodable_file_name_can_be_submitted(home: Path) -> None:
    file = home / b"bad\xff.mp4".decode(errors="surrogateescape")
    file.write_bytes(BEGINNING)
    code, text = run("submit", file, "--home", home)
    assert code == 0
    assert "bad\\xff.mp4" in text


@pytest.mark.parametrize("arguments", [["missing.mp4"], ["."], []])
def test_a_wrong_call_of_submit_submits_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(home)
    (home / "a.mp4").write_bytes(BEGINNING)
    try:
        code, _ = run("submit", *arguments, "--home", home)
    except SettingsError as error:
        code = main.exit_code(error)
    assert code == main.USAGE
    assert not (home / "data").exists()


def test_a_wrong_option_of_submit_is_refused_in_the_words_of_the_other_doors(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    with pytest.raises(BadOptions, match=r"^Option frame_stride must be a whole number of 1 or more, not 0\.$"):
        run("submit", home / "a.mp4", "--frame-stride", "0", "--home", home)
    assert not (home / "data").exists()


def test_what_is_not_an_mp4_is_not_submitted(home: Path) -> None:
    (home / "b.mp4").write_text("not a video")
    with pytest.raises(BadVideo, match=r"b\.mp4 was not submitted\. It is text, not an MP4\."):
        run("submit", home / "b.mp4", "--home", home)
    assert not (home / "data").exists()


def test_good_files_are_submitted_and_bad_ones_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (home / "a.mp4").write_bytes(BEGINNING)
    (home / "b.mkv").write_text("not a video")
    (home / "folder.mp4").mkdir()
    code, text = run("submit", home / "b.mkv", home / "a.mp4", home / "folder.mp4", "--home", home)
    assert code == FAILED
    assert [ticket.source_name for ticket in spool.pending_submissions(home / "data" / "spool")] == ["a.mp4"]
    assert "b.mkv was not submitted. It is text" in text
    assert "folder.mp4 was not submitted. It is a folder; name the videos in it." in text
    code, text = run("submit", home / "b.mkv", home / "folder.mp4", "--home", home)
    assert code == FAILED
    assert "daemon is not running" not in text


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (os.mkfifo, "It is a pipe, not a file."),
        (lambda path: path.mkdir(), "It is a folder; name the videos in it."),
        (lambda path: path.symlink_to("/dev/null"), "It is a device, not a file."),
    ],
)
def test_what_is_not_a_file_is_told_at_once(home: Path, make: Callable[[Path], None], sentence: str) -> None:
    make(home / "a.mp4")
    with pytest.raises(SettingsError, match=f"a.mp4 was not submitted. {sentence}"):
        run("submit", home / "a.mp4", "--home", home)
    assert not (home / "data").exists()


def test_a_slip_in_the_name_of_the_home_makes_no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    monkeypatch.chdir(home)
    for arguments in (["--home", home / "slip"], []):
        for command in (["submit", home / "a.mp4"], ["jobs"]):
            with pytest.raises(SettingsError, match="is not a Dropframe home"):
                run(*command, *arguments)
    assert os.listdir(home) == ["a.mp4"]


def test_a_missing_file_among_several_is_named_and_the_others_are_submitted(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    code, text = run("submit", home / "a.mp4", home / "missing.mp4", "--home", home)
    assert code == FAILED
    assert "missing.mp4 was not submitted. There is no such file." in text
    assert len(list((home / "data/spool").glob("*.mp4"))) == 1


def test_an_empty_file_is_refused_in_the_words_of_the_other_doors(home: Path) -> None:
    (home / "a.mp4").touch()
    with pytest.raises(BadVideo, match=r"a\.mp4 was not submitted\. It is empty\. Copy it again\.$"):
        run("submit", home / "a.mp4", "--home", home)


@pytest.mark.parametrize("value", ["5.0", "1e1", "x"])
def test_what_is_not_a_whole_number_is_refused_as_elsewhere(home: Path, value: str) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    with pytest.raises(BadOptions, match="Option frame_stride must be a whole number of 1 or more, not"):
        run("submit", home / "a.mp4", "--frame-stride", value, "--home", home)


def test_a_result_that_was_deleted_by_hand_is_told_without_its_path(home: Path) -> None:
    job = add(home)
    with JobStore.open(home / "data") as store:
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    told = rf"^The result of job {job.job_id} has been deleted from the data folder; submit the video again\.$"
    with pytest.raises(StoredFileMissing, match=told):
        run("results", job.job_id, "--home", home)


def test_an_unknown_pipeline_is_told_the_known_ones(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    with pytest.raises(BadOptions, match=r"no pipeline 'nope' \(the pipelines are ocr_only, yolo, yolo_ocr\)"):
        run("submit", home / "a.mp4", "--pipeline", "nope", "--home", home)


def test_the_first_characters_of_an_id_are_enough_if_they_are_its_alone(home: Path) -> None:
    job = add(home)
    settings = Settings.load(home=home)
    assert lookup.find_job(settings, job.job_id[:4]).job_id == job.job_id
    add(home)
    with pytest.raises(UnknownJob, match="More than one job"):
        lookup.find_job(settings, "")


def test_a_job_is_found_by_the_name_of_its_video(home: Path) -> None:
    job, twice = add(home, source_name="a.mp4"), [add(home, source_name="b.mp4") for _ in range(2)]
    settings = Settings.load(home=home)
    assert lookup.find_job(settings, "a.mp4").job_id == job.job_id
    assert json.loads(run("status", "a.mp4", "--home", home, "--json")[1])["job_id"] == job.job_id
    with pytest.raises(UnknownJob, match=r"No job is named 'c\.mp4' or has an id that begins with it"):
        lookup.find_job(settings, "c.mp4")
    result = CliRunner().invoke(main.app, ["status", "b.mp4", "--home", str(home)])
    assert isinstance(result.exception, UnknownJob)
    assert str(result.exception) == "More than one job fits 'b.mp4'; name one by its id."
    assert [line.split() for line in result.output.splitlines()] == [
        [job.job_id, "pending", "b.mp4"] for job in reversed(twice)
    ]


def test_of_very_many_candidates_the_newest_are_listed(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        store.create([Job(new_job_id(), source_name="b.mp4") for _ in range(lookup.MOST_CANDIDATES + 3)])
    result = CliRunner().invoke(main.app, ["status", "b.mp4", "--home", str(home)])
    assert len(result.output.splitlines()) == lookup.MOST_CANDIDATES + 1
    assert result.output.splitlines()[-1] == "… and 3 more"


def test_the_list_holds_the_newest_jobs_that_fit(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    for number in range(3):
        add(home, source_name=f"Match {number}.mp4", pipeline_id="yolo" if number else "ocr_only")
    run("submit", home / "a.mp4", "--home", home)

    def listed(*flags: object) -> list[str]:
        return [job["source_name"] for job in json.loads(run("jobs", "--json", "--home", home, *flags)[1])["jobs"]]

    assert listed() == ["a.mp4", "Match 2.mp4", "Match 1.mp4", "Match 0.mp4"]
    assert listed("--limit", 2) == ["a.mp4", "Match 2.mp4"]
    assert listed("--name", "match", "--limit", 2) == ["Match 2.mp4", "Match 1.mp4"]
    assert listed("--pipeline", "ocr_only") == ["Match 0.mp4"]
    assert listed("--status", "failed") == []


def test_a_result_goes_to_a_file_whose_folder_exists(home: Path) -> None:
    job = add(home)
    with JobStore.open(home / "data") as store:
        store.move(job.job_id, JobStatus.RUNNING)
        store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
    (home / "data" / output_key(job.job_id)).parent.mkdir()
    (home / "data" / output_key(job.job_id)).write_bytes(b"{\n}\n")
    with pytest.raises(SettingsError, match=f"The folder {home}/none does not exist; make it, or name another file"):
        run("results", job.job_id, "-o", home / "none" / "a.json", "--home", home)
    with pytest.raises(SettingsError, match=f"{home} is a folder; with --output, name a file"):
        run("results", job.job_id, "-o", home, "--home", home)
    assert run("results", job.job_id, "-o", home / "a.json", "--home", home) == (0, "")
    assert (home / "a.json").read_bytes() == b"{\n}\n"


def test_ctrl_c_ends_waiting_and_says_that_the_jobs_go_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "wait_for", interrupt)
    monkeypatch.setenv("COLUMNS", "500")
    (home / "a.mp4").write_bytes(BEGINNING)
    code, text = run("submit", home / "a.mp4", "--wait", "--home", home)
    assert code == 130
    assert f"No longer waiting; the jobs go on. See how they are: dropframe jobs --home {home}\n" in text


def test_health_reads_the_job_store_before_it_says_that_it_is_readable(home: Path) -> None:
    add(home)
    parts = json.loads(run("health", "--json", "--home", home)[1])["parts"]
    assert parts["store"]["ok"]
    for path in (home / "data").glob("jobs*.j*"):
        path.write_bytes(b"{")
    parts = json.loads(run("health", "--json", "--home", home)[1])["parts"]
    assert parts["store"] == {"ok": False, "detail": "The job store cannot be read; dropframe doctor says why."}


def test_doctor_makes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "check_libraries", lambda: iter([Check("library av", False, "gone")]))
    code, text = run("doctor", "--home", home / "new")
    assert code == main.FAILED
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    assert [name for name, said in lines.items() if said.endswith(", which the first start makes")] == [
        *("ok   inbox", "ok   outbox", "ok   data")
    ]
    assert lines["ok   disk"].endswith("GB free for data")
    assert os.listdir(home) == []


def test_completion_can_be_installed() -> None:
    assert "--install-completion" in run("--help")[1]


def test_a_job_that_moves_from_the_spool_to_the_store_is_seen_at_every_moment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(home=home)
    (home / "a.mp4").write_bytes(BEGINNING)
    job_id = run("submit", home / "a.mp4", "--home", home)[1].split()[0]
    look = spool.pending_submissions

    def look_and_be_overtaken(folder: Path) -> list[spool.Ticket]:
        found = look(folder)
        with JobStore.open(settings.data_dir) as store:
            store.create([Job(job_id)])
        for ticket in found:
            spool.done(folder, ticket)
        return found

    monkeypatch.setattr(spool, "pending_submissions", look_and_be_overtaken)
    for _ in range(2):
        with lookup.known_jobs(settings) as known:
            assert [job.job_id for job in known.select(lambda record: True)] == [job_id]


def test_the_list_for_programs_is_the_page_that_the_api_gives(home: Path) -> None:
    made = [add(home, source_name=f"{number}.mp4") for number in range(5)]
    with JobStore.open(home / "data") as store:
        store.move(made[0].job_id, JobStatus.RUNNING)
        store.move(made[0].job_id, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED)
    (home / "a.mp4").write_bytes(BEGINNING)
    for _ in range(2):
        run("submit", home / "a.mp4", "--home", home)
    pages, cursor = [], None
    for _ in range(4):
        more = ("--cursor", cursor) if cursor else ()
        page = json.loads(run("jobs", "--json", "--limit", "2", "--home", home, *more)[1])
        assert page.keys() == JobPage.model_fields.keys()
        assert page["counts"] == {"pending": 6, "running": 0, "completed": 0, "failed": 1}
        for job in page["jobs"]:
            PublicJob.model_validate(job)
            assert job.keys() == PublicJob.model_fields.keys()
        pages.append([(job["source_name"], job["queue_position"]) for job in page["jobs"]])
        cursor = page["next_cursor"]
    assert cursor is None
    assert pages == [
        [("a.mp4", 5), ("a.mp4", 4)],
        [("4.mp4", 3), ("3.mp4", 2)],
        [("2.mp4", 1), ("1.mp4", 0)],
        [("0.mp4", None)],
    ]
    with pytest.raises(SettingsError, match="--cursor must be the next_cursor of the page before"):
        run("jobs", "--cursor", "x", "--home", home)


def test_a_page_goes_on_where_it_was_although_a_submission_became_a_job(home: Path) -> None:
    (home / "a.mp4").write_bytes(BEGINNING)
    ids = [run("submit", home / "a.mp4", "--home", home)[1].split()[0] for _ in range(3)]
    page = json.loads(run("jobs", "--json", "--limit", "1", "--home", home)[1])
    assert [job["job_id"] for job in page["jobs"]] == ids[2:]
    for ticket in spool.pending_submissions(home / "data" / "spool"):
        with JobStore.open(home / "data") as store:
            store.create([ticket.to_job()])
        spool.done(home / "data" / "spool", ticket)
    page = json.loads(run("jobs", "--json", "--cursor", page["next_cursor"], "--home", home)[1])
    assert [job["job_id"] for job in page["jobs"]] == [ids[1], ids[0]]


def test_a_cancelled_job_reads_cancelled_to_people_and_failed_to_programs(home: Path) -> None:
    job = add(home, source_name="a.mp4")
    with JobStore.open(home / "data") as store:
        store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.CANCELLED, error_message="Cancelled.")
    for command in (("jobs",), ("status", job.job_id)):
        text = run(*command, "--home", home)[1]
        assert "cancelled" in text
        assert "failed" not in text
    assert json.loads(run("status", job.job_id, "--json", "--home", home)[1])["status"] == "failed"
    with pytest.raises(IllegalMove, match="is cancelled and has no result"):
        run("results", job.job_id, "--home", home)


def test_jobs_are_deleted_by_one_ticket_after_a_person_was_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, runs = add(home, source_name="a.mp4"), add(home), add(home)
    with JobStore.open(home / "data") as store:
        store.move(runs.job_id, JobStatus.RUNNING)
    with pytest.raises(SettingsError, match="Deleting cannot be undone; pass --yes where nobody can be asked"):
        run("delete", first.job_id, "--home", home)
    with pytest.raises(IllegalMove, match="is running; cancel it first"):
        run("delete", first.job_id, runs.job_id, "--yes", "--home", home)
    assert spool.tickets(home / "data" / "spool") == []
    code, text = run("delete", first.job_id, second.job_id, "--yes", "--home", home)
    assert (code, text) == (0, "2 jobs are being deleted.\n")
    [ticket] = spool.tickets(home / "data" / "spool")
    assert (ticket.kind, set(ticket.jobs)) == (TicketKind.DELETE, {first.job_id, second.job_id})
    monkeypatch.setattr(requests, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    asked = CliRunner().invoke(main.app, ["delete", "a.mp4", "--home", str(home)], input="n\n")
    assert "Delete 1 job with videos and results?" in asked.output
    assert "a.mp4" in asked.output
    assert len(spool.tickets(home / "data" / "spool")) == 1
    asked = CliRunner().invoke(main.app, ["delete", "a.mp4", "--home", str(home)], input="y\n")
    assert len(spool.tickets(home / "data" / "spool")) == 2


def test_a_deleted_job_is_unknown_and_when_it_was_deleted_is_told(home: Path) -> None:
    job = add(home, source_name="a.mp4")
    with JobStore.open(home / "data") as store:
        store.delete(job)
        when = store.deleted.at(job.job_id)
    with pytest.raises(UnknownJob, match=f"Job {job.job_id} was deleted at {re.escape(str(when))}"):
        run("status", job.job_id, "--home", home)
    with pytest.raises(UnknownJob, match=r"No job is named 'a\.mp4'"):
        run("status", "a.mp4", "--home", home)


def test_six_thousand_failed_jobs_are_retried_by_one_ticket_at_once(home: Path) -> None:
    with JobStore.open(home / "data") as store:
        store.create([Job(new_job_id(), JobStatus.FAILED, error_kind=ErrorKind.TRANSIENT) for _ in range(6000)])
        store.create([Job(new_job_id(), JobStatus.FAILED, error_kind=ErrorKind.CANCELLED)])
    begun = time.process_time()
    code, text = run("retry", "--all-failed", "--home", home)
    assert time.process_time() - begun < 2
    assert (code, text.splitlines()) == (
        0,
        ["6000 jobs queued for retry.", "1 job left out: cancelled, refused, or without a video."],
    )
    [ticket] = spool.tickets(home / "data" / "spool")
    assert len(ticket.jobs) == 6000


def test_retry_and_cancel_refuse_before_they_ask_for_anything(home: Path) -> None:
    failed, waiting, refused = add(home), add(home), add(home)
    with JobStore.open(home / "data") as store:
        store.move(failed.job_id, JobStatus.RUNNING, started_at=utc_now())
        for job in (failed, refused):
            store.move(job.job_id, JobStatus.FAILED, error_kind=ErrorKind.PERMANENT)
    with pytest.raises(IllegalMove, match="has already failed"):
        run("cancel", waiting.job_id, failed.job_id, "--home", home)
    with pytest.raises(IllegalMove, match=r"is failed; it was refused before it could start, .*; submit it again\.$"):
        run("retry", refused.job_id, "--home", home)
    with pytest.raises(IllegalMove, match="is pending; only a failed one can be tried again"):
        run("retry", waiting.job_id, "--home", home)
    with pytest.raises(SettingsError, match="Name at least one job, or pass --all-failed"):
        run("retry", "--home", home)
    assert not (home / "data" / "spool").exists()
    assert run("retry", "--all-failed", "--home", home) == (
        0,
        "1 job queued for retry.\n1 job left out: cancelled, refused, or without a video.\n",
    )
    assert [p.name for p in (home / "data" / "spool").iterdir()] == [f"{failed.job_id}.retry.json"]


def test_waiting_for_a_job_that_is_nowhere_ends(home: Path) -> None:
    with pytest.raises(UnknownJob, match="no longer exists"):
        lookup.wait_for(Settings.load(home=home), [new_job_id()])


def test_a_token_is_shown_once_with_the_line_for_the_settings() -> None:
    code, output = run("token", "ann", "--rights", "submit")
    secret = next(word for word in output.split() if word.startswith("df_"))
    line = next(line.strip() for line in output.splitlines() if line.strip().startswith("tokens = "))
    [found] = tomllib.loads(line)["tokens"]
    assert code == 0
    assert find_token([parse_token(found)], secret.encode()) == parse_token(found)
    assert secret not in line


def test_a_token_with_a_name_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError):
        run("token", "ann:admin")


def test_models_list_says_what_is_used_for_what(home: Path) -> None:
    listed = json.loads(run("models", "list", "--home", home, "--json")[1])
    assert listed["objects"] is None
    assert listed["text_regions"]["name"] == "PP-OCRv6_det_small"
    assert "text regions: RapidOCR's detector" in run("models", "list", "--home", home)[1]
    weights = home / "data" / "models" / "mine.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    listed = json.loads(run("models", "list", "--home", home, "--json")[1])
    assert (listed["objects"]["path"], listed["text_regions"]["name"]) == (str(weights), "PP-OCRv6_det_small")
    code, text = run("models", "list", "--home", home)
    assert code == 0
    assert f"objects: {weights}" in text
    assert "text regions: RapidOCR's detector" in text


def test_rejected_files_are_listed_with_their_reasons(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    add(home, source_name="a.mp4")
    files = [
        RejectedRecord(f"{n}[b].mp4", f"rejected/{n}.mp4", "It is text.", f"2026-01-31T12:00:{n}.000000+00:00", 1)
        for n in range(29, 9, -1)
    ]
    rejected_list.write(home / "data", RejectedList(tuple(files), 20))
    code, text = run("jobs", "--home", home)
    assert code == 0
    assert "rejected 2026-01-31T12:00:29Z: 29[b].mp4: It is text." in text
    assert text.count("It is text.") == 10
    assert f"10 more rejected files are in {home / 'inbox' / 'rejected'}" in text


def test_many_files_that_wait_for_one_reason_are_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    add(home, source_name="a.mp4")
    files = [WaitingBeat(f"{n}.srt", 1, 1.0, "Its name.") for n in range(30)]
    waiting = (WaitingBeat("b.mp4", 1, 1.0, "It is empty."), *files)
    beat = Heartbeat(updated_at=utc_now(), state="running", pid=1, inbox=InboxBeat(waiting=waiting))
    health.write(home / "data", beat)
    text = run("jobs", "--home", home)[1]
    assert "waiting in the inbox: b.mp4 (1 s): It is empty." in text
    assert text.count(".srt (1 s): Its name.") == 10
    assert "waiting in the inbox: at least 20 more: Its name." in text


def test_a_full_disk_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(main, "app", fails)
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr().err
    assert "The disk is full; make room" in said
    assert "Errno" not in said
