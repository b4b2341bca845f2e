"""How texts are compared: without case, accents and the many forms that Unicode has for one letter."""

from __future__ import annotations

import itertools
import re
import unicodedata

from daemon.errors import SettingsError

MOST_LETTERS = 200
"""Of a query."""
MOST_WORDS = 20
"""Of a query."""
WORD = 3
"""Letters from which on a word is found by the index of trigrams."""
ACCENTS = frozenset({*range(10, 37), *range(200, 241)})
"""Canonical combining classes of accents, Hebrew points and Arabic signs; the others are parts of letters."""
_PARTS = re.compile(r'"([^"]*)"|([^\s"]+)')


class BadQuery(SettingsError):
    """A text to search for that nothing can be found by; the sentence says what to change."""


def fold(text: str) -> str:
    """Return what of a text is compared, on one line; signs that cannot be seen are left out."""
    if not text.isascii():
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
        text = unicodedata.normalize("NFC", "".join(filter(_counts, text)))
    text = text.lower()
    return " ".join((text if text.isprintable() else "".join(map(_shown, text))).split())


def _counts(letter: str) -> bool:
    return unicodedata.combining(letter) not in ACCENTS and unicodedata.category(letter) not in ("Cf", "Cs")


def _shown(letter: str) -> str:
    return letter if letter.isprintable() else " "


def words_of(query: str) -> tuple[str, ...]:
    """Return what a text must contain: the words of a query, folded; several between quotation marks are one.

    Raises:
        BadQuery: there is none, or there are too many.
    """
    if len(query) > MOST_LETTERS:
        raise BadQuery(f"A search may have {MOST_LETTERS} letters; this one has {len(query)}.")
    parts = [fold(phrase or word) for phrase, word in _PARTS.findall(query.replace("\0", " "))]
    words = tuple(dict.fromkeys(filter(None, parts)))
    if not words:
        raise BadQuery("Search for a letter, a digit or a sign that can be seen.")
    if len(words) > MOST_WORDS:
        raise BadQuery(f"A search may have {MOST_WORDS} words; this one has {len(words)}.")
    return words


def short_parts(text: str) -> set[str]:
    """Return all parts of a folded text that are shorter than a trigram."""
    return {*text, *map("".join, itertools.pairwise(text))}
