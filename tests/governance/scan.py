"""Find forbidden words: ``python -m tests.governance.scan [FOLDER]`` prints file:line:term, exits 1 on a hit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = Path(__file__).with_name("forbidden_vocabulary.yaml")
TEXT = {".py", ".pyi", ".html", ".css", ".js", ".json", ".toml", ".txt", ".md", ".yaml", ".yml", ".typed", ".svg"}


def rules() -> dict[str, Any]:
    """Return the YAML file."""
    loaded: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return loaded


def pattern(term: str) -> re.Pattern[str]:
    """Return what finds a term in any case, with or without "_", "-" or a space between its parts."""
    return re.compile(r"[-_ ]?".join(re.escape(part) for part in term.split("_")), re.IGNORECASE)


def scan(root: Path = ROOT) -> Iterator[tuple[Path, int, str]]:
    """Yield each hit below ``root`` as file, line (from 1) and term."""
    loaded = rules()
    patterns = {term: pattern(term) for term in loaded["forbidden"]}
    excepted = {root / path for path in loaded["excepted"]}
    for folder in loaded["governed"]:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in TEXT or path in excepted or not path.is_file():
                continue
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                for term, found in patterns.items():
                    if found.search(line):
                        yield path.relative_to(root), number, term


def main() -> int:
    """Print every hit; return 1 if there was one."""
    hits = list(scan(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    for path, number, term in hits:
        print(f"{path}:{number}:{term}")
    return int(bool(hits))


if __name__ == "__main__":
    sys.exit(main())
