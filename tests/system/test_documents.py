"""The commands in the documents are run as they stand there, in a scratch checkout against a real Dropframe.

A block that cannot be run here has a line above it that says why; NOT_RUN counts them, so none is skipped unseen.
test_rollback.py runs docs/rollback.md.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from tests.clips import make_clip
from tests.system.documents import Block, Session, blocks, pages, session
from tests.system.running import ROOT

NOT_RUN: dict[str, dict[str, int]] = {
    "docs/operations.md": {
        "it needs Windows": 1,
        "it needs a GPU": 1,
        "it needs a container engine": 1,
        "it needs root": 7,
        "it needs the internet": 2,
    },
    "docs/object-storage.md": {"it needs the internet": 1},
    "docs/programs.md": {"it needs the internet": 1},
    "docs/scale-out.md": {"it needs several machines": 1},
    "docs/rollback.md": {"it needs an older release": 1, "it needs root": 2},
}
"""How many blocks of each page are not run, by the reason that stands above them."""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Session]:
    with session(tmp_path) as opened:
        yield opened


def of(page: str) -> list[Block]:
    return [block for block in blocks(ROOT / page) if block.not_run is None]


def test_blocks_that_are_not_run_are_counted() -> None:
    counted: dict[str, Counter[str]] = {}
    for page in pages():
        for block in blocks(page):
            if block.not_run is not None:
                counted.setdefault(block.page, Counter())[block.not_run] += 1
    assert counted == NOT_RUN


def test_commands_stand_in_blocks_of_one_kind() -> None:
    others = [str(b) for page in pages() for b in blocks(page, ("bash", "console", "shell", "zsh", "shell-session"))]
    assert others == [], "write them as sh"


def test_every_page_with_commands_has_a_test_that_runs_them() -> None:
    with_commands = {str(page.relative_to(ROOT)) for page in pages() if of(str(page.relative_to(ROOT)))}
    here = {"README.md", "docs/migration.md", "docs/operations.md", "docs/rollback.md"}
    assert with_commands == here | {"docs/use-the-results.md"}  # by integration/test_exports.py and formats/reading.py


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name})" not in text] == []


def test_every_extra_of_the_package_is_explained() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    section = (ROOT / "docs" / "operations.md").read_text().partition("### pipx and pip")[2].partition("\n#")[0]
    for name in set(extras) - {"dev"}:
        (row,) = re.findall(rf"^\| `{name}` \| `([^`]+)` \|", section, re.MULTILINE)
        assert any(re.match(rf"{re.escape(row)}\b", line) for line in extras[name]), name


def test_the_readme_fits_on_a_screen_and_names_the_pythons_of_the_package() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 80
    oldest, after = re.findall(
        r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    for page in ("README.md", "CONTRIBUTING.md", "deploy/README.md", "deploy/install.sh"):
        assert f"Python 3.{oldest} to 3.{int(after) - 1}" in (ROOT / page).read_text(), page


@pytest.mark.slow
@pytest.mark.needs("curl")
def test_the_readme_does_what_it_says(terminal: Session) -> None:
    said = {block.line: terminal.run(block) for block in of("README.md")}
    together = "\n".join(said.values())
    assert "DROPFRAME DEMO" in together
    assert len(re.findall(r"completed +10/10 +street\.mp4", together)) == 2
    assert '"results": [\n{"frame_index": 0' in together
    document = json.loads((terminal.home / "outbox" / "street.mp4.json").read_text())
    assert document["summary"]["texts"] == ["HOME 2 - 1 AWAY"]
    jobs = terminal.jobs()
    assert [job.source for job in jobs] == ["inbox", "inbox", "cli", "http"]
    assert [job.source_name for job in jobs] == ["dropframe-demo.mp4", *["street.mp4"] * 3]
    uploaded = jobs[-1]
    assert uploaded.options.frame_stride == 5
    assert f'"job_id":"{uploaded.job_id}"' in together
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert f"Watch it with what was found drawn over it: http://127.0.0.1:{terminal.port}/" in together
    assert f"The web page is on http://127.0.0.1:{terminal.port}" in terminal.log()


@pytest.mark.slow
def test_the_migration_page_brings_an_old_table_over(terminal: Session) -> None:
    old = terminal.home / "old"
    shutil.copytree(ROOT / "tests" / "samples", old)
    (old / "job_table.csv").rename(old / "jobs.csv")
    make_clip(old / "videos" / "street.mp4", frames=6, text="GOAL 42")
    looked, imported, again, _, listed = [terminal.run(block) for block in of("docs/migration.md")]
    assert "2 would be imported as history, 2 would be queued, 0 known already, 0 refused." in looked
    assert "2 imported as history, 2 queued, 0 known already, 0 refused." in imported
    assert "0 imported as history, 0 queued, 4 known already, 0 refused." in again
    assert re.search(r"7d1f3b52 +completed +2/2 +match\.mp4", listed)
    jobs = {job.job_id[:8]: job for job in terminal.jobs()}
    assert {start: job.status for start, job in jobs.items()} == {
        "7d1f3b52": "completed",
        "0e8f4c1a": "failed",
        "c4b1de0f": "completed",
        "5a9d2c77": "completed",
    }
    answer = terminal.get(f"/v1/video/results/{jobs['7d1f3b52'].job_id}")
    assert answer["results"][0]["result"]["text"] == "HOME 2 - 1 AWAY"
    assert terminal.get(f"/v1/video/results/{jobs['c4b1de0f'].job_id}")["results"][0]["result"]["text"] == "GOAL 42"
    with pytest.raises(AssertionError, match="in use by process"):
        terminal.run(of("docs/migration.md")[1])


@pytest.mark.slow
@pytest.mark.needs("curl")
def test_the_operations_page_backs_up_and_restores_every_job(terminal: Session) -> None:
    for block in of("docs/operations.md"):
        if "mv data data-before" in block.commands:
            before = terminal.jobs()
            terminal.call("dropframe submit street.mp4 --wait")  # since the backup
            assert len(terminal.jobs()) == 2
        terminal.run(block)
    assert [job.status for job in before] == [JobStatus.COMPLETED]
    assert terminal.jobs() == before
    video = terminal.data / before[0].input_path
    assert video.read_bytes() == (terminal.home / "street.mp4").read_bytes()
    assert terminal.get(f"/v1/video/results/{before[0].job_id}")["summary"]["frame_count"] == 10


def test_the_operations_page_says_what_to_do_about_every_alert() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "dropframe-alerts.yml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [alert for alert in alerts if not re.search(rf"^\| .*\b{alert}\b.* \|", page, re.MULTILINE)] == []
    assert set(re.findall(r"\bDropframe[A-Z]\w+", page)) == set(alerts)


def test_the_exam_has_20_questions_with_20_answers_and_files_that_exist() -> None:
    text = (ROOT / "docs" / "contributor-exam.md").read_text()
    questions, answers = text.split("## Answers")
    assert [int(n) for n in re.findall(r"^(\d+)\. ", questions, re.MULTILINE)] == list(range(1, 21))
    parts = re.split(r"^(\d+)\. ", answers, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, 21))
    for number, answer in zip(parts[::2], parts[1::2], strict=True):
        named = [name for name in re.findall(r"`([\w./-]+\.\w+)`", answer) if name != "jobs.json"]
        assert named, f"answer {number} names no file"
        assert [name for name in named if not (ROOT / name).is_file()] == [], f"answer {number}"
