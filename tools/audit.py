"""Look for known vulnerabilities in what constraints.txt pins: ``python -m tools.audit`` (``make audit``).

pip-audit asks a database on the network. Where that cannot be reached, or knows none of the packages, this says so
and ends with exit code 0: nothing was found because nothing was looked at. Exit code 1: there are vulnerabilities.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 600
SKIPPED = "SKIPPED: the database of vulnerabilities cannot be used from here"


def report(output: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print for what pip-audit wrote."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, [f"{SKIPPED}."]
    looked_at = [package for package in packages if "skip_reason" not in package]
    if not looked_at:
        return 0, [f"{SKIPPED}: it knows none of the {len(packages)} packages."]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}"
        + (f", mended in {', '.join(found['fix_versions'])}" if found["fix_versions"] else ", not mended yet")
        for package in looked_at
        for found in package["vulns"]
    ]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    summary = f"{len(looked_at)} packages were looked at, {len(lines)} vulnerabilities found"
    return int(bool(lines)), [*lines, summary + (f"; not known: {', '.join(unknown)}." if unknown else ".")]


def main(command: Sequence[str] = (sys.executable, "-m", "pip_audit")) -> int:
    """Run pip-audit and print what it found; return the exit code."""
    flags = ["-r", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"{SKIPPED}: no answer within {SECONDS} s.")
        return 0
    code, lines = report(done.stdout)
    if lines[0] == f"{SKIPPED}." and done.stderr.strip():
        lines[0] += f" pip-audit says: {done.stderr.strip().splitlines()[-1]}"
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
