"""axe-core in the page: what keeps somebody from using it."""

from __future__ import annotations

from typing import Any

import pytest

from tests import programs
from tests.browser import Browser
from tools import page_types

WEIGHTY = ("serious", "critical")


def load_axe() -> str:
    """Return axe-core's source; skip the test where npm cannot get it."""
    programs.skip_without("npm")
    try:
        tools = page_types.install()
    except page_types.NotInstalled as error:
        pytest.skip(f"{programs.MISSING}the npm registry ({error})")
    return (tools / "node_modules" / "axe-core" / "axe.min.js").read_text()


def findings(browser: Browser, axe: str) -> list[str]:
    """Return what is serious of what axe finds in the page as it is."""
    if not browser.ask("!!window.axe"):
        browser.ask(axe + "\n;0")
    found: list[dict[str, Any]] = browser.ask(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
    )
    return [
        f"{one['id']}: {node['html'][:200]} {node['any'][0]['message'] if node['any'] else ''}"
        for one in found
        if one["impact"] in WEIGHTY
        for node in one["nodes"]
    ]
