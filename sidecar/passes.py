"""Passes: what a page's pictures, videos and downloads have in place of a token, which they cannot send.

A browser sends no Authorization header for them. It does send a cookie: that is a pass, which the page gets for its
token and sets itself. A pass only reads, ends after some hours, and at once with its token; nothing is stored for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from daemon.tokens import Token

COOKIE_PREFIX = "dropframe_pass_"
"""Several Dropframes on one host see each other's cookies, so a token's own name follows."""
PASS_SECONDS = 12 * 3600
_PASS = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


def cookie_name(token: Token) -> str:
    """Return the name of the cookie that holds a token's pass."""
    return COOKIE_PREFIX + token.sha256[:8]


def make_pass(token: Token, now: float) -> str:
    """Make a pass.

    Args:
        token: Whose it is.
        now: Seconds since the epoch.
    """
    expires = int(now) + PASS_SECONDS
    return f"{expires}.{_seal(token, expires)}"


def find_by_pass(tokens: Iterable[Token], cookies: bytes, now: float) -> Token | None:
    """Return the token of a pass among cookies, or None if there is none, or it has ended.

    Args:
        tokens: All.
        cookies: The Cookie header.
        now: Seconds since the epoch.
    """
    sent = dict(_cookies(cookies))
    for token in tokens:
        found = _PASS.fullmatch(sent.get(cookie_name(token), ""))
        if found and int(found[1]) > now and hmac.compare_digest(found[2], _seal(token, int(found[1]))):
            return token
    return None


def _cookies(header: bytes) -> Iterable[tuple[str, str]]:
    for pair in header.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name.startswith(COOKIE_PREFIX):
            yield name, value


def _seal(token: Token, expires: int) -> str:
    return hmac.new(bytes.fromhex(token.sha256), f"pass:{token}:{expires}".encode(), hashlib.sha256).hexdigest()
