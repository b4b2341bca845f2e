"""WebhookSettings: an endpoint that is told of events, as the operator writes it into ``dropframe.toml``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
)

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that marks a secret
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
"""As Standard Webhooks asks for."""
ON_COMPLETED = "on_completed"
"""The key of the command that is run for each job that completes; that of an endpoint is in hexadecimal."""
MOST_SECRETS = 5
"""More need not be valid at once to exchange one."""


class EventType(StrEnum):
    """What an endpoint can be told of."""

    COMPLETED = "job.completed"
    """A job has ended with a result."""

    FAILED = "job.failed"
    """A job has ended without one, or was cancelled."""

    REJECTED = "job.rejected"
    """A dropped file, or an object of a bucket, was not taken in."""


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for.

    Raises:
        ValueError: it is not one; the message does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise ValueError(
            f"A webhook's secret must be {SECRET_PREFIX} and {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes in "
            "base64; dropframe webhooks secret makes one."
        )
    return key


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | SecretStr) else value


def _checked_secret(secret: SecretStr) -> SecretStr:
    secret_bytes(secret.get_secret_value())
    return secret


def split_url(url: str) -> SplitResult:
    """Return the parts of an endpoint's URL.

    Raises:
        ValueError: it is not one; the message does not repeat it.
    """
    wrong = "A webhook's url must be an address such as https://example.org/hook"
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError(f"{wrong}, in ASCII and without spaces.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of brackets or a port
        usable = False
    if not usable:
        raise ValueError(f"{wrong}.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("A webhook's url may have neither a user name nor a fragment (#).")
    return parts


class WebhookSettings(BaseModel):
    """One endpoint. Neither its secrets nor the path of its address, which may be one, are ever shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(repr=False)
    """Where events are sent, by http or https."""
    secret: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_checked_secret)], ...],
        BeforeValidator(_as_list),
        Field(min_length=1, max_length=MOST_SECRETS),
    ]
    """What signs them; each of several does, so that one can be exchanged."""
    events: tuple[EventType, ...] = tuple(EventType)
    allow_private: bool = False
    """Whether it may be on this machine or in a private network."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        split_url(url)
        return url

    @field_serializer("url", when_used="json")
    def _url_without_path(self, url: str) -> str:
        return shown_url(url)

    @property
    def key(self) -> str:
        """What tells it from other endpoints, over restarts and exchanged secrets."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """Its address as it may be shown."""
        return shown_url(self.url)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Those that sign."""
        return tuple(secret_bytes(secret.get_secret_value()) for secret in self.secret)


def shown_url(url: str) -> str:
    """Return an address without its path and its query, either of which may hold a secret."""
    parts = split_url(url)
    return f"{parts.scheme}://{parts.netloc}/" + ("…" if parts.path.strip("/") or parts.query else "")


def all_different(webhooks: list[WebhookSettings]) -> list[WebhookSettings]:
    """Return endpoints as they are.

    Raises:
        ValueError: two have the same address.
    """
    names = {webhook.url: webhook.name for webhook in webhooks}
    if len(names) < len(webhooks):
        raise ValueError("Two webhooks have the same url; name all its events and secrets in one.")
    return webhooks


def sentence_on(error: Mapping[str, Any]) -> str:
    """Say what is wrong with the setting ``webhooks`` without repeating what was written, which may be a secret.

    Args:
        error: One of pydantic's.
    """
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    _, *where = error["loc"]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in where if part != "tuple")
    return f"webhooks: {f'{place}: ' if place else ''}{error['msg']}."
