"""Parquet: a table in columns, as https://parquet.apache.org/docs/file-format/ describes it.

Only what a table without gaps needs: required columns, one page of plain values for each in a row group, packed by
gzip, and at the end what the file holds, in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

MAGIC = b"PAR1"
GROUP_ROWS = 50_000
"""Rows in a row group, which is as much as is kept in memory."""
INT64, DOUBLE, BYTE_ARRAY = 2, 5, 6
"""Physical types."""
PLAIN, RLE = 0, 3
"""Encodings: of values, and of levels, of which required columns have none."""
UTF8 = 0
"""Converted type: a byte array holds text."""
GZIP = 2
"""Codec."""
GZIP_WINDOW = 31
"""zlib's number for the largest window with gzip's header."""
LEVEL = 3
PHYSICAL: Mapping[type, int] = {int: INT64, float: DOUBLE, str: BYTE_ARRAY}

Thrift = tuple[int, bytes]
"""The number of a type of the compact protocol, and a value's bytes."""


def parquet(columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Yield a Parquet file in pieces.

    Args:
        columns: Names and types, of int, float and str.
        rows: Values in the order of the columns; none is None.
    """
    yield MAGIC
    offset, count = len(MAGIC), 0
    groups: list[Thrift] = []
    rows = iter(rows)
    while batch := list(islice(rows, GROUP_ROWS)):
        chunks: list[Thrift] = []
        begun = offset
        for (name, kind), values in zip(columns.items(), zip(*batch, strict=True), strict=True):
            head, page, plain_bytes = _page(kind, values)
            yield head
            yield page
            chunks.append(_chunk(name, kind, len(batch), offset, len(head) + plain_bytes, len(head) + len(page)))
            offset += len(head) + len(page)
        count += len(batch)
        groups.append(_struct({1: _list(chunks), 2: _i64(offset - begun), 3: _i64(len(batch))}))
    footer = _footer(columns, count, groups)
    yield footer + struct.pack("<I", len(footer)) + MAGIC


def _page(kind: type, values: Sequence[Any]) -> tuple[bytes, bytes, int]:
    """Return a data page's header, its packed content, and how many bytes that is unpacked."""
    content = _plain(kind, values)
    packer = zlib.compressobj(LEVEL, wbits=GZIP_WINDOW)
    packed = packer.compress(content) + packer.flush()
    about = _struct({1: _i32(len(values)), 2: _i32(PLAIN), 3: _i32(RLE), 4: _i32(RLE)})
    head = _struct({1: _i32(0), 2: _i32(len(content)), 3: _i32(len(packed)), 5: about})  # 0: a data page
    return head[1], packed, len(content)


def _plain(kind: type, values: Sequence[Any]) -> bytes:
    if kind is str:
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{'q' if kind is int else 'd'}", *values)


def _chunk(name: str, kind: type, count: int, offset: int, plain_bytes: int, packed_bytes: int) -> Thrift:
    """Describe a column of a row group, which begins at ``offset`` and is so many bytes with its page's header."""
    about = {
        1: _i32(PHYSICAL[kind]),
        2: _list([_i32(PLAIN)]),
        3: _list([_text(name)]),
        4: _i32(GZIP),
        5: _i64(count),
        6: _i64(plain_bytes),
        7: _i64(packed_bytes),
        9: _i64(offset),
    }
    return _struct({2: _i64(offset), 3: _struct(about)})


def _footer(columns: Mapping[str, type], count: int, groups: Sequence[Thrift]) -> bytes:
    schema = [_struct({4: _text("rows"), 5: _i32(len(columns))})]
    for name, kind in columns.items():
        field = {1: _i32(PHYSICAL[kind]), 3: _i32(0), 4: _text(name)}  # 0: required
        schema.append(_struct(field | ({6: _i32(UTF8)} if kind is str else {})))
    about = {1: _i32(1), 2: _list(schema), 3: _i64(count), 4: _list(groups), 6: _text("Dropframe")}
    return _struct(about)[1]


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _i32(number: int) -> Thrift:
    return 5, _varint(number << 1)  # zigzag; none here is negative


def _i64(number: int) -> Thrift:
    return 6, _varint(number << 1)


def _text(text: str) -> Thrift:
    return 8, _varint(len(text.encode())) + text.encode()


def _list(items: Sequence[Thrift]) -> Thrift:
    kind = items[0][0] if items else 12  # the only list that may be empty is the one of row groups
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
    return 9, head + b"".join(content for _, content in items)


def _struct(fields: Mapping[int, Thrift]) -> Thrift:
    """Put fields together; their numbers rise by less than 16."""
    made, before = bytearray(), 0
    for number, (kind, content) in fields.items():
        made += bytes([number - before << 4 | kind]) + content
        before = number
    return 12, bytes(made) + b"\0"
