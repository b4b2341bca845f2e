"""The search index: what is found and in which order, and that nothing done to its files is noticed for long."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.derive import files
from daemon.derive.client import Derivations
from daemon.derive.derivation import derive
from daemon.jobs import Job, JobStatus, new_job_id, output_key
from daemon.search.folding import BadQuery, fold, words_of
from daemon.search.index import SearchIndex
from daemon.search.reader import CHECK, FILE, FoundKind, TookTooLong, search
from daemon.search.updater import SearchUpdater
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from tests.derived_documents import Clip, Shown, frame, frames_of, write_document

ROOT = Path(__file__).parents[3]


class Home:
    """A home with completed jobs, whose index is kept by hand."""

    def __init__(self, path: Path, store: JobStore) -> None:
        self.data = path / "data"
        self.store = store
        self.settings = Settings(home=path, min_free_bytes=0)
        self.settings.spool_dir.mkdir()
        self.now = 0.0
        self.updater = self.new_updater()

    def new_updater(self) -> SearchUpdater:
        completed = lambda: self.store.counts()[JobStatus.COMPLETED]  # noqa: E731
        return SearchUpdater(self.settings, self.store.find, completed, clock=lambda: self.now)

    def add(self, *texts: str, name: str = "match.mp4", derived: bool = True) -> str:
        [job] = self.store.create([Job(new_job_id(), source_name=name)])
        self.store.move(job.job_id, JobStatus.RUNNING)
        self.store.move(job.job_id, JobStatus.COMPLETED, output_path=output_key(job.job_id))
        lines = [Shown(text, 50 * n, 50 * n + 40) for n, text in enumerate(texts)]
        clip = Clip("", 50 * len(texts) or 1, lines, noise=0.0, missed=0.0)
        write_document(self.data / output_key(job.job_id), frames_of(clip))
        if derived:
            self.derive(job.job_id)
        return job.job_id

    def derive(self, job_id: str) -> None:
        derive(files.document_of(self.data, job_id), files.folder_of(self.data, job_id))

    def found(self, query: str, kind: FoundKind | None = None) -> list[str]:
        return [hit.text for hit in search(self.data, query, 50, kind=kind).hits]

    @property
    def complete(self) -> bool:
        return search(self.data, "x", 1).complete


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with JobStore.open(tmp_path / "data") as store:
        home = Home(tmp_path, store)
        yield home
        home.updater.close()


def test_a_text_with_every_word_is_found_the_newest_video_first_and_by_time(home: Home) -> None:
    first = home.add("GATE B12 OPEN", "GATE B13", "Gate b12 closed")
    second = home.add("12 B gate", "Gateway B12")
    home.updater.step()
    hits = search(home.data, "gate b12", 50).hits
    assert [(hit.job_id, hit.text) for hit in hits] == [
        (second, "Gateway B12"),
        (first, "GATE B12 OPEN"),
        (first, "Gate b12 closed"),
    ]
    assert (hits[1].start_s, hits[1].end_s, hits[1].frame_index) == (0.0, 1.64, 0)
    assert (hits[1].kind, hits[1].count) == (FoundKind.TEXT, 41)
    assert home.found('"gate b12"') == ["GATE B12 OPEN", "Gate b12 closed"]
    assert home.complete


def test_pages_follow_each_other_without_a_gap_although_jobs_come_and_go(home: Home) -> None:
    ids = [home.add(f"GOAL {n} A", f"GOAL {n} B") for n in range(3)]
    home.updater.step()
    seen, before = [], None
    while True:
        page = search(home.data, "goal", 2, **({} if before is None else {"before": before}))
        seen += [hit.text for hit in page.hits]
        before = page.hits[-1].place
        if not page.more:
            break
        if len(seen) == 2:
            home.add("GOAL NEW")
            files.document_of(home.data, ids[2]).unlink()
            home.now += 100
            home.updater.step()
    assert seen == ["GOAL 2 A", "GOAL 2 B", "GOAL 1 A", "GOAL 1 B", "GOAL 0 A", "GOAL 0 B"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("ÉCOLE Ωmega", "ecole ωMEGA"),
        ("\uff26\uff35\uff2c\uff2c width", "full"),
        ("東京駅 出口", "東京"),
        ("東京駅 出口", "駅"),
        ("Straße", "STRASSE"),
        ("\u202eGATE\u202c A\u200bB", "gate ab"),
        ("100 % \"quoted\" 'x' -- OR 1=1", "OR 1=1 quoted %"),
        ("a_b*c", "_b*c"),
        ("x" * 10_000, "x" * 200),
        ("half \ud800 sign", "half sign"),
    ],
)
def test_case_accents_width_and_signs_that_cannot_be_seen_do_not_count(home: Home, text: str, query: str) -> None:
    job_id = home.add("unlike")
    document = files.document_of(home.data, job_id)
    found = {"bbox": [1, 2, 300, 40], "confidence": 0.9, "text": text}
    write_document(document, (frame(n, n / 25, [found], []) for n in range(10)))
    home.derive(job_id)
    home.updater.step()
    assert len(home.found(query)) == 1
    assert home.found("nowhere") == []


@pytest.mark.parametrize(
    "query", ["", "   ", "\0", "\u202e\u200b", '""', "x" * 201, "a" * 10_000, " ".join("abcdefghijklmnopqrstu")]
)
def test_what_cannot_be_searched_for_gets_one_sentence(home: Home, query: str) -> None:
    with pytest.raises(BadQuery, match=r"^[A-Z][^\n]*\.$"):
        search(home.data, query, 50)


@pytest.mark.parametrize(
    "query",
    [
        '"',
        'a"b',
        "NEAR(a b)",
        "a AND",
        "NOT",
        "col:x",
        "^a",
        "a*",
        "-a",
        "(",
        "'; DROP TABLE jobs --",
        "\ud800a",
        "a\0b",
    ],
)
def test_no_query_is_taken_for_an_operator(home: Home, query: str) -> None:
    home.add("GATE")
    home.updater.step()
    try:
        assert home.found(query) in ([], ["GATE"])
    except BadQuery:
        assert query == '"'
    assert home.found("gate") == ["GATE"]
    assert not (home.settings.spool_dir / CHECK).exists()


def test_objects_are_found_by_their_class_once_a_video(home: Home) -> None:
    job_id = home.add("CAT FOOD")
    path = files.folder_of(home.data, job_id) / "tracks.json"
    tracks = [
        {"track_id": 1, "class": "cat", "start_s": 0.0, "end_s": 2.0, "first_frame": 0, "last_frame": 49, "boxes": 50}
        | {"confidence": 0.5, "best_frame": 3, "best_bbox": [1.0, 2.0, 3.0, 4.0]},
        {"track_id": 2, "class": "cat", "start_s": 3.0, "end_s": 4.0, "first_frame": 75, "last_frame": 99, "boxes": 25}
        | {"confidence": 0.9, "best_frame": 99, "best_bbox": [5.0, 10.0, 55.0, 60.0]},
    ]
    lines = ",\n".join(map(json.dumps, tracks))
    path.write_text(path.read_text().replace('"tracks": [', f'"tracks": [\n{lines}'))
    home.updater.step()
    [hit] = search(home.data, "cat", 50, kind=FoundKind.OBJECT).hits
    assert (hit.text, hit.start_s, hit.end_s, hit.frame_index, hit.count) == ("cat", 0.0, 4.0, 99, 2)
    assert home.found("cat") == ["cat", "CAT FOOD"]
    assert home.found("cat", FoundKind.TEXT) == ["CAT FOOD"]


def test_a_result_that_is_made_anew_takes_the_place_of_the_old_one(home: Home) -> None:
    job_id = home.add("OLD TEXT")
    other = home.add("OTHER TEXT")
    home.updater.step()
    clip = Clip("", 60, [Shown("NEW TEXT", 0, 59)], noise=0.0, missed=0.0)
    write_document(files.document_of(home.data, job_id), frames_of(clip))
    home.derive(job_id)
    home.updater.note(job_id)
    home.updater.step()
    assert home.found("text") == ["OTHER TEXT", "NEW TEXT"]
    assert home.found("ol") == []  # nor by its short parts
    files.document_of(home.data, other).unlink()
    home.updater.note(other)
    home.updater.step()
    assert home.found("text") == ["NEW TEXT"]
    with sqlite3.connect(home.data / FILE) as connection:
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        assert connection.execute("SELECT count(DISTINCT sequence) FROM parts").fetchone() == (1,)
    connection.close()


def test_it_is_complete_only_when_every_result_is_in_it(home: Home) -> None:
    home.add("FIRST")
    home.updater.step()
    assert home.complete
    job_id = home.add("SECOND", derived=False)
    home.updater.step()
    assert not home.complete
    assert home.found("first") == ["FIRST"]
    derivations = Derivations(home.settings, lambda: 2, derived=home.updater.note)
    while not files.is_current(home.data, job_id):
        derivations.step()
    home.updater.step()
    assert home.complete
    assert home.found("second") == ["SECOND"]
    damaged = home.add("THIRD", derived=False)
    document = files.document_of(home.data, damaged)
    document.write_bytes(document.read_bytes()[:500])
    files.write_problem(files.folder_of(home.data, damaged), 500, "The result document ends early.")
    home.updater.step()
    assert home.complete  # nothing can be derived from it


def damage_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def damage_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def make_older(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 0")
    connection.close()


def drop_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE words")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a database" * 1000),
        damage_head,
        damage_middle,
        cut,
        make_older,
        drop_table,
    ],
)
def test_an_index_that_is_damaged_missing_or_older_is_made_again(home: Home, damage: Callable[[Path], None]) -> None:
    home.add("GATE B12", "GATE B13")
    home.updater.step()
    home.updater.close()
    damage(home.data / FILE)
    page = search(home.data, "gate", 50)  # an answer, whatever is left
    assert page.complete is (damage in (damage_middle, cut) and bool(page.hits))
    home.updater = home.new_updater()
    home.updater.step()
    assert home.found("gate") == ["GATE B12", "GATE B13"]
    assert home.complete


def test_what_a_reader_finds_damaged_while_the_daemon_runs_is_made_again(home: Home) -> None:
    for n in range(25):
        home.add(*(f"GATE {n} {m}" for m in range(2)))
    home.updater.step()
    connection = sqlite3.connect(home.data / FILE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    damage_middle(home.data / FILE)
    page = search(home.data, "gate", 50)
    assert (page.hits, page.complete) == ([], False)
    assert (home.settings.spool_dir / CHECK).exists()
    home.updater.step()
    assert len(home.found("gate")) == 50
    assert home.complete
    assert not (home.settings.spool_dir / CHECK).exists()


def test_an_index_that_is_removed_while_the_daemon_runs_is_made_again(home: Home) -> None:
    home.add("GATE B12")
    home.updater.step()
    for path in (home.data / FILE).parent.iterdir():
        path.unlink()
    assert search(home.data, "gate", 50).complete is False
    home.updater.step()
    assert home.found("gate") == ["GATE B12"]


def test_a_reader_needs_no_right_to_write_whether_the_daemon_runs_was_stopped_or_was_killed(home: Home) -> None:
    if os.geteuid() == 0:
        reader = [sys.executable, "-c", AS_NOBODY, str(home.data)]
    else:
        reader = [sys.executable, "-c", READ_ONLY, str(home.data)]
    home.add("GATE B12")
    home.updater.step()
    for folder in [home.data, *home.data.parents]:
        if folder.owner() == "root" and folder.name.startswith(("pytest", "popen", "test_", "data")):
            folder.chmod(0o755)
    (home.data / FILE).parent.chmod(0o555)
    try:
        assert subprocess.run(reader, cwd=ROOT, capture_output=True, text=True).stdout == "['GATE B12'] True\n"
        for name in ("-wal", "-shm"):  # as a killed daemon leaves them
            kept = (home.data / f"{FILE}{name}").read_bytes()
            (home.data / "index").chmod(0o755)
            (home.data / f"copy{name}").write_bytes(kept)
        home.updater.close()
        names = [path.name for path in (home.data / "index").iterdir()]
        assert names == ["search.db"]
        assert subprocess.run(reader, cwd=ROOT, capture_output=True, text=True).stdout == "['GATE B12'] True\n"
        assert [path.name for path in (home.data / "index").iterdir()] == names
    finally:
        (home.data / FILE).parent.chmod(0o755)


READ_ONLY = """
import sys
from pathlib import Path
from daemon.search.reader import search
page = search(Path(sys.argv[1]), "gate", 50)
print([hit.text for hit in page.hits], page.complete)
"""
AS_NOBODY = f"import os\nfrom daemon.search.reader import search\nos.setgid(65534); os.setuid(65534)\n{READ_ONLY}"


def test_readers_see_the_index_before_while_a_job_is_taken_in_and_hold_up_nobody(home: Home) -> None:
    home.add("GATE OLD")
    home.updater.step()
    index = SearchIndex(home.data)
    reader = sqlite3.connect(f"file:{home.data / FILE}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)
    inside: list[list[str]] = []

    def spans() -> Iterator[object]:
        for n in range(3):
            yield FoundKind.TEXT, f"GATE NEW {n}", 0.0, 1.0, 0, [0.0] * 4, 0.9, 1
        inside.append(home.found("gate"))

    begun = time.monotonic()
    index.put(99, new_job_id(), "", spans())  # type: ignore[arg-type]
    assert time.monotonic() - begun < 2  # it would wait 5 s for a reader
    assert inside == [["GATE OLD"]]
    assert len(home.found("gate")) == 4
    assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)
    reader.close()
    index.close()


def test_a_search_that_takes_too_long_is_given_up(home: Home) -> None:
    index = SearchIndex(home.data)
    span = FoundKind.TEXT, "ab", 0.0, 1.0, 0, [0.0] * 4, 0.9, 1
    index.put(1, new_job_id(), "", [span] * 20_000)
    with pytest.raises(TookTooLong):
        search(home.data, "a b bq", 50, seconds=0.0)
    index.close()


def test_stopping_ends_what_is_being_taken_in(home: Home) -> None:
    home.add(*(f"GATE {n}" for n in range(20)))
    home.updater.start()
    deadline = time.monotonic() + 30
    while not home.found("gate"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun = time.monotonic()
    home.updater.stop()
    assert time.monotonic() - begun < 2
    assert [path.name for path in (home.data / "index").iterdir()] == ["search.db"]


@pytest.mark.slow
def test_it_is_killed_at_any_moment_without_harm(home: Home) -> None:
    ids = [home.add(*(f"GATE {n} {m}" for m in range(3))) for n in range(8)]
    code = (
        "import sys\nfrom pathlib import Path\nfrom daemon.store.job_reader import JobReader\n"
        "from daemon.search.updater import SearchUpdater\n"
        "from daemon.settings import Settings\nhome = Path(sys.argv[1])\n"
        "reader = JobReader(home / 'data')\nreader.refresh()\n"
        "updater = SearchUpdater(Settings(home=home, min_free_bytes=0), reader.find, lambda: 1)\n"
        "print('begun', flush=True)\nupdater.step()\nprint('done', flush=True)\n"
    )
    done = False
    delay = 0.0
    seen = 0
    while not done:
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(home.data.parent)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        done = child.communicate()[0] == "done\n"
        delay = 1.4 * delay + 0.004
        texts = home.found("gate")
        assert len(texts) % 3 == 0, "part of a job"
        assert len(texts) >= seen, "a job that was in it is lost"
        seen = len(texts)
        assert home.complete <= (seen == 24)
    home.updater.step()
    assert len(set(home.found("gate"))) == len(ids) * 3
    assert home.complete


def test_a_full_disk_is_waited_for(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.add("GATE")
    settings = home.settings.model_copy(update={"min_free_bytes": 1 << 60})
    updater = SearchUpdater(settings, home.store.find, lambda: 1)
    thread = threading.Thread(target=updater._loop)
    thread.start()
    deadline = time.monotonic() + 10
    while "min_free_bytes" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    updater._stopping.set()
    thread.join()
    assert (home.found("gate"), home.complete) == ([], False)
    home.updater.step()
    assert home.found("gate") == ["GATE"]


def test_folding() -> None:
    assert fold("  Ça\tva\x00 ") == "ca va"
    assert words_of('gate "B 12" gate') == ("gate", "b 12")
    assert fold("が") == "が"  # a part of the letter, not an accent
    assert fold("हिन्दी") == "हिन्दी"
