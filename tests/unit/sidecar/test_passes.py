from __future__ import annotations

import secrets

import pytest

from daemon.tokens import Rights, new_token
from sidecar.passes import PASS_SECONDS, cookie_name, find_by_pass, make_pass

NOW = 1_800_000_000.5
_, READ = new_token("reader", Rights.READ)
_, SUBMIT = new_token("reader", Rights.SUBMIT)
TOKENS = [READ, SUBMIT]
SECRET = secrets.token_bytes(32)


def cookie(of: str) -> bytes:
    return f"a=b; {of}; c".encode()


def test_a_pass_is_its_tokens_until_it_ends() -> None:
    for token in TOKENS:
        sent = cookie(f"{cookie_name(token)}={make_pass(token, SECRET, NOW)}")
        assert find_by_pass(TOKENS, SECRET, sent, NOW) is token
        assert find_by_pass(TOKENS, SECRET, sent, NOW + PASS_SECONDS - 1) is token
        assert find_by_pass(TOKENS, SECRET, sent, NOW + PASS_SECONDS) is None
        assert find_by_pass([one for one in TOKENS if one is not token], SECRET, sent, NOW) is None


def test_a_pass_cannot_be_made_longer_or_anothers() -> None:
    expires, _, seal = make_pass(READ, SECRET, NOW).partition(".")
    for value in (
        f"{int(expires) + 1}.{seal}",
        f"{expires}.{'0' * 64}",
        f"9{expires}.{seal}",
        seal,
        "",
        "é.é",
        "." * 99,
    ):
        assert find_by_pass(TOKENS, SECRET, cookie(f"{cookie_name(READ)}={value}"), NOW) is None
    assert find_by_pass(TOKENS, SECRET, cookie(f"{cookie_name(SUBMIT)}={make_pass(READ, SECRET, NOW)}"), NOW) is None


def test_what_stands_in_the_settings_seals_no_pass() -> None:
    for secret in (bytes.fromhex(READ.sha256), READ.sha256.encode(), str(READ).encode(), b""):
        sent = cookie(f"{cookie_name(READ)}={make_pass(READ, secret, NOW)}")
        assert find_by_pass(TOKENS, SECRET, sent, NOW) is None


@pytest.mark.parametrize(
    "sent", [b"", b";", b"=", b"dropframe_pass_", b"\xff\xfe=1; =", b"dropframe_pass_x=1.a" * 9999]
)
def test_any_other_cookie_is_none(sent: bytes) -> None:
    assert find_by_pass(TOKENS, SECRET, sent, NOW) is None
