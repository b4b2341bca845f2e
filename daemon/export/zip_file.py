"""ZipStream: a zip archive that is written as it comes, in memory that does not grow with the number of files.

The layout is that of APPNOTE.TXT 6.3.10, with ZIP64 records where there are more than 65,534 files or 4 GB. Files are
stored as they are. zipfile keeps its directory in memory: 200 MB for 200,000 files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from daemon.errors import StorageError
from daemon.export.tables import blocks

_UTF8 = 0x800
_DATE, _TIME = (1980 - 1980) << 9 | 1 << 5 | 1, 0
"""The first of January 1980, so that the same result gives the same bytes."""
_MOST, _MOST_FILES = 0xFFFFFFFF, 0xFFFF


class ZipStream:
    """Makes the bytes of an archive.

    Args:
        directory: An open file that takes the directory until the end.
    """

    def __init__(self, directory: BinaryIO) -> None:
        self._directory = directory
        self._position = 0
        self._count = 0
        self._directory_bytes = 0

    def file(self, name: str, content: bytes) -> bytes:
        """Return what stands for a file in the archive."""
        return self._head(name, zlib.crc32(content), len(content)) + content

    def long_file(self, name: str, file: BinaryIO) -> Iterator[bytes]:
        """Yield what stands for a file that is open and may be large.

        Raises:
            StorageError: it has 4 GB or more.
        """
        checksum = size = 0
        for at_start in (True, False):
            file.seek(0)
            for block in blocks(file):
                if at_start:
                    checksum, size = zlib.crc32(block, checksum), size + len(block)
                else:
                    yield block
            if at_start:
                yield self._head(name, checksum, size)

    def _head(self, name: str, checksum: int, size: int) -> bytes:
        if size >= _MOST:
            raise StorageError("A file of this archive would have more than 4 GB; export a part of the video.")
        path = name.encode()
        zip64 = self._position >= _MOST
        version = 45 if zip64 else 20
        shared = struct.pack("<HHHHHIIIH", version, _UTF8, 0, _TIME, _DATE, checksum, size, size, len(path))
        extra = struct.pack("<HHQ", 1, 8, self._position) if zip64 else b""
        self._directory.write(
            struct.pack("<IH", 0x02014B50, 3 << 8 | version)
            + shared
            + struct.pack("<HHHHII", len(extra), 0, 0, 0, 0o644 << 16, min(self._position, _MOST))
            + path
            + extra
        )
        head = struct.pack("<I", 0x04034B50) + shared + struct.pack("<H", 0) + path
        self._position += len(head) + size
        self._directory_bytes += 46 + len(path) + len(extra)
        self._count += 1
        return head

    def end(self) -> Iterator[bytes]:
        """Yield what ends the archive."""
        self._directory.seek(0)
        yield from blocks(self._directory)
        count, size, start = self._count, self._directory_bytes, self._position
        if count >= _MOST_FILES or start >= _MOST or size >= _MOST:
            yield struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 3 << 8 | 45, 45, 0, 0, count, count, size, start)
            yield struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
        most = min(count, _MOST_FILES)
        yield struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, most, most, min(size, _MOST), min(start, _MOST), 0)
