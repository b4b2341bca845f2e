from __future__ import annotations

import base64

import pytest

from daemon.errors import SettingsError
from daemon.settings import Settings
from daemon.tokens import Rights, digest, find_token, new_token, parse_token, toml_line
from sidecar.auth import Guard
from sidecar.problems import Problem

READ_SECRET, READ = new_token("reader", Rights.READ)
SUBMIT_SECRET, SUBMIT = new_token("writer", Rights.SUBMIT)


def status_of(guard: Guard, method: str = "GET", **headers: str) -> int:
    sent = {b"host": b"localhost:8000"} | {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    try:
        guard.check(method, sent)
    except Problem as problem:
        return problem.status
    return 200


@pytest.fixture
def guarded() -> Guard:
    return Guard(Settings(tokens=[str(READ), str(SUBMIT)]))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_without_a_token_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(SettingsError, match="dropframe token NAME"):
        Guard(Settings(host=host))
    Guard(Settings(host=host, tokens=[str(READ)]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_a_loopback_address_needs_no_token(host: str) -> None:
    guard = Guard(Settings(host=host))
    assert status_of(guard, host="localhost:1234") == status_of(guard, "POST", host="[::1]:80") == 200


@pytest.mark.parametrize("line", ["", "a", "a:read:123", "a b:read:" + "0" * 64, "a:admin:" + "0" * 64, "x" * 9999])
def test_a_malformed_token_is_refused_at_start(line: str) -> None:
    with pytest.raises(SettingsError, match="dropframe token"):
        Guard(Settings(tokens=[line]))


def test_a_token_is_kept_as_a_hash_and_found_again() -> None:
    assert READ_SECRET not in str(READ)
    assert parse_token(str(READ)) == READ
    assert READ.sha256 == digest(READ_SECRET)
    assert find_token([SUBMIT, READ], READ_SECRET.encode()) is READ
    assert find_token([SUBMIT, READ], b"") is None
    assert toml_line([READ]) == f'tokens = ["{READ}"]'
    with pytest.raises(SettingsError):
        new_token("a name", Rights.READ)


def test_rights_decide_what_a_token_may_do(guarded: Guard) -> None:
    for secret, method, status in [
        (READ_SECRET, "GET", 200),
        (READ_SECRET, "POST", 403),
        (READ_SECRET, "PUT", 403),
        (SUBMIT_SECRET, "GET", 200),
        (SUBMIT_SECRET, "POST", 200),
    ]:
        assert status_of(guarded, method, authorization=f"Bearer {secret}") == status
    basic = base64.b64encode(f"me:{READ_SECRET}".encode()).decode()
    assert status_of(guarded, authorization=f"Basic {basic}") == 200


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer ", "Bearer é", "Bearer x", "Basic %%%", "Basic eA==", "Digest x"]
)
def test_anything_else_is_401_and_never_an_error(guarded: Guard, sent: str) -> None:
    assert status_of(guarded, authorization=sent) == 401
    assert status_of(guarded, authorization="Bearer " + "x" * 1_000_000) == 401


def test_a_browser_is_asked_for_the_token_a_program_is_told_to_send_it(guarded: Guard) -> None:
    for accept, scheme in ((b"text/html", "Basic"), (b"*/*", "Bearer")):
        with pytest.raises(Problem) as caught:
            guarded.check("GET", {b"host": b"localhost", b"accept": accept})
        assert caught.value.headers["www-authenticate"].startswith(scheme)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8000", "[::2]"])
def test_a_foreign_host_name_is_refused_on_loopback(host: str) -> None:
    assert status_of(Guard(Settings()), host=host) == 421
    assert status_of(Guard(Settings(allowed_hosts=["cam.example"])), host="CAM.example:80") == 200


@pytest.mark.parametrize("host", ["localhost:evil", "[::1]evil.example", "a@localhost", "localhost/x", "localhost:1:2"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_malformed_host_is_refused(address: str, host: str) -> None:
    assert status_of(Guard(Settings(host=address, tokens=[str(READ)])), host=host) == 400


def test_a_request_with_two_lengths_is_refused_and_its_connection_closed() -> None:
    sent = {b"host": b"localhost", b"content-length": b"5", b"transfer-encoding": b"chunked"}
    with pytest.raises(Problem) as caught:
        Guard(Settings()).check("PUT", sent)
    assert (caught.value.status, caught.value.headers["connection"]) == (400, "close")


def test_pages_of_other_sites_may_not_call_unless_allowed() -> None:
    guard = Guard(Settings(allowed_origins=["https://ok.example"]))
    assert status_of(guard, "POST", origin="http://localhost:8000") == 200
    assert status_of(guard, "POST", origin="https://ok.example") == 200
    for origin in ("https://evil.example", "null", "http://localhost:9", "http://[", ""):
        assert status_of(guard, "POST", origin=origin) == 403
        assert status_of(guard, "GET", origin=origin) == 403
    assert status_of(guard, "POST", sec_fetch_site="cross-site") == 403
    assert status_of(guard, "GET", sec_fetch_site="cross-site") == 200
