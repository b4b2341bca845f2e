"""Guard: who may call, from which host name and from which web page."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from daemon.errors import SettingsError
from daemon.settings import Settings
from daemon.tokens import Rights, Token, find_token, parse_token
from sidecar.pages import PAGES
from sidecar.passes import find_by_pass, make_pass
from sidecar.problems import Problem

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]*\]|[^\s:/?#@,\\\[\]]*)(?::[0-9]{0,5})?")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_FOLDER = "/page/"


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Decides on a request by its method and headers alone, before anything else looks at it.

    Args:
        settings: Address, tokens, allowed hosts and origins.

    Raises:
        SettingsError: the address is public and there is no token, or a token is malformed.
    """

    def __init__(self, settings: Settings) -> None:
        self._tokens = [parse_token(line) for line in settings.tokens]
        self._pass_secret = secrets.token_bytes(32)
        loopback = is_loopback(settings.host)
        if not loopback and not self._tokens:
            raise SettingsError(
                f"Others could reach {settings.host}, so an API token is needed: make one with "
                "'dropframe token NAME --rights submit', put the line it prints into dropframe.toml, "
                "or listen on 127.0.0.1."
            )
        names = {_bracketed(settings.host), *map(_bracketed, settings.allowed_hosts)} | LOOPBACK_NAMES
        self._hosts = frozenset(name.casefold() for name in names)
        # Whoever calls a public address by another name still needs the token, which no foreign page has.
        self._any_host = not loopback and not settings.allowed_hosts
        self.origins = frozenset(origin.rstrip("/").casefold() for origin in settings.allowed_origins)

    def check(self, method: str, headers: Mapping[bytes, bytes], path: str = "/v1") -> str:
        """Let a request pass; return the name of its token, or "" where none is needed.

        Raises:
            Problem: 400 for a malformed host and for two lengths, 421 for a wrong host, 403 for a foreign page or a
                token without the right, 401 without a token.
        """
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # What comes behind such a request could be meant to be taken for another (RFC 9112, 6.1).
            raise Problem(400, "Send Content-Length or Transfer-Encoding, not both.", headers={"connection": "close"})
        self._check_host(headers.get(b"host", b""))
        self._check_origin(method, headers)
        if not self._tokens or _is_page(path):
            return ""
        token = self.token(headers)
        if token is None and method in SAFE_METHODS:
            token = find_by_pass(self._tokens, self._pass_secret, headers.get(b"cookie", b""), time.time())
        if token is None:
            raise Problem(
                401,
                "Send an API token: Authorization: Bearer TOKEN.",
                "no-token",
                {"www-authenticate": _challenge(headers)},
            )
        needed = Rights.READ if method in SAFE_METHODS else Rights.SUBMIT
        if not token.allows(needed):
            raise Problem(403, f"The token {token.name} may only read; this call needs one that may submit.", "rights")
        return token.name

    def _check_host(self, host: bytes) -> None:
        found = _HOST.fullmatch(host.decode("latin-1").casefold())
        if found is None:
            raise Problem(400, "The Host header is malformed: send a name or an address, and a port.")
        if not self._any_host and found[1] not in self._hosts:
            raise Problem(
                421,
                "Dropframe is not known under that host name; add it to the setting allowed_hosts.",
                "unknown-host",
            )

    def _check_origin(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", b"")
        foreign = False
        if origin is not None:
            foreign = _authority(origin) != headers.get(b"host", b"").decode("latin-1").casefold()
        elif site in (b"cross-site", b"same-site"):
            foreign = method not in SAFE_METHODS
        if foreign and (origin or b"").decode("latin-1").casefold() not in self.origins:
            raise foreign_origin()

    @property
    def needs_token(self) -> bool:
        """Whether callers need a token."""
        return bool(self._tokens)

    def token(self, headers: Mapping[bytes, bytes]) -> Token | None:
        """Return the token that a request itself was sent with, or None."""
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        secret = credentials.strip()
        if scheme.lower() == b"basic":  # what a browser sends after asking its user
            try:
                secret = base64.b64decode(secret, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
        elif scheme.lower() != b"bearer":
            return None
        return find_token(self._tokens, secret)

    def make_pass(self, token: Token) -> str:
        """Make a pass of a token, from now on."""
        return make_pass(token, self._pass_secret, time.time())


def _is_page(path: str) -> bool:
    """Tell whether a file of the page is asked for: it asks its user for a token, and says nothing that needs one."""
    return path in PAGES or path.startswith(PAGE_FOLDER)


def foreign_origin() -> Problem:
    """Return a 403 for a page of another site."""
    return Problem(
        403,
        "Pages of other web sites may not call Dropframe; add their origins to the setting allowed_origins.",
        "foreign-origin",
    )


def _authority(origin: bytes) -> str:
    try:
        return urlsplit(origin.decode("latin-1")).netloc.casefold()
    except ValueError:
        return ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _challenge(headers: Mapping[bytes, bytes]) -> str:
    """A browser that opens a page asks its user for a name and a password: the password is the token."""
    if b"text/html" in headers.get(b"accept", b""):
        return 'Basic realm="Dropframe: any name, and a token as the password", charset="UTF-8"'
    return "Bearer"
