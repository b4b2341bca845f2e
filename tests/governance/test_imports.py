"""Imports run one way, and each outside library has one file that knows it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("daemon", "sidecar") for path in (ROOT / package).rglob("*.py"))

HOMES = {
    "watchdog": {"daemon/ingest/watcher.py"},
    "tinydb": {"daemon/store/job_store.py", "daemon/store/tinydb_table.py"},
    "av": {
        "daemon/pipeline/demo_clip.py",
        "daemon/pipeline/video.py",
        "daemon/pipeline/video_fields.py",
        "daemon/pipeline/video_ranges.py",
        "daemon/pipeline/video_redraw.py",
        "daemon/pipeline/video_still.py",
    },
    "openvino": {"daemon/pipeline/inference.py"},
    "nncf": {"daemon/pipeline/quantize.py"},
    "lap": {"daemon/derive/bytetrack.py"},
    "ultralytics": {"daemon/pipeline/models.py", "daemon/pipeline/yolo.py"},
    "torch": {
        "daemon/pipeline/detectors.py",
        "daemon/pipeline/gpu.py",
        "daemon/pipeline/onnx_model.py",
        "daemon/pipeline/yolo.py",
    },
    "onnxruntime": {"daemon/pipeline/onnx_model.py"},
    "rapidocr": {"daemon/pipeline/engines.py", "daemon/pipeline/regions.py"},
    "duckdb": {"daemon/export/parquet.py"},
    "pytesseract": {"daemon/pipeline/engines.py"},
    "rapidfuzz": {"daemon/derive/text_keys.py"},
    "mcp": {"daemon/cli/agent.py"},
    "mcp_types": {"daemon/cli/agent.py"},
    "ray": {"daemon/cluster/ray_cluster.py"},
    "obstore": {"daemon/objects/bucket.py"},
    "sqlite3": {"daemon/search/index.py", "daemon/search/reader.py"},
}
FLOORS = (
    {"", "errors", "failpoints", "jobs", "logs", "mp4", "mp4_index", "public_job", "queue", "s3_address", "settings"}
    | {
        "container_checks",
        "containers",
        "executor_settings",
        "export_formats",
        "languages",
        "setting_groups",
        "threads",
        "tokens",
    }
    | {"boxes", "unknown_names", "webhook_settings"},
    {"fs"},
    {"ipc"},
    {"store"},
    {"pipeline"},
    {"derive"},
    {"search", "stills", "export", "webhooks"},
    {"ingest", "worker"},
    {"objects"},
    {"cluster"},
    {"deletion", "follow_ups", "preflight", "rejections", "retention", "status"},
    {"service"},
    {"cli"},
    {"__main__"},
)
"""The rooms of daemon/, lowest first. A room imports from floors below it, and never from another on its own floor."""
SIDECAR_MAY_ENTER = FLOORS[0] | FLOORS[1] | FLOORS[2] | FLOORS[3] | {"pipeline", "derive", "search", "stills", "export"}


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


def room_of(module: str) -> str:
    return module.removeprefix("daemon").removeprefix(".").split(".")[0]


def test_each_room_imports_only_from_the_floors_below() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in FILES
        if path.is_relative_to(ROOT / "daemon")
        for module in imported(path)
        if module.split(".")[0] == "daemon" and (here := room_of(name_of(path))) != (there := room_of(module))
        if floor[there] > floor[here] or floor[there] == floor[here] > 0  # the words may know each other
    ]
    assert wrong == []


def test_the_sidecar_enters_only_rooms_that_read() -> None:
    used = {m for p in FILES if p.is_relative_to(ROOT / "sidecar") for m in imported(p) if m.split(".")[0] == "daemon"}
    assert {room_of(module) for module in used} <= SIDECAR_MAY_ENTER
    assert {m for m in used if room_of(m) == "pipeline"} <= {"daemon.pipeline.pipelines"}
    assert {m for m in used if room_of(m) == "derive"} <= {"daemon.derive.document", "daemon.derive.files"}
    assert {m for m in used if room_of(m) == "stills"} <= {"daemon.stills.files"}
    assert {m for m in used if room_of(m) == "search"} <= {"daemon.search.folding", "daemon.search.reader"}
    assert {m for m in used if room_of(m) == "export"} <= {"daemon.export.files"}
    assert "daemon.store.job_store" not in used


@pytest.mark.parametrize("program", ["sidecar.app", "daemon.service", "daemon.cli.main"])
def test_what_runs_no_model_loads_none(program: str) -> None:
    code = f"import {program}, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert program in loaded
    heavy = {
        "torch",
        "openvino",
        "ultralytics",
        "rapidocr",
        "onnxruntime",
        "cv2",
        "av",
        "numpy",
        "rapidfuzz",
        "duckdb",
        *({"tinydb"} if program == "sidecar.app" else ()),
    }
    assert loaded & heavy == set()


def test_imports_make_no_loop() -> None:
    graph = {name_of(p): {m for m in imported(p) if m.split(".")[0] in ("daemon", "sidecar")} for p in FILES}
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
    parts = {stage: {stage} for stage in stages} | {"read": {"read", "regions", "engines", "changes"}}
    for stage in stages:
        used = {m for part in parts[stage] for m in imported(ROOT / "daemon" / "pipeline" / f"{part}.py")}
        assert used.isdisjoint({f"daemon.pipeline.{other}" for other in stages if other != stage}), stage
