"""Limits: how much one client may have open at a time, so that none can shut the others out.

A client is an address, and where tokens are in use a token as well: both are counted, and neither may exceed its share.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from daemon.settings import Settings
from sidecar.problems import Problem, busy

IPV6_PREFIX = 64
"""Bits of an IPv6 address that tell one network from another; whoever has one has all addresses in it."""

SPARE = 8
"""One in so many is kept from a client that would take all."""

Key = tuple[str, str]


class Slots:
    """Counts what is open, in all and for each client.

    Args:
        most: In all.
        per_client: For one client, but never all; 0 means all but an eighth.
        what: Is counted, as in "224 requests".
        setting: Names the share of a client.
        too_many: The refusal when there are too many in all.
    """

    def __init__(self, most: int, per_client: int, what: str, setting: str, too_many: Problem) -> None:
        self._most = most
        self._per_client = max(1, min(per_client or most - most // SPARE, most - 1))
        self._what = what
        self._setting = setting
        self._too_many = too_many
        self._held: Counter[Key] = Counter()
        self.total = 0

    @contextmanager
    def hold(self, scope: Scope) -> Iterator[None]:
        """Hold one for the client of a request.

        Raises:
            Problem: 503, all are taken; 429, this client has its share.
        """
        if self.total >= self._most:
            raise self._too_many
        keys = _keys(scope)
        if any(self._held[key] >= self._per_client for key in keys):
            raise Problem(
                429,
                f"One client may have {self._per_client} {self._what} open at a time ({self._setting}); "
                "try again when one has ended.",
                "client-limit",
                {"retry-after": self._too_many.headers["retry-after"]},
            )
        self._add(keys, 1)
        try:
            yield
        finally:
            self._add(keys, -1)

    @contextmanager
    def lend(self, scope: Scope) -> Iterator[None]:
        """Let others have what the client of a request holds, for a while."""
        keys = _keys(scope)
        self._add(keys, -1)
        try:
            yield
        finally:
            self._add(keys, 1)

    def _add(self, keys: list[Key], change: int) -> None:
        self.total += change
        for key in keys:
            self._held[key] += change
            if not self._held[key]:
                del self._held[key]


class ClientLimits:
    """Everything that is counted.

    Args:
        settings: The numbers.
    """

    def __init__(self, settings: Settings) -> None:
        self.requests = Slots(
            settings.max_requests,
            settings.max_requests_per_client,
            "requests",
            "max_requests_per_client",
            busy("Too many requests are being served; try again in a moment.", "requests", 2),
        )
        # Each waiting call has a connection, and some must be left for those who do not wait.
        self.waits = Slots(
            max(1, settings.max_connections // 2),
            settings.max_waits_per_client,
            "waiting calls",
            "max_waits_per_client",
            busy("Too many calls are waiting; call without wait, or try again in a moment.", "requests", 2),
        )
        self.uploads = Slots(
            settings.max_uploads,
            settings.max_uploads_per_client,
            "uploads",
            "max_uploads_per_client",
            busy(f"{settings.max_uploads} uploads are under way; submit when one has ended.", "uploads", 10),
        )


def _keys(scope: Scope) -> list[Key]:
    client = scope.get("client")
    keys = [("address", _network(client[0]) if client else "")]
    if token := scope.get("token_name"):
        keys.append(("token", token))
    return keys


def _network(host: str) -> str:
    """Return what tells one client from another: the address, or for IPv6 its network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return host
