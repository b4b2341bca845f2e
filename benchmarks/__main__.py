"""``python -m benchmarks [NAME …]``: run benchmarks one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

NAMES = (
    "speed",
    "limits",
    "peers",
    "still",
    "memory",
    "daemon",
    "store",
    "http",
    "checkpoints",
    "derive",
    "exports",
    "search",
)


def main() -> int:
    """Run what is named, or all; return 1 if one failed."""
    failed = 0
    for name in sys.argv[1:] or NAMES:
        print(f"\n== {name} (python -m benchmarks.{name})", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
