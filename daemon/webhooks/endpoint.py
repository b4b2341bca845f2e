"""Endpoint: a receiver at a URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from daemon.webhook_settings import WebhookSettings
from daemon.webhooks.addresses import Resolve, resolve
from daemon.webhooks.delivery import Delivery, DeliveryEnd
from daemon.webhooks.event import Event
from daemon.webhooks.post import SECONDS, NotSent, Post
from daemon.webhooks.signing import headers

GONE = 410


class Endpoint:
    """Sends each event with a POST; a status of 2xx says that it is there.

    Args:
        settings: As the operator wrote them.
        source: What tells of events, a URI.
        seconds: Longest time of a request.
        resolve: Looks up names.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        source: str,
        seconds: float = SECONDS,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key, self.name = settings.key, settings.name
        self.types = frozenset(settings.events)
        self._keys = settings.keys
        self._source = source
        self._post = Post(settings.url, settings.allow_private, seconds, resolve)
        self._clock = clock

    def deliver(self, event: Event) -> Delivery:
        """Send an event once."""
        body, now = event.body(), self._clock()
        try:
            status, answered = self._post.send(body, headers(event, body, self._keys, self._source, now))
        except NotSent as error:
            return Delivery(DeliveryEnd.AGAIN, str(error))
        if 200 <= status < 300:
            return Delivery(DeliveryEnd.DONE)
        if status == GONE:
            return Delivery(DeliveryEnd.GONE, "It answered 410: it wants no more events.")
        redirect = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        return Delivery(DeliveryEnd.AGAIN, f"It answered {status}{redirect}.", retry_after(answered, now))

    def abort(self) -> None:
        """End a request that is going on."""
        self._post.abort()


def retry_after(answered: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds an answer asks to wait; None if it does not.

    Args:
        answered: Its headers.
        now: Seconds since 1970.
    """
    text = answered.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
