"""The fault list in docs/reliability.md is complete, and every test that it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
FAULTS = {"A": 33, "B": 18, "C": 18, "D": 23, "E": 11, "F": 24, "G": 14, "H": 17}
"""Faults in each group."""
ROW = re.compile(r"^\| ([A-H]\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(?:tests/)?((?:unit|integration|system|cluster|governance)/[\w/]+\.py)(?:::(\w+))?`")


@cache
def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_fault_has_its_row() -> None:
    expected = [f"{group}{number}" for group, count in FAULTS.items() for number in range(1, count + 1)]
    assert [row[0] for row in ROW.findall(PAGE)] == expected


def test_every_fault_names_a_test_or_the_reason_why_there_is_none() -> None:
    empty = [name for name, _, how in ROW.findall(PAGE) if not TEST.search(how) and "Not tested: " not in how]
    assert empty == []


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        f"{file}::{test}"
        for file, test in TEST.findall(PAGE)
        if not (ROOT / "tests" / file).exists() or (test and test not in functions_of(ROOT / "tests" / file))
    ]
    assert missing == []


def test_nothing_that_looks_like_a_test_is_overlooked() -> None:
    looks_like_one = re.findall(r"`[^`\s]*\.py::[^`]*`", PAGE)
    assert [text for text in looks_like_one if not TEST.fullmatch(text)] == []
