"""A few blocks of a file, to tell whether its content moves where neither size nor mtime says so.

A server need not show other clients a new mtime before the writer closes (Samba does not), and a writer may make
room for the whole file first. Then only the content itself tells that somebody writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

LOOK_BLOCKS, LOOK_BYTES = 64, 4096
"""What a look reads: 256 KiB, whatever the size, in reads that a share answers in some milliseconds."""
COMPARE_BLOCKS, COMPARE_BYTES = 256, 256 << 10
"""What is read again of a source that was copied: all of it up to 64 MiB, and 64 MiB of a larger one."""

HASH_BYTES = 4 << 20


def look_at_blocks(descriptor: int, size: int) -> bytes:
    """Return a digest of the first block of a file, its last, and some in between.

    Args:
        descriptor: Of the open file.
        size: Its size in bytes.

    Raises:
        OSError: it cannot be read.
    """
    _forget_cache(descriptor)
    digest = hashlib.sha256()
    for start, count in _spans(size, LOOK_BLOCKS, LOOK_BYTES):
        digest.update(os.pread(descriptor, count, start))
    return digest.digest()


def same_blocks(source: int, copy: int, size: int, stopping: Callable[[], bool]) -> bool:
    """Tell whether a source, read again, is what was copied from it.

    Somebody who overwrites it from its beginning to its end is seen if a 256th of it was written since the copy
    began: at the speed of the copy he is, and so he is at a hundredth of it. To read a large source whole would
    double the time on the network.

    Args:
        source: Descriptor of the source.
        copy: Descriptor of the copy.
        size: Of both, in bytes.
        stopping: Asked before each block; True ends it, and the answer is False.

    Raises:
        OSError: one of them cannot be read.
    """
    _forget_cache(source)
    for start, count in _spans(size, COMPARE_BLOCKS, COMPARE_BYTES):
        if stopping() or os.pread(source, count, start) != os.pread(copy, count, start):
            return False
    return True


def sha256_of(descriptor: int, stopping: Callable[[], bool]) -> str | None:
    """Return the SHA-256 of a file in hexadecimal digits; None if ``stopping`` said so before its end.

    Raises:
        OSError: it cannot be read.
    """
    digest, start = hashlib.sha256(), 0
    while block := os.pread(descriptor, HASH_BYTES, start):
        digest.update(block)
        start += len(block)
        if stopping():
            return None
    return digest.hexdigest()


def _forget_cache(descriptor: int) -> None:
    """Have what this machine keeps of a file read anew from where it is."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _spans(size: int, blocks: int, block_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of so many blocks, evenly spread; the whole of a file that is not larger than they are."""
    if size <= blocks * block_bytes:
        yield from ((start, min(block_bytes, size - start)) for start in range(0, size, block_bytes))
    else:
        yield from ((number * (size - block_bytes) // (blocks - 1), block_bytes) for number in range(blocks))
