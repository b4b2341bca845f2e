"""Credentials of the shared files of the AWS tools (``~/.aws``), which obstore does not read itself.

obstore finds by itself keys in the environment, web identities, and what containers and EC2 machines are given. All
but the last go first, as with the AWS tools. What is read here is read again every few minutes, as it may be renewed.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

FRESH_FOR = timedelta(minutes=5)
"""How long credentials are used before their file is read again."""
FOUND_BY_OBSTORE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class SharedCredentials(TypedDict):
    """As obstore wants them."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime | None


def shared_credentials(environment: Mapping[str, str] = os.environ) -> Callable[[], SharedCredentials] | None:
    """Return what reads the credentials file; None if obstore finds credentials by itself, or the file has none."""
    if any(environment.get(name) for name in FOUND_BY_OBSTORE) or _read(environment) is None:
        return None

    def read() -> SharedCredentials:
        found = _read(environment)
        if found is None:
            raise ValueError("the credentials file has no credentials any more")
        return found

    return read


def _read(environment: Mapping[str, str]) -> SharedCredentials | None:
    profile = environment.get("AWS_PROFILE") or "default"
    places = (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", profile),
        ("AWS_CONFIG_FILE", "~/.aws/config", profile if profile == "default" else f"profile {profile}"),
    )
    for variable, default, section in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(Path(environment.get(variable) or default).expanduser().read_text())
            values = parser[section]
            key, secret = values["aws_access_key_id"], values["aws_secret_access_key"]
        except (OSError, RuntimeError, ValueError, KeyError, configparser.Error):  # not there, or not such a file
            continue
        token = values.get("aws_session_token")
        return SharedCredentials(
            access_key_id=key, secret_access_key=secret, token=token, expires_at=datetime.now(UTC) + FRESH_FOR
        )
    return None
