"""Files, classes and functions stay small enough to be read at once, and a public name means one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("daemon", "sidecar") for path in (ROOT / package).rglob("*.py"))
FILE_LINES = 350
CLASS_LINES = 250
FUNCTION_LINES = {50: 7, 90: 20, 99: 45}
"""Most lines that a function of each percentile has, head included and docstring not."""
DEFINES_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.relative_to(ROOT), node


def lines_of(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def lines_to_follow(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring, so that nobody is kept from explaining one."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    explained = docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0
    return lines_of(function) - explained


def assert_none_above(limit: int, sizes: dict[str, int]) -> None:
    large = [f"{name} has {size} lines, and may have {limit}" for name, size in sizes.items() if size > limit]
    assert not large, "\n".join(large)


def test_a_file_fits_into_one_reading() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert_none_above(FILE_LINES, sizes)


def test_a_class_has_one_subject() -> None:
    sizes = {f"{path}: {node.name}": lines_of(node) for path, node in nodes() if isinstance(node, ast.ClassDef)}
    assert_none_above(CLASS_LINES, sizes)


def test_functions_are_short() -> None:
    sizes = [lines_to_follow(node) for _, node in nodes() if isinstance(node, DEFINES_FUNCTION)]
    cuts = quantiles(sizes, n=100)
    found = {percentile: cuts[percentile - 1] for percentile in FUNCTION_LINES}
    assert {percentile: lines for percentile, lines in found.items() if lines > FUNCTION_LINES[percentile]} == {}


def test_a_public_class_name_means_one_thing() -> None:
    names = Counter(
        node.name for _, node in nodes() if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
