"""The words that must not appear, and the scanner that finds them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.governance import scan

TERMS = scan.rules()["forbidden"]


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.governance.scan", str(root)]
    return subprocess.run(command, capture_output=True, text=True, cwd=scan.ROOT)


@pytest.mark.parametrize("term", TERMS)
def test_a_forbidden_word_appears_nowhere(term: str) -> None:
    assert [hit for hit in scan.scan() if hit[2] == term] == []


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("line", ["{}", "x = '{}'", "# {}", "class My{}Thing: pass", "def {}s(): pass"])
@pytest.mark.parametrize(
    "spelling", [str, str.upper, str.title, lambda t: t.replace("_", "-"), lambda t: t.replace("_", "")]
)
def test_a_planted_word_is_found_with_file_and_line(
    tmp_path: Path, term: str, line: str, spelling: Callable[[str], str]
) -> None:
    (tmp_path / "daemon" / "deep").mkdir(parents=True)
    (tmp_path / "daemon" / "deep" / "planted.py").write_text("\n" + line.format(spelling(term)) + "\n")
    assert list(scan.scan(tmp_path)) == [(Path("daemon/deep/planted.py"), 2, term)]


def test_the_scanner_exits_1_on_a_hit_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "sidecar").mkdir()
    (tmp_path / "sidecar" / "app.py").write_text("# a WebSocket\n")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "sidecar/app.py:1:web_socket\n")


def test_the_scanner_exits_0_when_clean(tmp_path: Path) -> None:
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "fine.py").write_text(" ".join(scan.rules()["allowed_examples"]))
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_rules_have_their_shape() -> None:
    rules = scan.rules()
    assert set(rules) == {"forbidden", "allowed_examples", "governed", "excepted"}
    assert all(isinstance(word, str) for words in rules.values() for word in words)
    assert rules["governed"] == ["daemon", "sidecar"]
