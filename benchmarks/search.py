"""What searching costs: 500,000 texts of 500 videos, made up here.

``python -m benchmarks.search [--spans 500000]``: how long the index takes, its size, and the longest time until the
first 50 hits of common, rare and missing words, each read by a connection of its own as the sidecar does it. On a busy
machine the processor time is what counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from daemon.jobs import new_job_id
from daemon.search.index import SearchIndex, Span
from daemon.search.reader import FILE, FoundKind, search

SPANS_A_JOB = 1000
HITS = 50
ROUNDS = 20
LETTERS = "eeeetttaaoooiinnssshhrrddlucmfwypvbgkjqxz"


def words(chance: random.Random) -> list[str]:
    """Return made-up words; the first ones are used most."""
    return ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(20_000)]


def spans(chance: random.Random, known: list[str]) -> Iterator[Span]:
    """Yield the objects and texts of a video."""
    for name in ("person", "car", "bus"):
        yield FoundKind.OBJECT, name, 0.0, 900.0, 10, [0.0, 0.0, 80.0, 120.0], 0.9, 12
    for number in range(SPANS_A_JOB):
        text = " ".join(known[int(len(known) * chance.random() ** 3)] for _ in range(chance.randint(2, 5)))
        text = f"{text} {chance.randint(0, 9999)}".upper()
        yield FoundKind.TEXT, text, number * 0.9, number * 0.9 + 2, number * 22, [9.0, 9.0, 400.0, 40.0], 0.97, 50


def queries(known: list[str]) -> dict[str, str]:
    """Return what is searched for, by what it is."""
    return {
        "a common word": known[0],
        "a rare word": known[-1],
        "two common words": f"{known[1]} {known[2]}",
        "a common and a rare word": f"{known[1]} {known[-2]}",
        "part of a word": "hea",
        "a number": "2026",
        "a phrase": f'"{known[0]} {known[1]}"',
        "two letters": "th",
        "one letter": "q",
        "a class of objects": "person",
        "nothing that is there": "zzqzzqzz",
        "two letters that are nowhere": "\u4e2d\u6587",
        "200 letters": "the quick " * 20,
    }


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=500_000)
    count = parser.parse_args().spans
    chance = random.Random(7)
    known = words(chance)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        index = SearchIndex(home)
        begun, worked = time.perf_counter(), time.process_time()
        for sequence in range(1, count // SPANS_A_JOB + 1):
            index.put(sequence, new_job_id(), "", spans(chance, known))
        index.set_complete(True)
        seconds, processor = time.perf_counter() - begun, time.process_time() - worked
        size = (home / FILE).stat().st_size / 1e6
        print(f"{count} texts: made in {seconds:.1f} s, {processor:.1f} s of processor time, {size:.0f} MB")
        for name, query in queries(known).items():
            times, works = [], []
            for _ in range(ROUNDS):
                begun, worked = time.perf_counter(), time.process_time()
                found = search(home, query, HITS)
                times.append((time.perf_counter() - begun) * 1000)
                works.append((time.process_time() - worked) * 1000)
            print(
                f"{name:30} {len(found.hits):3} hits: {statistics.median(times):6.2f} ms, {max(times):6.2f} at most; "
                f"of processor time {statistics.median(works):6.2f} ms, {max(works):6.2f} at most",
                flush=True,
            )
        index.close()


if __name__ == "__main__":
    main()
