"""Passes: what a page's pictures, videos and downloads have in place of a token, which they cannot send.

A browser sends no Authorization header for them. It does send a cookie: that is a pass, which the page gets for its
token and sets itself. A pass only reads, ends after some minutes, and at once with its token or when the sidecar is
started again; nothing is stored for it. It is sealed with a secret that the sidecar makes when it starts: with what
stands in the settings none can be made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from daemon.tokens import Token

COOKIE_PREFIX = "dropframe_pass_"
"""Several Dropframes on one host see each other's cookies, so a token's own name follows."""
PASS_SECONDS = 15 * 60
"""A page renews its pass; what a closed one leaves behind soon ends."""
_PASS = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


def cookie_name(token: Token) -> str:
    """Return the name of the cookie that holds a token's pass."""
    return COOKIE_PREFIX + token.sha256[:8]


def make_pass(token: Token, secret: bytes, now: float) -> str:
    """Make a pass.

    Args:
        token: Whose it is.
        secret: Of this run of the sidecar.
        now: Seconds since the epoch.
    """
    expires = int(now) + PASS_SECONDS
    return f"{expires}.{_seal(token, secret, expires)}"


def find_by_pass(tokens: Iterable[Token], secret: bytes, cookies: bytes, now: float) -> Token | None:
    """Return the token of a pass among cookies, or None if there is none, or it has ended.

    Args:
        tokens: All.
        secret: Of this run of the sidecar.
        cookies: The Cookie header.
        now: Seconds since the epoch.
    """
    sent = dict(_cookies(cookies))
    for token in tokens:
        found = _PASS.fullmatch(sent.get(cookie_name(token), ""))
        if found is None or int(found[1]) <= now:
            continue
        if hmac.compare_digest(found[2], _seal(token, secret, int(found[1]))):
            return token
    return None


def _cookies(header: bytes) -> Iterable[tuple[str, str]]:
    for pair in header.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name.startswith(COOKIE_PREFIX):
            yield name, value


def _seal(token: Token, secret: bytes, expires: int) -> str:
    return hmac.new(secret, f"pass:{token}:{expires}".encode(), hashlib.sha256).hexdigest()
