"""``python -m tests.system.crash [--cycles 1000] [--seed N]``: the crash harness at any length."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.system.crash.harness import Harness


def main() -> int:
    """Run it and print the report; return 1 if anything was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000, help="kills")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of every choice and moment")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="dropframe-crash-") as folder:
        report = Harness(Path(folder), asked.seed, lambda sentence: print(sentence, flush=True)).run(asked.cycles)
    print(report)
    shortcomings = report.shortcomings(asked.cycles)
    print("\n".join(shortcomings) or "well")
    return 1 if shortcomings else 0


if __name__ == "__main__":
    sys.exit(main())
