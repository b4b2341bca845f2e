"""What the documents say is what the code does."""

import re
import subprocess
from pathlib import Path

from daemon.containers import ENDINGS, NOT_VIDEOS, RIFF
from daemon.settings import Settings
from tools import exports_doc, formats_doc, languages_doc, settings_doc

ROOT = Path(__file__).parents[2]


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_doc.TARGET.read_text() == settings_doc.page(), "run make docs"


def test_the_page_of_formats_is_up_to_date() -> None:
    assert formats_doc.TARGET.read_text() == formats_doc.page(), "run make docs"


def test_the_page_of_exports_is_up_to_date() -> None:
    assert exports_doc.TARGET.read_text() == exports_doc.page(), "run make docs"


def test_the_page_offers_every_kind_of_video_in_its_chooser() -> None:
    page = (ROOT / "sidecar" / "page" / "index.html").read_text()
    assert f'accept="{",".join(("video/*", *ENDINGS))}"' in page


def test_the_page_knows_what_is_never_a_video_as_the_daemon_does() -> None:
    module = (ROOT / "sidecar" / "page" / "file_check.js").read_text()
    named = [(bytes.fromhex(head), name) for head, name in re.findall(r'\["([0-9a-f]+)", "([^"]+)"\]', module)]
    assert named == [(head, name) for head, name in NOT_VIDEOS if head != RIFF]  # an AVI file is one, too


def test_the_table_of_languages_is_up_to_date() -> None:
    assert languages_doc.TARGET.read_text() == languages_doc.page(), "run make docs"


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named - targets == set()


def test_no_run_time_state_is_in_git() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.splitlines() if listed.returncode == 0 else []
    state = re.compile(r"^(data/|inbox/(?!\.gitkeep)|outbox/(?!\.gitkeep))|\.(mp4|journal)$|jobs\.json$")
    assert [file for file in files if state.search(file)] == []
