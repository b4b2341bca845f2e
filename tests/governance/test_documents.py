"""What the documents say is what the code does."""

import re
import subprocess
from pathlib import Path

from daemon.settings import Settings
from tools import settings_doc

ROOT = Path(__file__).parents[2]


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_doc.TARGET.read_text() == settings_doc.page(), "run make docs"


def test_links_between_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_no_run_time_state_is_in_git() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.splitlines() if listed.returncode == 0 else []
    state = re.compile(r"^(data/|inbox/(?!\.gitkeep)|outbox/(?!\.gitkeep))|\.(mp4|journal)$|jobs\.json$")
    assert [file for file in files if state.search(file)] == []
