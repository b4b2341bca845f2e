from __future__ import annotations

import contextlib

import pytest

from sidecar.limits import Slots
from sidecar.problems import Problem, busy

TOO_MANY = busy("All are taken.", "uploads", 7)


def slots(most: int, per_client: int) -> Slots:
    return Slots(most, per_client, "uploads", "max_uploads_per_client", TOO_MANY)


def scope(address: str | None, token: str = "") -> dict[str, object]:
    return {"client": (address, 1) if address else None, "token_name": token}


def fill(counted: Slots, *clients: dict[str, object]) -> list[int]:
    """Hold one after another for clients; return the status of each that was refused."""
    refused: list[tuple[int, str]] = []
    with contextlib.ExitStack() as held:
        for client in clients:
            try:
                held.enter_context(counted.hold(client))
            except Problem as problem:
                refused.append((problem.status, problem.headers["retry-after"]))
    assert counted.total == 0
    assert {seconds for _, seconds in refused} <= {"7"}
    return [status for status, _ in refused]


@pytest.mark.parametrize(
    ("most", "per_client", "share"),
    [(16, 0, 14), (64, 0, 56), (4, 0, 3), (1, 0, 1), (2, 9, 1), (16, 5, 5), (16, 99, 15)],
)
def test_a_client_has_a_share_that_is_not_all(most: int, per_client: int, share: int) -> None:
    counted = slots(most, per_client)
    for _ in range(2):  # what was held is free again
        refused = fill(counted, *[scope("192.0.2.1")] * (most + 3))
        assert len(refused) == most + 3 - share
        assert set(refused) == {429 if most > 1 else 503}


def test_when_all_are_taken_nobody_is_blamed() -> None:
    clients = [scope(f"192.0.2.{n}") for n in range(6)]
    assert fill(slots(4, 2), *clients) == [503, 503]


def test_an_address_and_a_token_are_counted_each() -> None:
    assert fill(slots(9, 1), scope("192.0.2.1", "a"), scope("192.0.2.2", "a"), scope("192.0.2.1", "b")) == [429, 429]
    assert fill(slots(9, 1), scope("192.0.2.1", "a"), scope("192.0.2.2", "b")) == []


def test_a_network_of_ipv6_is_one_client() -> None:
    assert fill(slots(9, 1), scope("2001:db8::1"), scope("2001:db8::ffff:2")) == [429]
    assert fill(slots(9, 1), scope("2001:db8::1"), scope("2001:db8:0:1::1")) == []
    assert fill(slots(9, 1), scope("::ffff:192.0.2.1"), scope("::ffff:192.0.2.2")) == []
    assert fill(slots(9, 1), scope(None), scope(None)) == [429]  # a socket without addresses


def test_what_is_lent_others_may_have_meanwhile() -> None:
    counted = slots(2, 0)
    with counted.hold(scope("192.0.2.1")), counted.lend(scope("192.0.2.1")), counted.hold(scope("192.0.2.1")):
        assert counted.total == 1
    assert counted.total == 0
