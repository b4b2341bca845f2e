"""The headers of an event: signed as Standard Webhooks asks for, and those of a CloudEvent beside them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md (binary content mode).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from daemon import __version__
from daemon.webhooks.event import Event

_PLAIN = "".join(map(chr, range(0x21, 0x7F))).translate({ord(c): None for c in '"%'})
"""Characters that the header of a CloudEvent holds as they are."""


def headers(event: Event, body: bytes, keys: Sequence[bytes], source: str, now: float) -> Mapping[str, str]:
    """Return the headers of one attempt.

    Args:
        event: What is sent.
        body: The same, as it is sent.
        keys: Each signs.
        source: What has told of the event, a URI.
        now: Seconds since 1970; receivers refuse what was signed long ago.
    """
    sent_at = str(int(now))
    return {
        "content-type": "application/json",
        "user-agent": f"Dropframe/{__version__}",
        "webhook-id": event.event_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": " ".join(signature(key, event.event_id, sent_at, body) for key in keys),
        "ce-specversion": "1.0",
        "ce-id": event.event_id,
        "ce-source": source,
        "ce-type": f"dropframe.{event.type}",
        "ce-time": event.time,
        "ce-subject": quote(event.subject, safe=_PLAIN),
    }


def signature(key: bytes, event_id: str, sent_at: str, body: bytes) -> str:
    """Return one signature, version 1: HMAC-SHA256."""
    signed = hmac.digest(key, f"{event_id}.{sent_at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"
