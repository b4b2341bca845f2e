from __future__ import annotations

from pathlib import Path

from starlette.routing import Route

from daemon.settings import Settings
from sidecar.app import make_app
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
