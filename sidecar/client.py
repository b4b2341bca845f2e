"""What a client may do while it is being served: leave, or stop reading."""

from __future__ import annotations

from starlette.types import Receive


class ClientGone(Exception):
    """The client has closed the connection; nobody is there to be answered."""


class ClientStalled(Exception):
    """The client takes nothing of its answer; the connection is closed in the middle of it."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
