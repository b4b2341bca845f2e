"""Where events may be sent: the address that is connected to decides, however it is written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.webhooks import addresses
from daemon.webhooks.addresses import Target, refusal
from daemon.webhooks.post import NotSent, Post
from tests.webhook_receiver import EventReceiver, receiving

NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::ffff:0.0.0.0",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:ffff::1",
    "::ffff:0:169.254.169.254",
    "::ffff:0:1.1.1.1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::23",
    "fd00:ec2:0:1::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::1",
    "198.18.0.1",
    "192.0.2.1",
    "2001:db8::1",
]
PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "172.32.0.1", "100.128.0.1"]


@pytest.mark.parametrize("address", NEVER)
def test_link_local_addresses_and_metadata_are_never_told_anything(address: str) -> None:
    assert refusal(address, allow_private=False) is not None
    assert refusal(address, allow_private=True) is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_told_only_where_the_operator_allows_it(address: str) -> None:
    assert "allow_private" in (refusal(address, allow_private=False) or "")
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_told(address: str) -> None:
    assert refusal(address, allow_private=False) is None


@pytest.fixture(scope="module")
def receiver() -> Iterator[EventReceiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def shared_threads() -> frozenset[str]:
    return frozenset({"Thread-1 (serve_forever)"})


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "[::ffff:127.0.0.1]"])
def test_an_odd_spelling_of_this_machine_is_seen_through(host: str, receiver: EventReceiver) -> None:
    with pytest.raises(NotSent, match="which is not public"):
        Post(f"http://{host}:{receiver.port}/", allow_private=False).send(b"{}", {})
    assert receiver.sent == []


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.254.43518", "[::ffff:169.254.169.254]"])
def test_an_odd_spelling_of_the_metadata_address_is_seen_through(host: str) -> None:
    with pytest.raises(NotSent, match="metadata"):
        Post(f"http://{host}/latest/meta-data/", allow_private=True).send(b"{}", {})


def test_a_name_that_resolves_to_something_else_a_moment_later_gains_nothing(
    receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["10.0.0.1", "127.0.0.1", "127.0.0.1"]
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[Target]:
        looked_up.append(host)
        return [Target(2, (answers[len(looked_up) - 1], port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: pytest.fail("the name is looked up again"))
    post = Post(f"http://rebinding.example:{receiver.port}/", allow_private=False, resolve=resolve)
    for _ in range(2):  # a name is looked up anew for each attempt, and what it is then is looked at
        with pytest.raises(NotSent, match="which is not public"):
            post.send(b"{}", {})
    assert looked_up == ["rebinding.example"] * 2
    assert receiver.sent == []
    allowed = Post(f"http://rebinding.example:{receiver.port}/", allow_private=True, resolve=resolve)
    assert allowed.send(b"{}", {})[0] == 204
    assert len(looked_up) == 3, "what was looked at is what was connected to"
    assert receiver.sent.pop().headers["host"] == f"rebinding.example:{receiver.port}"


def test_of_several_addresses_only_those_that_may_be_told_are_connected_to(receiver: EventReceiver) -> None:
    def resolve(host: str, port: int) -> list[Target]:
        return [Target(2, ("169.254.169.254", port)), Target(2, ("127.0.0.1", port))]

    assert Post(f"http://two.example:{receiver.port}/", allow_private=True, resolve=resolve).send(b"", {})[0] == 204
    receiver.sent.clear()


def test_an_address_in_ipv6_is_told(receiver: EventReceiver) -> None:
    url = f"http://[::ffff:127.0.0.1]:{receiver.port}/a?b"
    assert Post(url, allow_private=True).send(b"", {})[0] == 204
    sent = receiver.sent.pop()
    assert (sent.path, sent.headers["host"]) == ("/a?b", f"[::ffff:127.0.0.1]:{receiver.port}")


def test_a_name_that_leads_nowhere_is_said(receiver: EventReceiver) -> None:
    with pytest.raises(NotSent, match="is nowhere"):
        Post("http://none.example/", allow_private=False, resolve=lambda host, port: []).send(b"", {})
    with pytest.raises(NotSent, match="cannot be looked up"):
        Post(f"http://{'a' * 70}.example/", allow_private=False).send(b"", {})
