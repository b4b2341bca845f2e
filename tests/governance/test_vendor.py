"""What the web page has with it is what its makers publish, and says under which licence."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools import page_types

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "sidecar" / "page" / "vendor"
LIBRARIES = json.loads((VENDOR / "vendor.json").read_text())


def test_each_vendored_file_is_named_with_its_checksum_and_unchanged() -> None:
    named = {each["file"]: each["sha256"] for library in LIBRARIES for each in library["files"]}
    there = {path.name: path.read_bytes() for path in VENDOR.iterdir() if path.name != "vendor.json"}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in there.items()} == named


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library["name"]))
def test_each_vendored_library_says_its_version_and_carries_its_licence(library: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"])
    [text] = [(VENDOR / each["file"]).read_text() for each in library["files"] if each["in_package"] == "LICENSE"]
    assert f"{library['licence']} License" in text or "Permission is hereby granted, free of charge" in text
    page = (ROOT / "docs" / "dependencies.md").read_text()
    row = rf"^\| {library['name']} \| {re.escape(library['version'])} \| .+ \| {library['licence']} \|"
    assert re.search(row, page, re.MULTILINE | re.IGNORECASE)


def test_what_judges_the_page_is_pinned() -> None:
    wanted = json.loads((page_types.FOLDER / "package.json").read_text())["dependencies"]
    lock = json.loads((page_types.FOLDER / "package-lock.json").read_text())["packages"]
    assert {name: lock[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in package for name, package in lock.items() if name)


def test_types_that_were_not_checked_for_want_of_npm_are_said_and_fail_where_nothing_may_be_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DROPFRAME_NO_SKIPS", raising=False)
    assert page_types.main() == 0
    assert capsys.readouterr().out == f"{page_types.SKIPPED} npm is not installed. {page_types.HOW}\n"
    monkeypatch.setenv("DROPFRAME_NO_SKIPS", "1")
    assert page_types.main() == 1
