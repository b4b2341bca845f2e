"""API tokens: random secrets for programs. Only their SHA-256 is ever stored.

A token has 256 random bits, so one plain hash is enough: there is nothing to guess. A stored line is
``name:rights:sha256hex`` and stands in the setting ``tokens``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from daemon.errors import SettingsError

PREFIX = "df_"
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):(read|submit):([0-9a-f]{64})")


class Rights(StrEnum):
    """What a token allows."""

    READ = "read"
    """See jobs, videos and results."""

    SUBMIT = "submit"
    """That, and submit, cancel and retry."""


@dataclass(frozen=True)
class Token:
    """A token as it is stored."""

    name: str
    """For people and logs: letters, digits, ".", "_" and "-", at most 64."""
    rights: Rights
    sha256: str
    """Of the secret, in hexadecimal."""

    def allows(self, needed: Rights) -> bool:
        """Tell whether these rights include those."""
        return self.rights is Rights.SUBMIT or needed is Rights.READ

    def __str__(self) -> str:
        return f"{self.name}:{self.rights}:{self.sha256}"


def new_token(name: str, rights: Rights) -> tuple[str, Token]:
    """Make a token; return the secret, to be shown once, and what is stored (``str`` gives the line).

    Raises:
        SettingsError: the name has a character that is not allowed, or is too long or empty.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, parse_token(f"{name}:{rights}:{digest(secret)}")


def toml_line(tokens: Iterable[Token]) -> str:
    """Return the line of ``dropframe.toml`` that holds these tokens."""
    return "tokens = [" + ", ".join(f'"{token}"' for token in tokens) + "]"


def parse_token(line: str) -> Token:
    """Read one line.

    Raises:
        SettingsError: it is not ``name:read:<sha256>`` or ``name:submit:<sha256>``.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        name = line.partition(":")[0][:64]
        raise SettingsError(
            f"The token {name!r} is not name:read:sha256 or name:submit:sha256 with a name of letters, digits, "
            "'.', '_' and '-'; make one with: dropframe token NAME --rights read"
        )
    return Token(found[1], Rights(found[2]), found[3])


def digest(secret: str | bytes) -> str:
    """Return the SHA-256 of a secret in hexadecimal."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def find_token(tokens: Iterable[Token], secret: bytes) -> Token | None:
    """Return the token with that secret, or None; takes as long whichever it is, if any."""
    wanted, found = digest(secret), None
    for token in tokens:
        if hmac.compare_digest(token.sha256, wanted):
            found = token
    return found
