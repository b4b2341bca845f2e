"""Damaged copies of real clips, by a seed: the same seed and number give the same bytes.

``python -m tests.system.hostile.mutations SEED COUNT [all]`` runs them, with ``all`` those of the other containers,
through the walk over their parts and the decoder in child processes, and prints those that end a child, take long or
take much memory.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

CONTAINERS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"moof", b"traf", b"mvex", b"udta", b"meta"}
)
ODD_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
CHILD_SECONDS = 60.0
MUCH_MEMORY = 1_500_000_000


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Yield the position, size and type of each box, those inside others too."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        yield start, size, kind
        if kind in CONTAINERS:
            yield from boxes(data, start + 8, start + size)
        start += size


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 4, 32, 256])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_index_bits(data: bytearray, rng: random.Random) -> None:
    """Only in the index, where numbers are believed."""
    at, size, _ = next(box for box in boxes(bytes(data)) if box[2] == b"moov")
    for _ in range(rng.choice([1, 3, 10])):
        data[at + 8 + rng.randrange(size - 8)] ^= 1 << rng.randrange(8)


def odd_number(data: bytearray, rng: random.Random) -> None:
    """Put extreme numbers into fields of the boxes that hold sizes, counts and times."""
    tables = [box for box in boxes(bytes(data)) if box[2] not in CONTAINERS and box[2] != b"mdat" and box[1] >= 16]
    for _ in range(rng.choice([1, 2, 5])):
        at, size, _ = rng.choice(tables)
        field = at + 8 + 4 * rng.randrange((size - 8) // 4)
        struct.pack_into(">I", data, field, rng.choice(ODD_NUMBERS))


def odd_box_size(data: bytearray, rng: random.Random) -> None:
    """Let boxes overlap, reach too far or have no room for themselves."""
    found = list(boxes(bytes(data)))
    for _ in range(rng.choice([1, 2])):
        at, size, _ = rng.choice(found)
        struct.pack_into(
            ">I", data, at, rng.choice([*ODD_NUMBERS, size - 1, size + 1, size * 2, size // 2]) & 0xFFFFFFFF
        )


def other_box_type(data: bytearray, rng: random.Random) -> None:
    kinds = [
        b"moov",
        b"trak",
        b"mdat",
        b"stsd",
        b"stts",
        b"ctts",
        b"stsc",
        b"free",
        b"cmov",
        b"dref",
        b"uuid",
        b"\0\0\0\0",
    ]
    at, _, _ = rng.choice(list(boxes(bytes(data))))
    data[at + 4 : at + 8] = rng.choice(kinds)


def swap_boxes(data: bytearray, rng: random.Random) -> None:
    one, other = rng.sample(list(boxes(bytes(data))), 2)
    a, b = bytes(data[one[0] : one[0] + one[1]]), bytes(data[other[0] : other[0] + other[1]])
    data[one[0] : one[0] + len(a)] = b[: len(a)].ljust(len(a), b"\0")


def overwrite_pictures(data: bytearray, rng: random.Random) -> None:
    at, size, _ = next(box for box in boxes(bytes(data)) if box[2] == b"mdat")
    length = rng.randrange(1, max(2, size // 2))
    begin = at + 8 + rng.randrange(max(1, size - 8 - length))
    data[begin : begin + length] = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.choice([1, 8, 100, 1000])]


def double(data: bytearray, rng: random.Random) -> None:
    at, size, _ = rng.choice(list(boxes(bytes(data))))
    data[at:at] = data[at : at + size] * rng.choice([1, 2, 20])


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    flip_index_bits,
    flip_index_bits,
    odd_number,
    odd_number,
    odd_number,
    odd_box_size,
    other_box_type,
    swap_boxes,
    overwrite_pictures,
    cut,
    cut_out,
    double,
)


def flip_head_bits(data: bytearray, rng: random.Random) -> None:
    """Only where containers say what is in them."""
    for _ in range(rng.choice([1, 3, 10, 50])):
        data[rng.randrange(12, min(len(data), 2000))] ^= 1 << rng.randrange(8)


def odd_field(data: bytearray, rng: random.Random) -> None:
    """Put extreme numbers anywhere, in either order of bytes."""
    end = rng.choice([400, 2000, len(data)])
    for _ in range(rng.choice([1, 2, 5, 20])):
        at, width = rng.randrange(4, min(end, len(data) - 8)), rng.choice([1, 2, 3, 4, 8])
        number = rng.choice(ODD_NUMBERS) * rng.choice([1, 1 << 32, (1 << 32) + 1]) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))  # type: ignore[arg-type]


def overwrite(data: bytearray, rng: random.Random) -> None:
    length = rng.choice([4, 16, 188, 1000])
    begin = rng.randrange(12, max(13, len(data) - length))
    data[begin : begin + length] = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])


def repeat(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    data[begin:begin] = data[begin : begin + rng.choice([1, 12, 188, 2000])] * rng.choice([1, 2, 50])


def move(data: bytearray, rng: random.Random) -> None:
    begin, length = rng.randrange(len(data)), rng.choice([8, 188, 1000])
    piece = data[begin : begin + length]
    del data[begin : begin + length]
    place = rng.randrange(len(data) + 1)
    data[place:place] = piece


ANY_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    flip_head_bits,
    flip_head_bits,
    odd_field,
    odd_field,
    odd_field,
    overwrite,
    repeat,
    move,
    cut,
    cut_out,
)
"""For clips that have no boxes."""


def mutations(clips: Sequence[bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged clips for ever, each with a name that says how it was made."""
    for number in itertools.count():
        rng = random.Random(f"{seed}/{number}")
        way = rng.choice(WAYS)
        data = bytearray(rng.choice(clips))
        if data[4:8] != b"ftyp":
            way = rng.choice(ANY_WAYS)
        way(data, rng)
        yield f"{seed}-{number:05}-{way.__name__}", bytes(data)


