"""Scripts: letters of different scripts that look alike, and the order of those written from right to left."""

# ruff: noqa: RUF001, RUF002 - letters that look alike are what this is about

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from daemon.pipeline.readings import LEAST_COVERED, Reading

_DRAWN_ALIKE = {
    "ABCEHKMOPTXYaceopxyij": "АВСЕНКМОРТХУасеорхуіј",
    "kmthb": "кмтнв",  # small Cyrillic letters that are drawn as small capitals
    "bb36eU": "ьЬЗбёИ",
    "ABEZHIKMNOPTYXovuxaip": "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονυχαιρ",
    "aeoyiuE": "άέόύίϋΈ",
}
_TWINS = str.maketrans(
    {twin: latin for latins, twins in _DRAWN_ALIKE.items() for latin, twin in zip(latins, twins, strict=True)}
)
LOOKS_OF = {"Cyrl": frozenset("ABCEHKMOPTXYaceopxybk"), "Grek": frozenset("ABEZHIKMNOPTYXaiopuvxyk")}
"""Latin letters that could be letters of another script, by its ISO 15924 code."""

DOUBTFUL = 0.5
"""The most confidence of a line that could be in another script, beside lines in letters that are not read."""

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_LATIN = "[0-9A-Za-z\u00c0-\u024f\u0660-\u0669\u06f0-\u06f9]+"
_LEFT_TO_RIGHT = re.compile(f"{_LATIN}(?:(?:[.,:/%@_+-]+| +(?=[A-Za-z])){_LATIN})*")
"""Words and numbers that keep their order among letters that run the other way."""
_BIDI_MARKS = dict.fromkeys((*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF))
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CLOSE = {
    re.compile("[\uac00-\ud7af]"): 0.25,
    re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"): 0.5,
}
"""Letters that Tesseract parts where there is no space, with the gap, in heights of the line, that is one."""


def skeleton(text: str) -> str:
    """Return what a text looks like: the same for ``МОСКВА`` and ``MOCKBA``, whatever their case and spaces."""
    return "".join(text.translate(_TWINS).casefold().split())


def could_be(script: str, text: str) -> bool:
    """Tell whether all letters of a text are Latin ones that look like those of a script; one letter tells nothing."""
    letters = [c for c in text if c.isalpha()]
    return len(letters) > 1 and set(letters) <= LOOKS_OF.get(script, frozenset())


def script_of(letter: str) -> str:
    """Return the first word of a letter's Unicode name, such as ``LATIN``; empty for what is not a letter."""
    return unicodedata.name(letter, "").partition(" ")[0] if letter.isalpha() else ""


def settle(readings: Sequence[Reading | None]) -> list[Reading | None]:
    """Decide, by the lines of one frame, about those that look the same in two scripts.

    Such a line is in the script of which the other lines have more letters; if they don't tell, in that which its
    engine leans to. Beside lines whose letters are not read, a line that could be Cyrillic is only doubtful.
    """
    read = [reading for reading in readings if reading and not reading.twin]
    seen = [script_of(letter) for reading in read for letter in reading.text]
    foreign = any(reading.covered < LEAST_COVERED for reading in read)
    return [reading and _settled(reading, seen, foreign) for reading in readings]


def _settled(reading: Reading, seen: Sequence[str], foreign: bool) -> Reading:
    if reading.twin:
        ours, theirs = (seen.count(main_script(each.text)) for each in (reading, reading.twin))
        is_twin = theirs > ours or (theirs == ours and reading.leans_to_twin)
        return reading.twin if is_twin else replace(reading, twin=None)
    if foreign and could_be("Cyrl", reading.text):
        return replace(reading, confidence=min(reading.confidence, DOUBTFUL))
    return reading


def main_script(text: str) -> str:
    """Return the script of most letters of a text."""
    scripts = [script for script in map(script_of, text) if script]
    return max(sorted(set(scripts)), key=scripts.count, default="")


def logical_order(drawn: str) -> str:
    """Return a line in the order in which it is read, given its letters as they stand from left to right."""
    if not _RIGHT_TO_LEFT.search(drawn):
        return drawn
    return _LEFT_TO_RIGHT.sub(lambda run: run[0][::-1], drawn[::-1])


def joined(words: Sequence[tuple[str, float, float]], height: float) -> str:
    """Join the words that Tesseract found in a line; it parts letters of scripts that have few spaces or none.

    Args:
        words: Text, left and right edge in pixels.
        height: Of the line, in pixels.
    """
    text, before = "", (0.0, 0.0)
    for word, left, right in words:
        plain = word.translate(_BIDI_MARKS).rstrip("\u200c\u200d")  # those belong between letters only
        if text and plain:
            ends = text[-1], plain[0]
            gap = max(left - before[1], before[0] - right) / height
            close = any(gap < space and all(map(letters.match, ends)) for letters, space in _CLOSE.items())
            text += "" if close or all(map(_EAST_ASIAN.match, ends)) else " "
        text, before = text + plain, (left, right)
    return text.replace("\u00b5", "μ") if main_script(text) == "GREEK" else text  # it writes the micro sign for mu
