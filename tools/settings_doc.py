"""Write docs/settings.md from the settings themselves: ``python -m tools.settings_doc`` (``make docs``)."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

from daemon.settings import CONFIG_FILE, ENV_PREFIX, Settings

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = f"""# Settings

Each setting can be given in three places; the later one wins:

1. the TOML file `{CONFIG_FILE}` in the home (or the file that `DROPFRAME_CONFIG` names): `settle_seconds = 5`
2. the environment: `{ENV_PREFIX}SETTLE_SECONDS=5` (lists as JSON: `{ENV_PREFIX}IGNORE='["*.tmp2"]'`)
3. flags of the command line, where a command has one: `dropframe run --device cpu`

An unknown name is refused at start, with the nearest known one. `dropframe config show` prints what is in force.
Relative paths hang off the home. This page is made by `make docs`; a test compares it with the code.

| setting | default | unit | what it does |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = str(default) if isinstance(default, PurePath) else default
        extra = field.json_schema_extra
        unit = extra.get("unit", "") if isinstance(extra, dict) else ""
        rows.append(f"| `{name}` | `{json.dumps(shown)}` | {unit} | {field.description} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    TARGET.write_text(page())
