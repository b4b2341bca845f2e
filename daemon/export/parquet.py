"""Parquet: a table in columns, which DuckDB makes of CSV; the only file that knows DuckDB."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import duckdb

from daemon.errors import StorageError

INTEGER, NUMBER, TEXT = "BIGINT", "DOUBLE", "VARCHAR"
"""Types of columns."""
LONGEST_LINE_BYTES = 1_000_000
GROUP_ROWS = 20_480
"""Rows in a row group."""
MEMORY = "50MB"
"""What DuckDB may hold; the rest it puts into the folder."""
BLOCK_BYTES = 1 << 16


def parquet(columns: Mapping[str, str], table: Iterable[bytes], scratch: Path) -> Iterator[bytes]:
    """Yield a Parquet file in pieces.

    Args:
        columns: Names and types.
        table: The rows as CSV (RFC 4180) with a line of names, in pieces.
        scratch: A folder for what is written meanwhile.

    Raises:
        OSError, StorageError: the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".parquet-") as folder:
        source, target = Path(folder) / "table.csv", Path(folder) / "table.parquet"
        with source.open("wb") as file:
            file.writelines(table)
        try:
            _write(columns, source, target)
        except duckdb.Error as error:
            raise StorageError(f"The table cannot be written: {str(error).splitlines()[0]}.") from error
        source.unlink()
        with target.open("rb") as made:
            while block := made.read(BLOCK_BYTES):
                yield block


def _write(columns: Mapping[str, str], source: Path, target: Path) -> None:
    texts = [name for name, kind in columns.items() if kind == TEXT]
    rows = (
        f"read_csv({_quoted(source)}, columns = {dict(columns)}, force_not_null = {texts}, auto_detect = false,"
        " header = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n', parallel = false,"
        f" max_line_size = {LONGEST_LINE_BYTES}, buffer_size = {2 * LONGEST_LINE_BYTES})"
    )
    with duckdb.connect(
        config={"threads": 1, "memory_limit": MEMORY, "temp_directory": str(target.parent)}
    ) as connection:
        connection.execute(
            f"COPY (FROM {rows}) TO {_quoted(target)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})"
        )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
