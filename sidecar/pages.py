"""PageFiles: the web page's files, which load nothing from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Receive, Scope, Send

from sidecar.files import REVALIDATE

PAGE_DIR = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    **REVALIDATE,
}
PAGES = {"/": "index.html", "/docs": "docs.html"}


class PageFiles(StaticFiles):
    """Starlette's static files, with our headers, at ``/``, ``/docs`` and ``/page/{name}``."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE_DIR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a file; always whole, as Starlette answers a malformed range in plain text."""
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__(scope, receive, send)

    def get_path(self, scope: Scope) -> str:
        """Return the file's name."""
        return PAGES.get(scope["path"]) or str(scope["path_params"].get("name", ""))

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or a 304."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(PAGE_HEADERS)
        response.headers["accept-ranges"] = "none"
        return response
