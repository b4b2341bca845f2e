"""Deriving from a whole document: the same bytes whatever happens in between, or a sentence."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemon.derive import files
from daemon.derive.client import DerivationFailed, Derivations, derive_now
from daemon.derive.derivation import derive
from daemon.derive.document import DamagedDocument
from daemon.derive.files import DerivedKind, NotDerivedYet, NothingDerived, is_current, open_derived
from daemon.errors import Interrupted, StoredFileMissing, StoreError
from daemon.failpoints import FAULT_VARIABLE
from daemon.jobs import new_job_id, output_key
from daemon.settings import Settings
from tests.derived_clips import CLIPS
from tests.derived_documents import Clip, frame, frames_of, write_document
from tests.exported import files_of_at_most

CLIP = next(clip for clip in CLIPS if clip.name == "score and clock")


def cats(count: int) -> dict[int, list[dict[str, Any]]]:
    return {n: [{"bbox": [n, 10, n + 50, 60], "class": "cat", "class_id": 15, "confidence": 0.9}] for n in range(count)}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return write_document(tmp_path / "r.json", frames_of(Clip("", 250, CLIP.shown, objects=cats(250))))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, min_free_bytes=0)


def finished_job(settings: Settings, clip: Clip = CLIP) -> str:
    job_id = new_job_id()
    write_document(settings.data_dir / output_key(job_id), frames_of(clip))
    return job_id


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_say_what_they_were_made_from_and_have_a_line_for_each_entry(document: Path, tmp_path: Path) -> None:
    assert derive(document, tmp_path / "d") == 250
    made = {kind: json.loads((tmp_path / "d" / kind.file_name).read_text()) for kind in DerivedKind}
    for kind, content in made.items():
        assert content["derived_from"]["version"] == files.VERSION
        assert content["derived_from"]["document"]["size_bytes"] == document.stat().st_size
        assert content["derived_from"]["schema"] == f"dropframe.{kind}/1"
    assert [text["text"] for text in made[DerivedKind.TEXTS]["texts"]][:2] == ["HOME 0 - 0 AWAY", "44:50"]
    [track] = made[DerivedKind.TRACKS]["tracks"]
    assert (track["class"], track["boxes"], track["end_s"]) == ("cat", 250, 10.0)
    assert made[DerivedKind.TRACKS]["frames"][7] == {"frame_index": 7, "track_ids": [1]}
    density = made[DerivedKind.DENSITY]["density"]
    assert (density["bucket_s"], sum(density["frames"]), sum(density["objects"]["cat"])) == (0.1, 250, 250)
    assert density["classes"] == {"cat": {"confidences": [0] * 18 + [250, 0], "frames": 250, "most": 1}}
    lines = (tmp_path / "d" / "texts.json").read_text().splitlines()
    assert sum(line.startswith('{"bbox"') for line in lines) == len(made[DerivedKind.TEXTS]["texts"])


def test_the_texts_come_in_order_of_their_first_frame(document: Path, tmp_path: Path) -> None:
    derive(document, tmp_path / "d")
    texts = json.loads((tmp_path / "d" / "texts.json").read_text())["texts"]
    assert [t["first_frame"] for t in texts] == sorted(t["first_frame"] for t in texts)


@pytest.mark.parametrize("fault", ["storage.written", "storage.renamed:2", "derive.texts", "derive.tracks"])
def test_killed_at_any_step_it_makes_the_same_bytes_the_next_time(tmp_path: Path, fault: str) -> None:
    document = write_document(tmp_path / "r.json", frames_of(Clip("", 250, CLIP.shown, objects=cats(250))))
    derive(document, tmp_path / "whole")
    killed = subprocess.run(
        [sys.executable, "-m", "daemon.derive.process", document, tmp_path / "d", str(os.getpid())],
        env={**os.environ, FAULT_VARIABLE: fault},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    for name, content in contents(tmp_path / "d").items():
        assert name.endswith(".tmp") or content == contents(tmp_path / "whole")[name]
    derive(document, tmp_path / "d")
    assert {n: c for n, c in contents(tmp_path / "d").items() if not n.endswith(".tmp")} == contents(tmp_path / "whole")


def test_each_class_is_counted_by_frames_and_at_once_and_by_confidence(tmp_path: Path) -> None:
    def found(name: str, *confidences: float) -> list[dict[str, Any]]:
        return [{"bbox": [0, 0, 9, 9], "class": name, "confidence": confidence} for confidence in confidences]

    objects = [found("bus", 0.3, 0.05), found("bus", 1.0) + found("tie", 0.0), [], found("bus", 0.3, 0.349, 0.35)]
    path = write_document(tmp_path / "r.json", (frame(n, n / 25, [], seen) for n, seen in enumerate(objects)))
    derive(path, tmp_path / "d")
    classes = json.loads((tmp_path / "d" / "density.json").read_text())["density"]["classes"]
    assert {name: (one["frames"], one["most"]) for name, one in classes.items()} == {"bus": (3, 3), "tie": (1, 1)}
    steps = {n: count for n, count in enumerate(classes["bus"]["confidences"]) if count}
    assert steps == {1: 1, 6: 3, 7: 1, 19: 1}
    assert classes["tie"]["confidences"] == [1] + [0] * 19


def test_the_longest_video_has_a_thousand_buckets_at_most(tmp_path: Path) -> None:
    path = write_document(tmp_path / "r.json", (frame(n, n * 60.0, [], []) for n in range(3000)))
    derive(path, tmp_path / "d")
    density = json.loads((tmp_path / "d" / "density.json").read_text())["density"]
    assert 500 <= len(density["frames"]) <= 1000
    assert sum(density["frames"]) == 3000


def test_a_document_torn_anywhere_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = write_document(tmp_path / "r.json", frames_of(Clip("", 3, CLIP.shown[:2], objects=cats(3))))
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 2, 7), len(whole) - 2]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedDocument, match=r"[.;]"):
            derive(path, tmp_path / "d")
    assert contents(tmp_path / "d") == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"timestamp_s": 0.04', '"timestamp_s": NaN'),
        ('"timestamp_s": 0.04', '"timestamp_s": 1e999'),
        ('"timestamp_s": 0.04', '"timestamp_s": "0.04"'),
        (', "timestamp_s": 0.04', ""),
        ('"frame_index": 1', '"frame_index": 0'),
        ('"frame_index": 1', '"frame_index": null'),
        ('"class": "cat"', '"class": ["cat"]'),
        ('"confidence": 0.9', '"confidence": true'),
        ('"bbox": [1, 10, 51, 60]', '"bbox": [1, 10, 51]'),
        ('"text_blocks": [', '"text_blocks": [3, '),
        ('"result": {', '"result": [' * 5000),
        ('"models": []', '"models": [' + "1, " * 6_000_000 + "1]"),
    ],
)
def test_a_malformed_document_is_refused_with_a_sentence(tmp_path: Path, old: str, new: str) -> None:
    path = write_document(tmp_path / "r.json", frames_of(Clip("", 3, CLIP.shown[:2], missed=0, objects=cats(3))))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DamagedDocument, match=r"^[A-Z].*[.]$"):
        derive(path, tmp_path / "d")


def test_what_is_derived_holds_until_the_document_or_the_version_changes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = finished_job(settings)
    folder, path = files.folder_of(settings.data_dir, job_id), files.document_of(settings.data_dir, job_id)
    assert not is_current(settings.data_dir, job_id)
    derive(path, folder)
    assert is_current(settings.data_dir, job_id)
    monkeypatch.setattr(files, "VERSION", files.VERSION + 1)
    assert not is_current(settings.data_dir, job_id)
    monkeypatch.undo()
    later = time.time_ns() + 10**9
    os.utime(path, ns=(later, later))
    with pytest.raises(NotDerivedYet):
        open_derived(settings.data_dir, job_id, DerivedKind.TEXTS)
    path.unlink()
    with pytest.raises(StoredFileMissing):
        open_derived(settings.data_dir, job_id, DerivedKind.TEXTS)


@pytest.mark.parametrize(
    "content", [b"", b"{\n", b"\0" * 5000, b'{\n"derived_from": 3,\n}', b'{\n"derived_from": {}\n}']
)
def test_a_damaged_derived_file_counts_as_missing(settings: Settings, content: bytes) -> None:
    job_id = finished_job(settings)
    derive(files.document_of(settings.data_dir, job_id), files.folder_of(settings.data_dir, job_id))
    (files.folder_of(settings.data_dir, job_id) / "tracks.json").write_bytes(content)
    assert not is_current(settings.data_dir, job_id)
    with pytest.raises(NotDerivedYet):
        open_derived(settings.data_dir, job_id, DerivedKind.TRACKS)
    open_derived(settings.data_dir, job_id, DerivedKind.TEXTS).close()


def test_a_child_derives_and_says_why_it_cannot(settings: Settings) -> None:
    job_id = finished_job(settings)
    derive_now(settings, job_id)
    assert is_current(settings.data_dir, job_id)
    with files.document_of(settings.data_dir, job_id).open("r+b") as document:
        document.truncate(5000)
    with pytest.raises(NothingDerived, match="ends in the middle of a line"):
        derive_now(settings, job_id)
    assert is_current(settings.data_dir, job_id)
    with pytest.raises(NothingDerived, match="ends in the middle of a line"):
        open_derived(settings.data_dir, job_id, DerivedKind.TEXTS)
    write_document(files.document_of(settings.data_dir, job_id), frames_of(CLIP))
    derive_now(settings, job_id)
    assert "problem.json" not in contents(files.folder_of(settings.data_dir, job_id))


def test_a_child_that_is_killed_or_cannot_write_fails_with_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = finished_job(settings)
    monkeypatch.setenv(FAULT_VARIABLE, "storage.written")
    with pytest.raises(DerivationFailed, match="was ended by SIGKILL"):
        derive_now(settings, job_id)
    monkeypatch.delenv(FAULT_VARIABLE)
    files.forget(settings.data_dir, job_id)
    files.folder_of(settings.data_dir, job_id).write_text("in the way")
    with pytest.raises(DerivationFailed, match="File exists"):
        derive_now(settings, job_id)


@pytest.mark.parametrize("size", [100, 3000])
def test_a_disk_that_fills_meanwhile_is_said_and_the_next_try_works(settings: Settings, size: int) -> None:
    job_id = finished_job(settings)
    with files_of_at_most(size), pytest.raises(DerivationFailed, match="File too large"):
        derive_now(settings, job_id)
    assert not is_current(settings.data_dir, job_id)
    derive_now(settings, job_id)
    assert is_current(settings.data_dir, job_id)
    assert not [name for name in contents(files.folder_of(settings.data_dir, job_id)) if name.startswith(".")]


def test_a_child_ends_when_it_is_told_to_stop(settings: Settings) -> None:
    job_id = finished_job(settings)
    with pytest.raises(Interrupted):
        derive_now(settings, job_id, lambda: True)
    assert not is_current(settings.data_dir, job_id)


def test_of_a_result_that_is_deleted_while_it_is_derived_from_nothing_stays(settings: Settings) -> None:
    job_id = finished_job(settings, Clip("", 20_000, CLIP.shown))
    folder = files.folder_of(settings.data_dir, job_id)
    with ThreadPoolExecutor(1) as pool:
        deriving = pool.submit(derive_now, settings, job_id)
        while not folder.exists():
            time.sleep(0.01)
        files.document_of(settings.data_dir, job_id).unlink()
        files.forget(settings.data_dir, job_id)  # as the daemon does, without knowing of this child
        with pytest.raises(StoredFileMissing, match="has been deleted"):
            deriving.result(20)
    assert not folder.exists()


def test_a_child_of_a_command_keeps_what_it_has_not_finished_while_the_daemon_looks(settings: Settings) -> None:
    job_id = finished_job(settings)
    half = files.folder_of(settings.data_dir, job_id) / ".7-abcdef012345.tmp"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    Derivations(settings, lambda: 1)._scan()
    assert half.exists()
    os.utime(half, (0, 0))
    Derivations(settings, lambda: 1)._scan()
    assert not half.exists()


def test_what_cannot_be_removed_of_a_deleted_result_holds_up_no_other(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, stuck = finished_job(settings), new_job_id()
    folder = files.folder_of(settings.data_dir, stuck)
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(OSError, match="Not a directory"):
        files.forget(settings.data_dir, stuck)
    Derivations(settings, lambda: 1).step()
    assert is_current(settings.data_dir, job_id)
    assert "cannot be removed" in caplog.text


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_results_are_derived_one_after_the_other_and_what_was_of_removed_ones_goes(settings: Settings) -> None:
    done, clock = [finished_job(settings), finished_job(settings)], Clock()
    derivations = Derivations(settings, lambda: len(done), clock)
    derivations.step()
    assert sum(is_current(settings.data_dir, job_id) for job_id in done) == 1
    derivations.step()
    assert all(is_current(settings.data_dir, job_id) for job_id in done)
    done.append(finished_job(settings))
    derivations.step()
    assert is_current(settings.data_dir, done[2])
    files.document_of(settings.data_dir, done[0]).unlink()
    files.forget(settings.data_dir, done[1])
    derivations.step()
    assert sorted(files.derived_ids(settings.data_dir)) == sorted([done[0], done[2]])  # nobody has said anything
    clock.now += 61
    derivations.step()
    assert sorted(files.derived_ids(settings.data_dir)) == sorted(done[1:])


def test_one_that_is_asked_for_comes_first(settings: Settings) -> None:
    done = sorted(finished_job(settings) for _ in range(3))
    settings.spool_dir.mkdir(parents=True)
    files.request_derivation(settings.spool_dir, done[2])
    files.request_derivation(settings.spool_dir, new_job_id())
    derivations = Derivations(settings, lambda: 3)
    derivations.step()
    assert [is_current(settings.data_dir, job_id) for job_id in done] == [False, False, True]
    assert list(settings.spool_dir.iterdir()) == []


def test_one_that_fails_holds_up_no_other_and_is_tried_again_later(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = sorted(finished_job(settings) for _ in range(2))
    folder, clock = files.folder_of(settings.data_dir, bad), Clock()
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    derivations = Derivations(settings, lambda: 2, clock)
    derivations.step()
    derivations.step()
    assert is_current(settings.data_dir, good)
    assert [record.message for record in caplog.records if "tried again in 60 s" in record.message]
    folder.unlink()
    clock.now += 50
    derivations.step()
    assert not is_current(settings.data_dir, bad)
    clock.now += 30
    derivations.step()
    assert is_current(settings.data_dir, bad)


def test_deriving_waits_while_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(home=tmp_path, min_free_bytes=2**62)
    job_id = finished_job(settings)
    derivations = Derivations(settings, lambda: 1)
    derivations.step()
    derivations.step()
    assert not is_current(settings.data_dir, job_id)
    assert [record.message[:15] for record in caplog.records] == ["Deriving waits:"]


def test_a_store_that_cannot_be_read_is_said_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> int:
        asked.append(1)
        raise StoreError("The disk fails.")

    asked: list[int] = []
    derivations = Derivations(settings, fails)
    derivations.start()
    while len(asked) < 2:
        time.sleep(0.05)
    derivations.stop()
    assert [record.message for record in caplog.records] == ["Deriving goes on after an error: The disk fails."]


def test_at_its_end_the_thread_takes_its_child_along(settings: Settings) -> None:
    finished_job(settings)
    derivations = Derivations(settings, lambda: 1)
    derivations.start()
    time.sleep(1.2)
    derivations.stop()
    assert not derivations._thread.is_alive()


def test_it_ends_at_once_in_the_middle_of_a_long_video(settings: Settings) -> None:
    job_id = finished_job(settings, Clip("", 30_000, CLIP.shown))
    derivations = Derivations(settings, lambda: 1)
    derivations.start()
    while not files.folder_of(settings.data_dir, job_id).exists():
        time.sleep(0.01)
    derivations.stop()
    assert not derivations._thread.is_alive()
    assert not is_current(settings.data_dir, job_id)


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = write_document(tmp_path / "r.json", frames_of(Clip("", frames, [], objects=cats(frames))))
        code = "import sys; from pathlib import Path; from daemon.derive.derivation import derive; import resource;"
        code += "derive(Path(sys.argv[1]), Path(sys.argv[2]));"
        code += f"print(resource.getrusage({resource.RUSAGE_SELF}).ru_maxrss)"
        done = subprocess.run(
            [sys.executable, "-c", code, path, tmp_path / "d"], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1])

    assert peak(8000) - peak(500) < 12_000  # KiB
