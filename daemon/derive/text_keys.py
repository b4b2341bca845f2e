"""When two readings are of the same text: keys, likeness and digits.

A key is what is left of a text when case, spaces and punctuation are taken away. OCR mixes up letters, drops digits and
takes an O for a 0; what it does not do on its own is turn one digit into another all the time, so digits are what
tells a clock's next minute from a misreading.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

KEY_LETTERS = 1000
"""Letters of a key; what follows in a longer text is not compared."""
LOOKALIKES = {"0": "oqd", "1": "ilj", "2": "z", "4": "a", "5": "s", "6": "bg", "7": "t", "8": "b", "9": "gq"}
"""Letters that OCR takes for a digit, and the digit for them."""


class Relation(IntEnum):
    """What a reading is to a text."""

    SAME = 0
    """The same key, or one in which only letters and digits that look alike are exchanged."""
    VARIANT = 1
    """Other letters, but no digit against it: the same text misread, unless it stays."""
    RIVAL = 2
    """Other digits: a misreading, if the text comes back, otherwise the text after it."""
    STRANGER = 3
    """Not like it at all, in its place."""


@lru_cache(maxsize=8192)
def key_of(text: str) -> str:
    """Return a text's key: NFKC, casefold, letters and digits; for a text without any, the text itself."""
    folded = unicodedata.normalize("NFKC", text[:KEY_LETTERS]).casefold()
    return "".join(filter(str.isalnum, folded))[:KEY_LETTERS] or folded.strip()[:KEY_LETTERS]


@lru_cache(maxsize=8192)
def similarity(one: str, other: str) -> float:
    """Return how alike two keys are, from 0 to 1: one less the edits needed by the longer one's letters."""
    return Levenshtein.normalized_similarity(one, other)


@lru_cache(maxsize=8192)
def relation(text: str, reading: str, alike: float) -> Relation:
    """Say what a reading is to a text, both as keys.

    Args:
        text: The key of the text.
        reading: The key of the reading.
        alike: Similarity below which it is a stranger.
    """
    if text == reading or _only_lookalikes(text, reading):
        return Relation.SAME
    if similarity(text, reading) < alike:
        return Relation.STRANGER
    digits, others = _digits(text), _digits(reading)
    if digits == others or _is_subsequence(digits, others) or _is_subsequence(others, digits):
        return Relation.VARIANT
    return Relation.RIVAL


def _digits(key: str) -> str:
    return "".join(filter(str.isdigit, key))


def _is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(letter in rest for letter in short)


def _only_lookalikes(one: str, other: str) -> bool:
    return len(one) == len(other) and all(
        a == b or b in LOOKALIKES.get(a, "") or a in LOOKALIKES.get(b, "") for a, b in zip(one, other, strict=True)
    )