DECODE = """
import sys
from pathlib import Path
from daemon.errors import BadVideo
from daemon.containers import check
from daemon.pipeline.video import Video
from daemon.pipeline.video_limits import Limits
for line in sys.stdin:
    path = Path(line.strip())
    with path.open("rb", buffering=0) as file:
        said = check(file, path.stat().st_size, "all").completeness
    try:
        video = Video(path, Limits(containers="all"))
        frames = sum(1 for _ in video.frames(max_frames=500))
        outcome = "decoded" if frames else "nothing"
    except BadVideo:
        outcome = "refused"
    print(said, outcome, flush=True)
"""


def sources(folder: Path) -> list[bytes]:
    """Make the clips that are damaged: of each codec and form, small and short."""
    from tests.clips import make_clip

    forms: tuple[dict[str, object], ...] = (
        {"faststart": True},
        {"b_frames": 2},
        {"fragmented": True},
        {"codec": "libx265"},
        {"codec": "libvpx-vp9"},
        {"codec": "mpeg4"},
        {"audio": True, "faststart": True},
        {"rotation": 90},
        {"pts_seconds": (0.0, 0.1, 0.5, 0.6, 2.0, 2.1)},
    )
    return [
        make_clip(folder / f"{n}.mp4", frames=6, size=(96, 64), gop=3, **form).read_bytes()  # type: ignore[arg-type]
        for n, form in enumerate(forms)
    ]


def main(seed: int, count: int, make: Callable[[Path], list[bytes]] = sources) -> int:
    """Decode so many mutations of what ``make`` makes; return how many made trouble."""
    with tempfile.TemporaryDirectory() as name:
        clips = make(Path(name))
    print(f"{count} files of seed {seed}: ", end="")
    return run_through(itertools.islice(mutations(clips, seed), count))


def run_through(files: Iterable[tuple[str, bytes]]) -> int:
    """Look into files and decode them in a child process; return how many made trouble."""
    trouble, seen = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "video.mp4"
        child: subprocess.Popen[str] | None = None
        for title, data in files:
            path.write_bytes(data)
            if child is None:
                child = subprocess.Popen(
                    [sys.executable, "-c", DECODE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (600, 600)),
                )
            begun = time.monotonic()
            outcome = decode(child, path)
            took = time.monotonic() - begun
            peak = _peak_bytes(child.pid)
            if not outcome or took > 10 or peak > MUCH_MEMORY:
                trouble += 1
                kept = Path(tempfile.gettempdir()) / f"hostile-{title}.mp4"
                kept.write_bytes(data)
                print(f"{kept}: {outcome or 'it ended'} after {took:.1f} s, {peak / 1e6:.0f} MB", flush=True)
                end(child)
                child = None
            seen[outcome] += 1
        if child is not None:
            end(child)
    print(f"{dict(seen)}; {trouble} made trouble")
    return trouble


def decode(child: subprocess.Popen[str], path: Path) -> str:
    """Have a child decode a file; return what it says, nothing if it has ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
    return child.stdout.readline().strip()


def end(child: subprocess.Popen[str]) -> None:
    """End a child and close its pipes."""
    child.kill()
    with contextlib.suppress(BrokenPipeError):
        child.communicate()


def _peak_bytes(pid: int) -> int:
    try:
        line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    from tests.system.hostile import containers

    made = containers.sources if sys.argv[3:] == ["all"] else sources
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), made)))
