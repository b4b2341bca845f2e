"""S3Address: where in object storage something is, as the settings say it: ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?P<path>(?:/[^\x00-\x1f\x7f]*)?)")
FORM = "a place such as s3://bucket or s3://bucket/prefix, without a key or a password in it"


@dataclass(frozen=True)
class S3Address:
    """A bucket, and what the keys in it begin with."""

    bucket: str
    prefix: str = ""
    """Without a slash at its ends; may be empty."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ValueError: it is not one. The text is not repeated, as somebody may have put a password into it.
        """
        found = _ADDRESS.fullmatch(text)
        prefix = found["path"].strip("/") if found else ""
        if found is None or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
            raise ValueError(f"it must be {FORM}.")
        return cls(found["bucket"], prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def to(self, key: str) -> str:
        """Return the address of a key below the prefix, for people."""
        return f"{self}/{key}"


def known_address(text: str, name: str = "It") -> str:
    """Return an address in its one form.

    Raises:
        ValueError: it is not one; it says so of the setting of that name.
    """
    try:
        return str(S3Address.of(text))
    except ValueError:
        raise ValueError(f"{name} must be {FORM}.") from None


def known_endpoint(text: str) -> str:
    """Return the URL of a service that speaks S3.

    Raises:
        ValueError: it is not one; it is not repeated, as somebody may have put a password into it.
    """
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("s3_endpoint must be a URL such as https://minio.example:9000, without a password in it.")
    return text.rstrip("/")
