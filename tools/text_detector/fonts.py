"""Which fonts exist on this machine, and which split (train, val, test) each family belongs to.

The fonts come from Debian's packages; README.md names them in one apt command. A family is in one split
only, so a validation or test image never shows a typeface that training has seen.
"""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass

import numpy as np
from PIL import ImageFont

VAL_FAMILIES = {
    "Lato", "Carlito", "PT", "Courier", "Comic", "Gillius", "Tinos", "Manrope", "Noto Serif", "WenQuanYi",
    "Play",
}  # fmt: skip
TEST_FAMILIES = {
    "Open", "Cabin", "Vollkorn", "Cantarell", "JetBrains", "Oxygen", "Oxygen-Sans", "Nimbus", "Sora",
    "Caladea", "Yanone",    "IPAGothic", "IPAPGothic", "NanumSquare", "NanumSquareRound",
}  # fmt: skip
PLAIN_SANS = {
    "DejaVu", "Liberation", "Roboto", "Lato", "Open", "Inter", "Noto", "Arimo", "FreeSans", "Nimbus", "Bebas",
    "League", "Karla", "Hack", "Cantarell", "Carlito", "PT", "Oxygen", "Cabin", "Universalis", "Roadgeek",
}  # fmt: skip
"""Families that broadcasters, cameras and signs use most: drawn four times as often as the others."""

UNREADABLE = ("Symbol", "Dingbat", "Emoji", "Math", "Standard Symbols", "D050000L", "CMU Classical", "Povray")

SCRIPTS = {"latin": "en", "cyrillic": "ru", "han": "zh-cn", "kana": "ja", "hangul": "ko"}


@dataclass(frozen=True)
class Face:
    """One font file and the face inside it."""

    path: str
    index: int
    """Position inside a font collection (.ttc); 0 elsewhere."""
    family: str
    """Group the face belongs to; a group is never shared between splits."""


def group(family: str) -> str:
    """Return the first word of a family name, or two where the first is a foundry with many typefaces."""
    words = family.split()
    return " ".join(words[:2]) if words[0] == "Noto" else words[0]


def split_of(family: str) -> str:
    """Say which split a family group belongs to: "train", "val" or "test"."""
    if family in VAL_FAMILIES:
        return "val"
    return "test" if family in TEST_FAMILIES else "train"


@functools.cache
def faces(script: str) -> list[Face]:
    """List the scalable faces that cover a script, in a stable order."""
    listing = subprocess.run(
        ["fc-list", "--format", "%{file}|%{index}|%{family[0]}\n", f":lang={SCRIPTS[script]}:scalable=true"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = set()
    for line in listing.splitlines():
        path, index, family = line.split("|")
        if path.endswith((".ttf", ".otf", ".ttc")) and not any(word in family for word in UNREADABLE):
            found.add(Face(path, int(index) & 0xFFFF, group(family)))
    return sorted(found, key=lambda face: (face.family, face.path, face.index))


@functools.cache
def _families(script: str, split: str) -> tuple[list[list[Face]], np.ndarray]:
    """Faces of a split grouped by family, and the probability of drawing each family."""
    grouped: dict[str, list[Face]] = {}
    for face in faces(script):
        if split_of(face.family) == split:
            grouped.setdefault(face.family, []).append(face)
    if not grouped:
        raise RuntimeError(f"no {script} font for the {split} split: install the font packages that README.md names")
    weight = np.array([4.0 if name.split()[0] in PLAIN_SANS else 1.0 for name in grouped])
    return list(grouped.values()), weight / weight.sum()


def scripts(split: str) -> list[str]:
    """List the scripts other than Latin that a split has fonts for."""
    return [name for name in SCRIPTS if name != "latin" and any(split_of(f.family) == split for f in faces(name))]


def pick(rng: np.random.Generator, split: str, script: str = "latin") -> Face:
    """Draw a face: a family first, so that a family with many weights is not drawn more often."""
    groups, probability = _families(script, split)
    members = groups[rng.choice(len(groups), p=probability)]
    return members[rng.integers(len(members))]


@functools.lru_cache(maxsize=600)
def load(face: Face, size_px: int) -> ImageFont.FreeTypeFont:
    """Open a face at a size in pixels."""
    return ImageFont.truetype(face.path, size_px, index=face.index, layout_engine=ImageFont.Layout.BASIC)
