"""Text as other programs can take it: what OCR reads, and what weights call their classes, may be anything."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters, halves of characters, and what is no character: XML and YAML cannot hold them."""
_BREAKS = re.compile("[\t\r\n\u2028\u2029]+")
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""What turns the direction of the text around that follows."""
_FORMULA = ("=", "+", "-", "@")


def plain(text: str) -> str:
    """Return a text on one line, with U+FFFD for what is not a character."""
    return _CONTROL.sub("\ufffd", _BREAKS.sub(" ", text))


def cell(text: str) -> str:
    """Return a text for a table; one that a spreadsheet would calculate gets an apostrophe before it."""
    text = plain(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def spoken(text: str) -> str:
    """Return a text for a subtitle, where nothing turns the direction of what follows."""
    return _TURNS.sub("", plain(text)).strip()
