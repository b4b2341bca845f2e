"""ProxyMiddleware: who calls, and below which path, where reverse proxies stand between."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.errors import SettingsError

_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


class TrustedProxies:
    """The reverse proxies that are believed.

    Args:
        given: Addresses and networks, the setting ``trusted_proxies``.

    Raises:
        SettingsError: one of them is neither.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._networks = [_network(text) for text in given]

    def __contains__(self, host: str) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, forwarded: str) -> str:
        """Return the address of the client: the last one that no trusted proxy has.

        Args:
            peer: Who is connected; a trusted proxy.
            forwarded: X-Forwarded-For, to which each proxy has added whom it was called by.
        """
        client = peer
        for text in reversed(forwarded.split(",")):
            address = _address(text.strip())
            if address is None:
                break
            client = str(address)
            if client not in self:
                break
        return client


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingsError(
            f"trusted_proxies must be a list of addresses or networks such as 10.0.0.0/8; {text!r} is not one."
        ) from error


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class ProxyMiddleware:
    """Puts the client's own address into ``client``, and takes the path that the proxy shows off ``path``.

    What is behind it sees the paths of the routes alone; that path stands in ``prefix``, and is put before the Location
    of an answer. Whether the proxy leaves the path in its requests or takes it off makes no difference.

    Args:
        app: What is behind it.
        trusted: Whose headers are believed.
        base_path: The path that a proxy shows, unless it says another.
    """

    def __init__(self, app: ASGIApp, trusted: TrustedProxies, base_path: str) -> None:
        self._app = app
        self._trusted = trusted
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix = scope["prefix"] = self._believe(scope)
        if not prefix:
            await self._app(scope, receive, send)
            return
        if scope["path"] == prefix:  # the links of the page are relative to the folder
            await RedirectResponse(prefix + "/", 308)(scope, receive, send)
            return
        if scope["path"].startswith(prefix + "/"):
            scope["path"] = scope["path"].removeprefix(prefix)

        async def send_location(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, prefix.encode() + value if name == b"location" and value.startswith(b"/") else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        await self._app(scope, receive, send_location)

    def _believe(self, scope: Scope) -> str:
        """Take what a trusted proxy says of the client; return the path that it shows."""
        peer = scope.get("client")
        if peer is None or peer[0] not in self._trusted:
            return self._base_path
        headers = _joined(scope)
        scope["client"] = (self._trusted.client(peer[0], headers.get(b"x-forwarded-for", "")), 0)
        prefix = headers.get(b"x-forwarded-prefix", "").rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else self._base_path


def _joined(scope: Scope) -> Mapping[bytes, str]:
    """Return the headers by name, those that were sent several times as one list."""
    joined: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        joined[name] = f"{joined[name]},{text}" if name in joined else text
    return joined
