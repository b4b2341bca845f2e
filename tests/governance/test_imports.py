"""Imports run one way, and each outside library has one file that knows it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("daemon", "sidecar") for path in (ROOT / package).rglob("*.py"))

HOMES = {
    "watchdog": {"daemon/ingest/watcher.py"},
    "tinydb": {"daemon/store/job_store.py", "daemon/store/tinydb_table.py"},
    "av": {"daemon/pipeline/video.py"},
    "openvino": {"daemon/pipeline/inference.py"},
    "ultralytics": {"daemon/pipeline/detect.py", "daemon/pipeline/models.py"},
    "torch": {"daemon/pipeline/detect.py"},
    "rapidocr": {"daemon/pipeline/read.py", "daemon/pipeline/regions.py"},
    "pytesseract": {"daemon/pipeline/read.py"},
}
SIDECAR_MAY_IMPORT = {
    "daemon",
    "daemon.errors",
    "daemon.filesystem",
    "daemon.ipc.health",
    "daemon.store.job_reader",
    "daemon.jobs",
    "daemon.store.journal",
    "daemon.store.migrations",
    "daemon.mp4",
    "daemon.ipc.systemd",
    "daemon.pipeline.pipelines",
    "daemon.settings",
    "daemon.ipc.spool",
    "daemon.fs.storage",
    "daemon.tokens",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, *, at_start_only: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports; not those for the type checker alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = tree.body if at_start_only else ast.walk(tree)
    for node in nodes:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                below = ROOT.joinpath(*module.split("."), f"{alias.name}.py")
                yield f"{module}.{alias.name}" if below.is_file() else module


@pytest.mark.parametrize("library", sorted(HOMES))
def test_an_outside_library_is_known_in_one_place(library: str) -> None:
    knowing = {
        str(path.relative_to(ROOT)) for path in FILES if library in {module.split(".")[0] for module in imported(path)}
    }
    assert knowing == HOMES[library]


def test_the_daemon_never_imports_the_sidecar() -> None:
    assert [
        p for p in FILES if p.is_relative_to(ROOT / "daemon") for m in imported(p) if m.split(".")[0] == "sidecar"
    ] == []


def test_the_sidecar_imports_only_what_reads() -> None:
    used = {m for p in FILES if p.is_relative_to(ROOT / "sidecar") for m in imported(p) if m.split(".")[0] == "daemon"}
    assert used - SIDECAR_MAY_IMPORT == set()


def test_what_the_sidecar_imports_loads_no_model() -> None:
    seen: set[str] = set()
    todo = ["daemon.pipeline.pipelines", "daemon.ipc.spool", "daemon.store.job_reader"]
    while todo:
        module = todo.pop()
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        todo += imported(path, at_start_only=True)
    assert seen.isdisjoint({"torch", "daemon.pipeline.detect", "daemon.pipeline.read", "daemon.store.job_store"})


def test_imports_make_no_loop() -> None:
    graph = {
        name_of(p): {m for m in imported(p, at_start_only=True) if m.split(".")[0] in ("daemon", "sidecar")}
        for p in FILES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module in done or module not in graph:
            return
        for needed in graph[module] - {module}:
            visit(needed, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_stages_never_call_each_other() -> None:
    stages = ("video", "detect", "read", "results")
    for stage in stages:
        used = set(imported(ROOT / "daemon" / "pipeline" / f"{stage}.py"))
        assert used.isdisjoint({f"daemon.pipeline.{other}" for other in stages if other != stage}), stage
