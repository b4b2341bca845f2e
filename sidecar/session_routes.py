"""SessionEndpoint: what the caller may do, and the pass that a page's pictures and videos are fetched with."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon.tokens import Rights
from sidecar.auth import Guard
from sidecar.files import NO_STORE
from sidecar.passes import PASS_SECONDS, cookie_name


class SessionEndpoint:
    """Tells a page whether it has to ask its user for a token, and what that token allows.

    Args:
        guard: Knows the tokens.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def __call__(self, request: Request) -> Response:
        """Send what the caller may do; a pass is never made from a pass, so that one ends."""
        body: dict[str, str | int | None] = {
            "token": None,
            "rights": Rights.SUBMIT,
            "cookie": None,
            "cookie_seconds": None,
        }
        if token := self._guard.token(dict(request.scope["headers"])):
            cookie = f"{cookie_name(token)}={self._guard.make_pass(token)}"
            body = {"token": token.name, "rights": token.rights, "cookie": cookie, "cookie_seconds": PASS_SECONDS}
        elif self._guard.needs_token:
            body |= {"token": request.scope["token_name"], "rights": Rights.READ}
        return JSONResponse(body, headers=NO_STORE)
