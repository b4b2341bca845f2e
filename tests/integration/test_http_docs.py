from __future__ import annotations

import ast
from pathlib import Path

from starlette.routing import Route

from daemon.settings import Settings
from sidecar.app import make_app
from sidecar.problems import KINDS, USUAL_KINDS
from tests import endpoints_doc


def test_the_page_of_the_calls_is_what_the_application_does() -> None:
    written = endpoints_doc.PAGE.read_text()
    assert written == endpoints_doc.page(), "write it anew with: python -m tests.endpoints_doc"


def test_every_route_is_on_the_page(tmp_path: Path) -> None:
    written = endpoints_doc.PAGE.read_text()
    for route in make_app(Settings(home=tmp_path)).routes:
        assert isinstance(route, Route)
        path = route.path.replace(":path", "")
        if path.startswith(("/page/", "/video/")):
            continue
        for method in (route.methods or set()) - {"HEAD"}:
            assert f"### {method} {path}\n" in written


def raised(path: Path) -> set[tuple[str, int]]:
    """Kinds and statuses of the problems that a file makes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        values = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
        if node.func.id == "busy":
            found.add((str(values[1]), 503))
        elif node.func.id == "Problem" and isinstance(values[0], int):
            found.add((str(values[2]) if len(values) > 2 else USUAL_KINDS[values[0]], values[0]))
    return found


def test_every_problem_that_is_raised_is_on_the_page_and_no_other() -> None:
    files = (Path(endpoints_doc.__file__).parents[1] / "sidecar").glob("*.py")
    made = set().union(*map(raised, files)) - {("kind", 503), ("None", 503)}
    # What Starlette itself answers with has its kind by its status.
    starlettes = {("not-found", 404), ("method-not-allowed", 405)}
    assert made | starlettes == {(kind, status) for kind, (status, _) in KINDS.items()}
