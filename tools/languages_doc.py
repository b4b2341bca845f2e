"""Write the table at the end of docs/text-languages.md: ``python -m tools.languages_doc`` (``make docs``)."""

from __future__ import annotations

from pathlib import Path

from daemon.languages import LANGUAGES, Language
from daemon.pipeline.inference import character_list
from daemon.pipeline.regions import rapidocr_models

TARGET = Path(__file__).parents[1] / "docs" / "text-languages.md"

HEAD = "| code | language | RapidOCR's recogniser | Debian package for Tesseract |\n| --- | --- | --- | --- |\n"


def page() -> str:
    """Return the whole page: what people wrote, then the table."""
    written, _, _ = TARGET.read_text().partition(HEAD)
    characters = frozenset(character_list(rapidocr_models()[1]))
    return written + HEAD + "".join(_row(language, characters) for language in LANGUAGES.values())


def _row(language: Language, characters: frozenset[str]) -> str:
    recogniser = "its own" if language.is_covered(characters) else f"`{language.model}`" if language.model else ""
    return f"| `{language.code}` | {language.name} | {recogniser} | `{language.package}` |\n"


if __name__ == "__main__":
    TARGET.write_text(page())
